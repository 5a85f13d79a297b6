package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/replay"
)

const modelTimeout = 30 * time.Minute

// known is what a client knows of its session.
type known struct {
	id     journal.SessionID
	caller engine.Caller
	sure   time.Time // of an access that is surely stored
	maybe  time.Time // of the newest access that may be
	closed bool
	doubt  bool // a close may have happened
}

// model drives replicas at random and holds them to what clients may rely on.
type model struct {
	t        *testing.T
	r        *rand.Rand
	site     *site
	up       []*process
	sessions []*known
	down     bool
	downAt   atomic.Int64 // the last moment, in nanoseconds, in which the stream did not answer
	boots    []*process
}

// TestModel: what was acknowledged is found by every replica, over kills, outages and lost answers; what
// has ended stays so; nobody but the owner gets in; every runtime is closed once.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{t: t, r: rand.New(rand.NewPCG(seed, 7)), site: newSite(), up: make([]*process, 3)}
				for i := range m.up {
					m.boot(i)
				}
				for range 150 {
					m.step()
				}
				m.finish()
			})
		})
	}
}

func (m *model) boot(i int) {
	m.up[i] = m.site.boot(m.t, journal.ReplicaID(rune('a'+i)), func(o *engine.Options) {
		o.SessionTimeout, o.MaxLive, o.HibernateAfter = modelTimeout, 4, 2*time.Minute
	})
	m.boots = append(m.boots, m.up[i])
}

func (m *model) step() {
	p := m.up[m.r.IntN(len(m.up))]
	switch n := m.r.IntN(100); {
	case n < 15:
		m.create(p)
	case n < 65:
		m.request(p)
	case n < 70:
		m.close(p)
	case n < 75:
		m.takeOver(p)
	case n < 90:
		time.Sleep(time.Duration(m.r.Int64N(int64(8 * time.Minute))))
	case n < 93:
		m.lose()
	case n < 96:
		m.outage(!m.down)
	case !m.down: // a boot needs the stream
		i := m.r.IntN(len(m.up))
		m.up[i].kill()
		m.boot(i)
	}
	synctest.Wait() // what one replica has done the others have heard, unless the stream is down
	if m.down {
		m.troubleNow()
	}
}

func (m *model) troubleNow() { m.downAt.Store(time.Now().UnixNano()) }

// trouble returns when the stream did not answer last.
func (m *model) trouble() time.Time { return time.Unix(0, m.downAt.Load()) }

// lose makes the next publish lose its answer, or itself.
func (m *model) lose() {
	kind := memory.LostAck
	if m.r.IntN(2) == 0 {
		kind = memory.LostMessage
	}
	left := 1
	m.site.journal.Inject(func(journal.WriterID) (f memory.Fault) {
		if left > 0 {
			left--
			f.Kind = kind
			m.troubleNow()
		}
		return f
	})
}

func (m *model) outage(down bool) {
	m.down = down
	m.troubleNow()
	m.site.journal.SetDown(down)
}

func (m *model) create(p *process) {
	c := alice()
	if m.r.IntN(2) == 0 {
		c = bob()
	}
	l, err := p.Create(m.t.Context(), c, open(&runtime{}))
	if err != nil {
		m.troubled(err)
		return
	}
	defer l.Release()
	now := time.Now()
	m.sessions = append(m.sessions, &known{id: l.Session().ID(), caller: c, sure: now.Add(-time.Minute), maybe: now})
}

// troubled checks that an error is one that an outage explains.
func (m *model) troubled(err error) {
	m.t.Helper()
	if !errors.Is(err, journal.ErrUnavailable) && !errors.Is(err, journal.ErrOutcomeUnknown) {
		m.t.Fatal(err)
	}
}

func (m *model) pick() *known {
	if len(m.sessions) == 0 {
		return nil
	}
	return m.sessions[m.r.IntN(len(m.sessions))]
}

