package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	headerMoved  = "Dormouse-Moved"  // on an answer between replicas: not executed; look again where the session is
	headerRemote = "Dormouse-Remote" // on a request between replicas: the client's address
)

// NewPeerTransport returns what carries requests to other replicas, over connections that prove to both ends that the
// other one is a replica of this deployment.
func NewPeerTransport(c *tls.Config) *http.Transport {
	dial := dialWarily(&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 5 * time.Second})
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return shakeHands(ctx, conn, c)
		},
		DisableCompression: true, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second,
	}
}

// handshakeTimeout is how long the other end may take to prove itself.
const handshakeTimeout = 3 * time.Second

// shakeHands has both ends prove themselves. A handshake that breaks off is as good as no connection: the kernel of a process
// that dies still takes connections that nobody will serve, and nothing was sent on them.
func shakeHands(ctx context.Context, conn net.Conn, c *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	safe := tls.Client(conn, c)
	if err := safe.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one to tell
		return nil, &net.OpError{Op: opDial, Net: "tcp", Addr: conn.RemoteAddr(), Err: fmt.Errorf("handshake: %w", err)}
	}
	return safe, nil
}

// Peer serves the requests that other replicas forward. Only they may reach it.
func (g *Gateway) Peer() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), forwarded{}, true))
		if from := r.Header.Get(headerRemote); from != "" {
			r.RemoteAddr = from
		}
		r.Header.Del(headerRemote)
		g.ServeHTTP(w, r)
	})
}

// Away answers a forwarded request while this replica serves none any more.
func Away(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(headerMoved, "1")
	refuse(http.StatusMisdirectedRequest, codeUnavailable, "The replica is leaving").write(w, nil)
}

// forward sends a request to the replica that has the session's runtime, and its answer to the client. a.moved is set
// if nothing was executed there and the session should be looked for again.
func (g *Gateway) forward(ctx context.Context, a *answer, r *http.Request, owner journal.ReplicaID, to replicas.Where) error {
	dir := g.o.Waker.o.Replicas
	out, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer dir.OnSilence(owner, to.Boot, func() { cancel(errSilent) })()
	if r.Method == http.MethodGet {
		defer context.AfterFunc(g.stopping, func() { cancel(errHibernated) })() //nolint:contextcheck // as of all streams
	}
	req, err := peerRequest(out, a, r, to.URL) //nolint:contextcheck // it is the request's, with ends of its own
	if err != nil {
		return err
	}
	resp, err := g.o.Peers.RoundTrip(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) && dir.Refused(ctx, owner, to.Boot) {
			a.moved = true // to here, perhaps: there is nothing to wait for
			return nil
		}
		return g.unforwarded(ctx, a, r, fmt.Errorf("replica %s: %w", owner, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusMisdirectedRequest && resp.Header.Get(headerMoved) != "" {
		a.moved = true
		return sleep(ctx, routePause/2+jitter(routePause))
	}
	copyPeer(a.Header(), resp.Header)
	a.WriteHeader(resp.StatusCode)
	pour(a, resp.Body)
	if r.Method == http.MethodGet {
		a.cut = false // the end of a stream, however it came
	}
	return nil
}

// pour passes an answer on as it comes. One that breaks off is ended with errors where the client can read them, else
// by cutting the connection.
func pour(a *answer, body io.Reader) {
	room := make([]byte, 16<<10)
	whole := true // what was written ends with an event's end
	for {
		n, err := body.Read(room)
		if n > 0 {
			whole = bytes.HasSuffix(room[:n], []byte("\n\n"))
			if _, err := a.Write(room[:n]); err != nil {
				return // the client is gone
			}
			a.Flush()
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err == nil:
		case whole && a.payload != nil && a.payload.has(kindRequest) && mediaType(a.Header()) == typeSSE:
			_, _ = a.Write(a.payload.unknown()) // the client may be gone
			return
		default:
			a.cut = true
			return
		}
	}
}

// unknown returns events that end each request of the body with outcomeUnknown.
func (p *payload) unknown() (events []byte) {
	for i := range p.msgs {
		if p.msgs[i].kind == kindRequest {
			events = appendEvent(events, []byte("message"), nil, nil, outcomeUnknown().response(p.msgs[i].id))
		}
	}
	return events
}

// errSilent says that a replica that was to answer is not heard any more.
var errSilent = errors.New("the session's replica is not heard any more")

// unforwarded deals with a request that got no answer.
func (g *Gateway) unforwarded(ctx context.Context, a *answer, r *http.Request, err error) error {
	if r.Context().Err() != nil {
		return err
	}
	if unsent(err) || stranger(err) {
		g.o.Logger.Debug().Err(err).Msg("a replica cannot be reached")
		a.moved = true
		if !stranger(err) {
			return sleep(ctx, jitter(brokenPause))
		}
		return sleep(ctx, routePause/2+jitter(routePause))
	}
	g.o.Logger.Info().Err(err).Msg("a forwarded request got no answer")
	if r.Method == http.MethodGet || a.payload != nil && a.payload.repeatable(g.o.Waker.tools.repeatable) {
		a.moved = true
		return sleep(ctx, routePause/2+jitter(routePause))
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// stranger reports whether the other end is none of ours, so that nothing was sent.
func stranger(err error) bool {
	return errors.Is(err, replicas.ErrStranger) || strings.Contains(err.Error(), "tls: ")
}

// peerRequest makes the request that the other replica gets: the client's, as it is.
func peerRequest(ctx context.Context, a *answer, r *http.Request, url string) (*http.Request, error) {
	var body io.Reader
	if a.payload != nil {
		body = bytes.NewReader(a.payload.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, url, body)
	if err != nil {
		return nil, fmt.Errorf("replica's address: %w", err)
	}
	copyPeer(req.Header, r.Header)
	req.Header.Set(headerRemote, r.RemoteAddr)
	return req, nil
}

// copyPeer copies all headers but those of one connection.
func copyPeer(to, from http.Header) {
	for name, values := range from {
		if !hopByHop(name) && name != headerRemote && name != headerMoved {
			to[name] = slices.Clone(values)
		}
	}
}
