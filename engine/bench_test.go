package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// naive is the rival: a session table as most servers have one, a map under a mutex, without a journal.
type naive struct {
	mu       sync.Mutex
	sessions map[journal.SessionID]*naiveSession
}

type naiveSession struct {
	caller  engine.Caller
	runtime engine.Runtime
	calls   int
}

func (n *naive) request(id journal.SessionID, c *engine.Caller) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sessions[id]
	if s == nil || s.caller.Principal != c.Principal || s.caller.Tenant != c.Tenant || s.caller.URLHash != c.URLHash {
		return false
	}
	s.calls++
	return s.runtime != nil
}

// BenchmarkRequest is what the engine adds to one request on a live session.
func BenchmarkRequest(b *testing.B) {
	const sessions = 1000
	caller := alice()
	b.Run("naive map", func(b *testing.B) {
		n := &naive{sessions: map[journal.SessionID]*naiveSession{}}
		ids := make([]journal.SessionID, sessions)
		for i := range ids {
			ids[i] = journal.NewSessionID()
			n.sessions[ids[i]] = &naiveSession{caller: caller, runtime: &runtime{}}
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if !n.request(ids[i%sessions], &caller) {
				b.Fatal("not found")
			}
		}
	})
	for name, c := range map[string]func() engine.Caller{
		"no context": func() engine.Caller { c := caller; c.Context = nil; return c },
		"context":    func() engine.Caller { return caller },
	} {
		b.Run(name, func(b *testing.B) {
			p, ids := benchSessions(b, sessions)
			c, ctx := c(), b.Context()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				p.bench(ctx, ids[i%sessions], c)
			}
		})
		b.Run(name+"/without journal", func(b *testing.B) {
			p, ids := benchSessions(b, sessions, func(o *engine.Options) { o.Appender = deaf{o.Appender} })
			c, ctx := c(), b.Context()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				p.bench(ctx, ids[i%sessions], c)
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			p, ids := benchSessions(b, sessions)
			c, ctx := c(), b.Context()
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					p.bench(ctx, ids[i%sessions], c)
				}
			})
		})
	}
}

// deaf drops accesses, to show what the engine alone costs.
type deaf struct{ engine.Appender }

func (deaf) Post(journal.Event) {}

func benchSessions(b *testing.B, n int, mod ...func(*engine.Options)) (*process, []journal.SessionID) {
	b.Helper()
	p := newSite().boot(b, "a", mod...)
	ids := make([]journal.SessionID, n)
	for i := range ids {
		l, err := p.Create(b.Context(), alice(), open(&runtime{}))
		must(b, err)
		ids[i] = l.Session().ID()
		l.Release()
	}
	return p, ids
}

func (p *process) bench(ctx context.Context, id journal.SessionID, c engine.Caller) {
	l, err := p.Acquire(ctx, id, c)
	if err != nil {
		panic(err)
	}
	call := l.Begin("tools/call", "list_workflows")
	if _, err = l.Runtime(ctx); err != nil {
		panic(err)
	}
	call.End(journal.OutcomeOK)
	l.Release()
}

// BenchmarkCreate is the rate of creates with so many clients at once: durable ones on the embedded server,
// with an fsync for each commit, and in memory.
func BenchmarkCreate(b *testing.B) {
	for name, site := range map[string]func(testing.TB) *site{
		"memory": func(testing.TB) *site { return newSite() }, "server": newServer,
	} {
		for _, clients := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/clients=%d", name, clients), func(b *testing.B) {
				p := site(b).boot(b, "a", func(o *engine.Options) { o.MaxSessions = 1 << 30 })
				p.createAll(b, clients)
			})
		}
	}
}

func (p *process) createAll(b *testing.B, clients int) {
	b.Helper()
	b.ReportAllocs()
	var wg sync.WaitGroup
	next := make(chan struct{}, clients)
	for range clients {
		wg.Go(func() {
			for range next {
				p.create(alice())
			}
		})
	}
	for b.Loop() {
		next <- struct{}{}
	}
	close(next)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
}

// BenchmarkRestoreSessionState is 10,000 sessions at once; n8n-mcp needs seven seconds for them.
func BenchmarkRestoreSessionState(b *testing.B) {
	const n = 10_000
	states := make([]engine.SessionState, n)
	for i := range states {
		states[i] = state(fmt.Sprintf("session-%012d", i), 0)
	}
	tenants := 0
	tenantEach := func(o *engine.Options) {
		importing(o)
		o.Identify = func(engine.InstanceContext) (engine.Identity, error) {
			tenants++
			return engine.Identity{Tenant: journal.TenantID{1, byte(tenants), byte(tenants >> 8), byte(tenants >> 16)}}, nil
		}
	}
	for _, row := range []struct {
		name    string
		site    func(testing.TB) *site
		options func(*engine.Options)
	}{
		{"memory", func(testing.TB) *site { return newSite() }, importing},
		{"server", newServer, importing},
		{"server, each of a new tenant", newServer, tenantEach},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				p := row.site(b).boot(b, "a", row.options)
				b.StartTimer()
				got, err := p.RestoreSessionState(b.Context(), states)
				if err != nil || got.Restored != n {
					b.Fatal(got, err)
				}
			}
		})
	}
}
