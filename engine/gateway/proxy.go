package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// session is what a runtime needs of its session. *engine.Session implements it.
type session interface {
	Ref() journal.Ref
	State() (replay.Session, bool)
	Context(ctx context.Context) (engine.InstanceContext, error)
	Binding(ctx context.Context) (engine.Binding, error)
	Claim(ctx context.Context, old journal.Epoch) (journal.Epoch, error)
	ClaimedAt(epoch journal.Epoch) journal.Seq
	Bind(ctx context.Context, at journal.Epoch, upstream string) error
	Change(ctx context.Context, c engine.Changes) error
}

// binding is the upstream's session at one epoch.
type binding struct {
	epoch  journal.Epoch
	id     string // empty: the upstream keeps no sessions
	conn   Conn
	proven atomic.Uint64 // the era of the upstream's health in which it was last known to be good
}

// proxy is the runtime of a session that an upstream serves.
type proxy struct {
	w        *Waker
	s        session
	protocol atomic.Pointer[string] // negotiated version; nil = not read yet
	cur      atomic.Pointer[binding]
	stream   listeners

	flight  chan struct{} // held by who changes the binding; guards the fields below
	claimed journal.Epoch // claimed here, and no upstream session recorded at it yet; zero = none
	caps    string        // the capabilities that the upstream declared last; empty = not known
	pace    pace

	mu      sync.Mutex
	rebound chan struct{}   // closed when the binding changes
	ctx     context.Context //nolint:containedctx // ends with the runtime, as Close has no other way to reach its requests
	cancel  context.CancelCauseFunc
}

// errHibernated is the cause of what ends with a runtime.
var errHibernated = errors.New("session is being hibernated or has ended")

// runtime returns the runtime of a session; b is its binding when it has just been made.
func (w *Waker) runtime(s session, b *binding) engine.Runtime {
	p := w.newProxy(s, b)
	if w.o.Upstream.Shared() {
		return roaming{p}
	}
	return p
}

func (w *Waker) newProxy(s session, b *binding) *proxy {
	p := &proxy{w: w, s: s, flight: make(chan struct{}, 1), rebound: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	if b != nil {
		p.cur.Store(b)
	}
	return p
}

// roaming is a proxy to a shared upstream. It outlives a change of credentials: they come with every request.
type roaming struct{ *proxy }

// Rotate has nothing to do.
func (roaming) Rotate(context.Context, engine.InstanceContext) error { return nil }

// ServeHTTP answers one request of the session. Given the gateway's own ResponseWriter it takes what that has
// read already.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := w.(*answer)
	if !ok {
		refuse(http.StatusInternalServerError, codeInternal, "this runtime serves requests of its gateway only").write(w, nil)
		return
	}
	if r.Method == http.MethodGet {
		p.get(a, r)
		return
	}
	if e := p.tooMany(a.payload); e != nil {
		p.w.o.Observer.RequestDenied(DeniedSubscriptions)
		a.verdicts.settle(journal.OutcomeRefused)
		a.definite(e)
		return
	}
	p.post(a, r)
}

// Moved ends the session's streams where another replica has its runtime now.
func (p *proxy) Moved() {
	if !p.shared() {
		p.stream.cut(errMoved)
	}
}

// Close ends the session's streams and lets go of the connection. The upstream's session stays.
func (p *proxy) Close() error {
	p.cancel(errHibernated)
	p.stream.end()
	b := p.cur.Load()
	if b == nil {
		return nil
	}
	return b.conn.Close()
}

func (p *proxy) shared() bool { return p.w.o.Upstream.Shared() }

// version returns the negotiated protocol version; empty when there is none yet.
func (p *proxy) version() string {
	if v := p.protocol.Load(); v != nil {
		return *v
	}
	st, ok := p.s.State()
	if !ok || st.Protocol == "" {
		return ""
	}
	p.protocol.Store(&st.Protocol)
	return st.Protocol
}

// spoken returns the protocol version of a request: the one in its header, which need not be the negotiated one.
func (p *proxy) spoken(who caller) string {
	if v := who.header.Get(headerVersion); v != "" {
		return v
	}
	return p.version()
}

// changed returns a channel that is closed when the binding changes.
func (p *proxy) changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rebound
}

// bind makes b the binding. p.flight is held.
func (p *proxy) bind(b *binding) {
	old := p.cur.Swap(b)
	if old != nil && old.conn != b.conn {
		if err := old.conn.Close(); err != nil {
			p.w.o.Logger.Debug().Err(err).Stringer("session", p.s.Ref()).Msg("closing a lost upstream session")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.rebound)
	p.rebound = make(chan struct{})
	if p.ctx.Err() != nil { // closed meanwhile; Close may not have seen b
		_ = b.conn.Close() // nothing to save
	}
}

// pace slows a session down that is lost again and again while its upstream has not been restarted: two clients
// of one tenant may be evicting each other.
type pace struct {
	last  time.Time
	runs  int
	boots uint64 // restarts of the upstream by then
}

const (
	paceWindow = 10 * time.Second
	paceStep   = 100 * time.Millisecond
	paceMax    = 5 * time.Second
)

// wait returns how long to wait before the session is initialized again.
func (pc *pace) wait(now time.Time, boots uint64) time.Duration {
	if now.Sub(pc.last) > paceWindow || pc.boots != boots {
		pc.runs, pc.boots = 0, boots
	}
	if pc.runs == 0 {
		return 0
	}
	return min(paceStep<<min(pc.runs-1, 10), paceMax)
}

// done notes that it was, and returns how often that has happened in a row.
func (pc *pace) done(now time.Time) int {
	pc.last = now
	pc.runs++
	return pc.runs
}
