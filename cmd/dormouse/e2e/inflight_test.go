//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/httptests"
)

// holding is an upstream of one protocol version that begins its answer to each call and never ends it.
func holding(t *testing.T, version string) *httptest.Server {
	t.Helper()
	srv := httptests.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		result := `{}`
		switch {
		case m.ID == nil:
			w.WriteHeader(http.StatusAccepted)
			return
		case m.Method == "initialize":
			w.Header().Set("Mcp-Session-Id", "held")
			result = `{"protocolVersion":"` + version + `","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"h","version":"1"}}`
		case m.Method == "tools/list":
			result = `{"tools":[{"name":"hold","inputSchema":{"type":"object"}}]}`
		case m.Method == "tools/call":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"begun\"}}\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}))
	return srv
}

// patientDoor stands between a client and its gateway. It tells when a client has the beginning of an answer, and while the
// gateway is not there it lets those wait who come: the client's few attempts to reconnect are not what is tested.
func patientDoor(t *testing.T, target string) (door string, begun <-chan struct{}) {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	saw := make(chan struct{}, 10)
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, Transport: persistent{}, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = to.Scheme, to.Host },
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Method == http.MethodPost && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
				resp.Body = &telling{ReadCloser: resp.Body, saw: saw}
			}
			return nil
		},
	}
	srv := httptests.Serve(t, whole(proxy.ServeHTTP))
	return srv.URL + to.Path, saw
}

type persistent struct{}

func (persistent) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		tr := &http.Transport{DisableKeepAlives: true}
		resp, err := tr.RoundTrip(r)
		if err == nil || r.Method != http.MethodGet || !pause(r.Context(), 50*time.Millisecond) {
			return resp, err
		}
	}
}

type telling struct {
	io.ReadCloser

	saw  chan<- struct{}
	told bool
}

func (b *telling) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if !b.told && strings.Contains(string(p[:n]), "begun") {
		b.told = true
		b.saw <- struct{}{}
	}
	return n, err
}

// TestInFlightCallOfATypeScriptClient: the gateway is killed in the middle of a streamed answer. A client of 2025-11-25 has an
// event ID to come back with, and is told; older ones have none, and wait for their own timeout. All of them go on afterwards.
func TestInFlightCallOfATypeScriptClient(t *testing.T) {
	for version, settled := range map[string]bool{"2025-03-26": false, "2025-06-18": false, "2025-11-25": true} {
		t.Run(version, func(t *testing.T) {
			up := holding(t, version)
			g := startGateway(t, "--upstream", up.URL)
			door, begun := patientDoor(t, g.url())
			c := startClients(t).connect("in-flight", door, nil)
			if c.version != version {
				t.Fatalf("version %q", c.version)
			}
			limit := 20 * time.Second // of the older clients; the other must not need it
			if settled {
				limit = callLimit
			}
			failed := make(chan error, 1)
			go func() {
				_, err := c.call(t.Context(), limit, "hold", nil)
				failed <- err
			}()
			select {
			case <-begun:
			case err := <-failed:
				t.Fatalf("before the answer began: %v", err)
			}
			g.kill()
			g.start()
			err := <-failed
			var said *clientError
			if !errors.As(err, &said) {
				t.Fatalf("%v", err)
			}
			t.Log(said)
			if settled != strings.Contains(said.Message, "may or may not have been executed") || settled == said.timedOut() {
				t.Errorf("%v", said)
			}
			c.mustHave("hold")
			g.checkLog()
		})
	}
}
