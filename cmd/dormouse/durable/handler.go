package durable

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// Options configures Open. Data, and either Server or Upstream, must be set.
type Options struct {
	JournalOptions

	// Server makes the MCP server of one session, whenever the session wakes: at its first request, and at the next
	// one after it has been idle for some minutes or the process was started again. The handshake is replayed to it;
	// what a former server of the session held in memory is not there.
	Server gateway.ServerFactory

	// Upstream is what answers instead of Server: gateway.NewHTTPUpstream, stdio.New, or one of your own.
	// Close closes it if it has a Close method.
	Upstream gateway.Upstream

	// Identify tells who makes a request: sessions are bound to principal and tenant, and to everybody else they do
	// not exist. A gateway.Identifier does it with tokens or JWTs. nil = whoever has a session's ID may use it.
	Identify func(*http.Request) (engine.Caller, error)

	// Wiring has every other option of the parts, as limits and timeouts; what is set above, and Logger, wins.
	Wiring Wiring
}

// Handler is an MCP endpoint of streamable HTTP whose sessions survive the process, an http.Handler. Safe for
// concurrent use.
type Handler struct {
	Assembly

	Journal  *Journal
	upstream gateway.Upstream
}

// Open opens the journal and returns the endpoint on it. Close must be called in the end.
func Open(ctx context.Context, o Options) (*Handler, error) {
	if (o.Server == nil) == (o.Upstream == nil) {
		return nil, errors.New("durable options: either Server or Upstream must be set")
	}
	if o.Server != nil {
		o.Upstream = gateway.NewInProcess(o.Server)
	}
	j, err := OpenJournal(ctx, o.JournalOptions)
	if err != nil {
		return nil, err
	}
	w := o.Wiring
	w.Waker.Upstream, w.Gateway.Identify = o.Upstream, o.Identify
	w.Waker.Logger, w.Engine.Logger, w.Gateway.Logger = o.Logger, o.Logger, o.Logger
	h := &Handler{Journal: j, upstream: o.Upstream}
	if h.Assembly, err = Assemble(j.Parts(), w); err != nil { //nolint:contextcheck // what it makes outlives the opening
		return nil, errors.Join(err, h.Close(context.WithoutCancel(ctx)))
	}
	return h, nil
}

// ServeHTTP answers one HTTP request of MCP's streamable HTTP transport.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.Gateway.ServeHTTP(w, r) }

// Close answers new requests with 503, waits for those under way until ctx ends, closes the runtimes and then the
// journal. A process that is killed instead loses no session.
func (h *Handler) Close(ctx context.Context) error {
	var errs []error
	if h.Gateway != nil {
		errs = append(errs, h.Gateway.Shutdown(ctx))
	}
	if h.Engine != nil {
		errs = append(errs, h.Engine.Shutdown(ctx))
	}
	if c, ok := h.upstream.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, h.Journal.Close(ctx))...)
}
