//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The npm packages of TypeScript SDKs, by the newest protocol version that each speaks.
const (
	sdkMar  = "sdk-2025-03-26"
	sdkJune = "sdk-2025-06-18"
	sdkNov  = "@modelcontextprotocol/sdk"
	sdkNext = "@modelcontextprotocol/client" // 2026-07-28; falls back to 2025-11-25
)

// startNext starts a server of the TypeScript SDK's second generation, which speaks 2026-07-28.
func startNext(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{t: t, port: freePort(t), log: filepath.Join(t.TempDir(), "next.log")}
	u.argv = []string{shared.node, filepath.Join(shared.npm, "next.mjs"), fmt.Sprint(u.port)}
	u.probe = func(ctx context.Context) error { return answers(ctx, u.url()) }
	u.start()
	return u
}

// kindOfServer is a server to put a gateway in front of, and a call that it answers.
type kindOfServer struct {
	name   string
	start  func(t *testing.T) *upstream // nil: the built-in one
	tool   string
	args   any
	answer string // part of it
}

func goServer(name string, args ...string) kindOfServer {
	return kindOfServer{name, func(t *testing.T) *upstream {
		t.Helper()
		return startGoEverything(t, args...)
	}, "test_simple_text", nil, "simple text response"}
}

func serversWithSessions() []kindOfServer {
	return []kindOfServer{
		{"server-everything", startEverything, "echo", map[string]string{"message": "hello"}, "Echo: hello"},
		goServer("go", "-stateless=false"),
		{"built-in", nil, "n8n_health_check", nil, "x-n8n-url"},
	}
}

// behind starts a gateway in front of such a server.
func (k kindOfServer) behind(t *testing.T) (*gateway, *upstream) {
	t.Helper()
	if k.start == nil {
		return startGateway(t), nil
	}
	up := k.start(t)
	return startGateway(t, "--upstream", up.url()), up
}

// throughCrashes calls try, and again after a crash of the gateway, of the server, and of both.
func throughCrashes(g *gateway, up *upstream, try func(after string)) {
	try("at first")
	g.kill()
	g.start()
	try("after a crash of the gateway")
	if up == nil {
		return
	}
	up.kill()
	up.start()
	try("after a crash of the server")
	g.kill()
	up.kill()
	up.start()
	g.start()
	try("after a crash of both")
}

// TestClientsOfEveryVersion: a real client of each protocol version calls through the gateway, and goes on with its
// session after crashes.
func TestClientsOfEveryVersion(t *testing.T) {
	for _, k := range serversWithSessions() {
		t.Run(k.name, func(t *testing.T) {
			g, up := k.behind(t)
			ts := startClients(t)
			all := map[string]*client{}
			for _, sdk := range []string{sdkMar, sdkJune, sdkNov, sdkNext} {
				all[sdk] = ts.connectBy(sdk, sdk, g.url(), nil)
			}
			if got, want := g.protocols(), []string{"2025-03-26", "2025-06-18", "2025-11-25", "2025-11-25"}; !slices.Equal(got, want) {
				t.Errorf("sessions of %v, want %v", got, want)
			}
			throughCrashes(g, up, func(after string) {
				for sdk, c := range all {
					c.mustHave(k.tool)
					got, err := c.call(t.Context(), callLimit, k.tool, k.args)
					if !strings.Contains(got, k.answer) {
						t.Errorf("%s, %s: %q %v", sdk, after, got, err)
					}
				}
			})
			g.checkLog()
		})
	}
}

// protocols returns the versions of the gateway's sessions, sorted.
func (g *gateway) protocols() (versions []string) {
	g.t.Helper()
	rows, err := jsonRows(g.cli("sessions", "ls", "--json").must(g.t).stdout)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, row := range rows {
		versions = append(versions, fmt.Sprint(row["protocol"]))
	}
	slices.Sort(versions)
	return versions
}