// acquire is Acquire, held to what the client knows.
func (m *model) acquire(p *process, k *known) *engine.Lease {
	m.t.Helper()
	before := time.Now()
	stranger := alice()
	if k.caller.Tenant == stranger.Tenant {
		stranger = bob()
	}
	if l, err := p.Acquire(m.t.Context(), k.id, stranger); err == nil {
		l.Release()
		m.t.Fatal("a stranger got in")
	}
	l, err := p.Acquire(m.t.Context(), k.id, k.caller)
	alive := !k.closed && !k.doubt && time.Now().Before(k.sure.Add(modelTimeout))
	dead := k.closed || !before.Before(m.latest(k).Add(modelTimeout))
	switch {
	case err == nil && dead:
		m.t.Fatalf("a session is back: closed %v, idle for %v", k.closed, time.Since(k.maybe))
	case errors.Is(err, engine.ErrUnknownSession):
		if alive {
			m.t.Fatalf("a session is lost, idle for %v, down %v ago", time.Since(k.sure), time.Since(m.trouble()))
		}
		k.closed = true // and shall stay so
	case err != nil:
		m.troubled(err)
	}
	return l
}

// latest returns the latest last access that k's session may have: an access that waited in a buffer counts
// as made shortly before it was stored, and nothing expires in the grace period.
func (m *model) latest(k *known) time.Time {
	late := m.trouble().Add(5 * time.Minute)
	if time.Since(late) < 0 {
		return time.Now()
	}
	if stored := late.Add(-replay.AccessLag); stored.After(k.maybe) {
		return stored
	}
	return k.maybe
}

func (m *model) request(p *process) {
	k := m.pick()
	if k == nil {
		return
	}
	l := m.acquire(p, k)
	if l == nil {
		return
	}
	defer l.Release()
	c := l.Begin("tools/call", "x")
	if _, err := l.Runtime(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	c.End(journal.OutcomeOK)
	now := time.Now()
	k.maybe = now
	if m.r.IntN(2) == 0 && p.committer.Flush(m.t.Context()) == nil {
		k.sure, k.maybe = now, time.Now()
	}
}

func (m *model) close(p *process) {
	k := m.pick()
	if k == nil {
		return
	}
	l := m.acquire(p, k)
	if l == nil {
		return
	}
	defer l.Release()
	switch err := l.Close(m.t.Context(), journal.ReasonClient); {
	case err == nil, errors.Is(err, engine.ErrUnknownSession):
		k.closed = true
	default:
		m.troubled(err)
		k.doubt = errors.Is(err, journal.ErrOutcomeUnknown) || k.doubt
	}
}

func (m *model) takeOver(p *process) {
	k := m.pick()
	if k == nil {
		return
	}
	l := m.acquire(p, k)
	if l == nil {
		return
	}
	defer l.Release()
	b, err := l.Session().Binding(m.t.Context())
	if errors.Is(err, engine.ErrUnknownSession) {
		return
	}
	must(m.t, err)
	epoch, err := l.Session().Claim(m.t.Context(), b.Epoch)
	if err != nil {
		if !errors.Is(err, engine.ErrClaimLost) && !errors.Is(err, engine.ErrUnknownSession) {
			m.troubled(err)
		}
		return
	}
	if err := l.Session().Bind(m.t.Context(), epoch, "upstream"); err != nil {
		m.troubled(err)
	}
}

func (m *model) finish() {
	m.outage(false)
	m.site.journal.Inject(nil)
	time.Sleep(5 * time.Minute) // buffers are flushed, grace is over
	for _, k := range m.sessions {
		for _, p := range m.up {
			if l := m.acquire(p, k); l != nil {
				l.Release()
			}
		}
	}
	time.Sleep(modelTimeout + time.Minute)
	for _, p := range m.up {
		if n := p.SessionInfo().Sessions; n != 0 {
			m.t.Errorf("%d sessions after their timeout", n)
		}
		must(m.t, p.Shutdown(m.t.Context()))
	}
	for _, p := range m.boots {
		for _, rt := range p.waker.made {
			if rt.closed.Load() != 1 {
				m.t.Error("a runtime was left open")
			}
		}
	}
}