// TestBatches: JSON-RPC batches are a thing of 2025-03-26 alone.
func TestBatches(t *testing.T) {
	const batch = `[{"jsonrpc":"2.0","id":21,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/roots/list_changed"},` +
		`{"jsonrpc":"2.0","id":"22","method":"tools/list"}]`
	for _, k := range serversWithSessions() {
		t.Run(k.name, func(t *testing.T) {
			g, up := k.behind(t)
			old, young := rawSessionOf(t, g.url(), "2025-03-26"), rawSessionOf(t, g.url(), "2025-06-18")
			throughCrashes(g, up, func(after string) {
				r := post(t, g.url(), withSession(nil, old), batch)
				for _, part := range []string{`"id":21`, `"id":"22"`, k.tool} {
					if r.status != http.StatusOK || !strings.Contains(r.body, part) {
						t.Errorf("%s: no %s in %v", after, part, r)
					}
				}
				if r := post(t, g.url(), withSession(nil, young), batch); r.status != http.StatusBadRequest || !strings.Contains(r.body, "-32600") {
					t.Errorf("%s: a batch of 2025-06-18 got %v", after, r)
				}
			})
			g.checkLog()
		})
	}
}

func rawSessionOf(t *testing.T, url, version string) string {
	t.Helper()
	r := post(t, url, nil, strings.Replace(initialize, "2025-06-18", version, 1))
	id := r.header.Get("Mcp-Session-Id")
	if r.status != http.StatusOK || !strings.Contains(r.body, version) {
		t.Fatalf("initialize got %v", r)
	}
	if r := post(t, url, withSession(nil, id), `{"jsonrpc":"2.0","method":"notifications/initialized"}`); r.status != http.StatusAccepted {
		t.Fatalf("initialized got %v", r)
	}
	return id
}

// TestStatelessProtocol: clients of 2026-07-28 and servers that speak it meet through the gateway without a session.
func TestStatelessProtocol(t *testing.T) {
	for _, k := range []kindOfServer{
		goServer("go", "-stateless=true"),
		{"typescript", startNext, "echo", map[string]string{"message": "hello"}, "Echo: hello"},
	} {
		t.Run(k.name, func(t *testing.T) {
			g, up := k.behind(t)
			ts := startClients(t).connectBy(sdkNext, "next", g.url(), nil)
			gs := connectGo(t, g.url())
			if v := gs.InitializeResult().ProtocolVersion; ts.version != "2026-07-28" || v != "2026-07-28" {
				t.Errorf("TypeScript client: %s, Go client: %s", ts.version, v)
			}
			throughCrashes(g, up, func(after string) {
				ts.mustHave(k.tool)
				ts.mustCall(callLimit, k.tool, k.args, k.answer)
				r, err := gs.CallTool(t.Context(), &mcp.CallToolParams{Name: k.tool, Arguments: k.args})
				if err != nil || len(r.Content) != 1 || !strings.Contains(r.Content[0].(*mcp.TextContent).Text, k.answer) {
					t.Errorf("Go client, %s: %v %v", after, r, err)
				}
			})
			if n := g.sessions(); n != 0 || ts.session != "" || gs.ID() != "" {
				t.Errorf("%d sessions, %q, %q", n, ts.session, gs.ID())
			}
			g.checkLog()
		})
	}
}

func connectGo(t *testing.T, url string) *mcp.ClientSession {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true} // or a call may be sent on a connection that a crash has just cut
	c := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: tr, Timeout: callLimit}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestStatelessProtocolNotSpoken: a server that knows sessions only gets no request of the other protocol, and its clients
// the error from which they know to go on with initialize. That they do is in TestClientsOfEveryVersion.
func TestStatelessProtocolNotSpoken(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
	headers := map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
	for _, k := range serversWithSessions() {
		t.Run(k.name, func(t *testing.T) {
			g, _ := k.behind(t)
			for range 2 { // the second time it is known
				r := post(t, g.url(), headers, list)
				for _, part := range []string{`"id":"a"`, `-32022`, `"requested":"2026-07-28"`, `"2025-11-25"`} {
					if r.status != http.StatusBadRequest || !strings.Contains(r.body, part) {
						t.Errorf("no %s in %v", part, r)
					}
				}
			}
		})
	}
}
