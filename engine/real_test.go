package engine_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// site is a journal that outlives processes, with its keys.
type site struct {
	store   store
	keys    seal.KeyStore
	ring    *seal.Keyring
	journal *memory.Journal // store, where that is one
}

// store is what both journals are.
type store interface {
	commit.Port
	replay.Source
	ID() journal.ID
}

func newSite() *site {
	j := memory.New()
	return &site{store: j, keys: j.Keys(), ring: seal.GenerateKeyring(), journal: j}
}

// newServer is a site on an embedded server, with files and fsync.
func newServer(tb testing.TB) *site {
	tb.Helper()
	srv, err := jetstream.StartServer(jetstream.ServerOptions{Dir: tb.TempDir()})
	must(tb, err)
	tb.Cleanup(srv.Shutdown)
	nc, err := srv.Connect()
	must(tb, err)
	tb.Cleanup(nc.Close)
	j, err := jetstream.Open(tb.Context(), nc, jetstream.Options{Create: true})
	must(tb, err)
	return &site{store: j, keys: j.Keys(), ring: seal.GenerateKeyring()}
}

// process is one boot of one replica over the real committer, follower and vault.
type process struct {
	*engine.Engine

	tb        testing.TB
	committer *commit.Committer
	follower  *replay.Follower
	waker     *waker
	ended     bool
}

func (s *site) boot(tb testing.TB, name journal.ReplicaID, mod ...func(*engine.Options)) *process {
	tb.Helper()
	p := &process{tb: tb, waker: &waker{}}
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(s.ring, w)
	must(tb, err)
	p.committer, err = commit.New(commit.Options{
		Port: s.store, Encoder: sealer, Journal: s.store.ID(), Writer: w,
		Basis: func() journal.Basis {
			if p.follower == nil {
				return journal.Basis{}
			}
			return p.follower.Basis()
		},
	})
	must(tb, err)
	p.follower, err = replay.Follow(tb.Context(), replay.FollowOptions{
		Source: s.store, Opener: seal.NewBatchOpener(s.ring), Own: p.committer.Recent,
	})
	must(tb, err)
	o := engine.Options{
		Replica: name, Appender: p.committer, Table: p.follower, Vault: seal.NewVault(s.ring, s.keys),
		Waker: p.waker, Logger: zerolog.Nop(),
	}
	for _, m := range mod {
		m(&o)
	}
	p.Engine, err = engine.New(o)
	must(tb, err)
	tb.Cleanup(p.kill)
	return p
}

// kill ends the process as SIGKILL would: what waits to be stored is lost.
func (p *process) kill() {
	if p.ended {
		return
	}
	p.ended = true
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.committer.Close(dead)
	_ = p.Shutdown(dead)
	must(p.tb, p.follower.Close())
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func (p *process) create(c engine.Caller) journal.SessionID {
	p.tb.Helper()
	l, err := p.Create(p.tb.Context(), c, open(nil))
	must(p.tb, err)
	defer l.Release()
	return l.Session().ID()
}

// request is one whole request.
func (p *process) request(id journal.SessionID, c engine.Caller) error {
	l, err := p.Acquire(p.tb.Context(), id, c)
	if err != nil {
		return err
	}
	defer l.Release()
	call := l.Begin("tools/call", "health")
	defer call.End(journal.OutcomeOK)
	_, err = l.Runtime(p.tb.Context())
	return err
}

func TestSessionsSurviveKills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		var ids []journal.SessionID
		for range 10 {
			p := s.boot(t, "a")
			for _, id := range ids {
				must(t, p.request(id, alice()))
			}
			for range 5 {
				ids = append(ids, p.create(alice()))
			}
			time.Sleep(20 * time.Minute)
			for _, id := range ids {
				must(t, p.request(id, alice()))
			}
			time.Sleep(time.Second)
			p.kill()
		}
		p := s.boot(t, "a")
		if st := p.List()[7]; p.SessionInfo().Sessions != 50 || st.Calls == 0 {
			t.Errorf("%+v", p.SessionInfo())
		}
		time.Sleep(31 * time.Minute)
		wantErr(t, p.request(ids[0], alice()), engine.ErrUnknownSession)
		if n := p.SessionInfo().Sessions; n != 0 {
			t.Errorf("%d sessions after their timeout", n)
		}
	})
}

func TestSessionsSurviveKillsOnTheEmbeddedServer(t *testing.T) {
	s := newServer(t)
	var ids []journal.SessionID
	for range 3 {
		p := s.boot(t, "a")
		for range 20 {
			ids = append(ids, p.create(alice()), p.create(bob()))
		}
		for i, id := range ids {
			must(t, p.request(id, []engine.Caller{alice(), bob()}[i%2]))
		}
		p.kill()
	}
	if n := s.boot(t, "a").SessionInfo().Sessions; n != len(ids) {
		t.Errorf("%d sessions, want %d", n, len(ids))
	}
}

// A session is answered by a replica that has not folded it yet, however soon it comes.
func TestAnyReplicaAnswersAtOnce(t *testing.T) {
	s := newSite()
	a, b := s.boot(t, "a"), s.boot(t, "b")
	for range 200 {
		must(t, b.request(a.create(alice()), alice()))
		must(t, a.request(b.create(bob()), bob()))
	}
	wantErr(t, b.request(journal.NewSessionID(), alice()), engine.ErrUnknownSession)
}

func TestTakeOverHasOneWinner(t *testing.T) {
	s := newSite()
	all := []*process{s.boot(t, "a"), s.boot(t, "b"), s.boot(t, "c")}
	id := all[0].create(alice())
	for epoch := journal.Epoch(1); epoch < 20; epoch++ {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for _, p := range all {
			wg.Go(func() {
				l, err := p.Acquire(t.Context(), id, alice())
				if err != nil {
					t.Error(err)
					return
				}
				defer l.Release()
				_, err = l.Session().Claim(t.Context(), epoch)
				if err != nil {
					wantErr(t, err, engine.ErrClaimLost)
					return
				}
				must(t, l.Session().Bind(t.Context(), epoch+1, "upstream of the winner"))
				mu.Lock()
				defer mu.Unlock()
				won++
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("epoch %d has %d winners", epoch+1, won)
		}
	}
}

func TestLostAckOnCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		p := s.boot(t, "a")
		p.create(alice())
		faults := 1
		s.journal.Inject(func(journal.WriterID) memory.Fault {
			if faults > 0 {
				faults--
				return memory.Fault{Kind: memory.LostAck}
			}
			return memory.Fault{}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		rt := &runtime{}
		_, err := p.Create(ctx, alice(), open(rt))
		wantErr(t, err, journal.ErrOutcomeUnknown)
		if rt.closed.Load() != 1 {
			t.Error("runtime left open")
		}
		time.Sleep(time.Minute)
		if n := p.SessionInfo().Sessions; n != 1 {
			t.Errorf("%d sessions, want the first alone: nobody holds the other's ID", n)
		}
	})
}

func TestOutageOfTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		a, b := s.boot(t, "a"), s.boot(t, "b")
		id, idle := a.create(alice()), a.create(alice())
		time.Sleep(20 * time.Minute)
		s.journal.SetDown(true)
		for range 4 {
			time.Sleep(10 * time.Minute)
			must(t, a.request(id, alice())) // the access waits in the buffer
		}
		_, err := a.Create(t.Context(), alice(), open(nil))
		wantErr(t, err, journal.ErrUnavailable)
		wantErr(t, a.request(journal.NewSessionID(), alice()), journal.ErrUnavailable)
		s.journal.SetDown(false)
		time.Sleep(30 * time.Second)
		must(t, a.request(id, alice()))
		must(t, b.request(id, alice()))
		time.Sleep(time.Minute)
		wantErr(t, b.request(idle, alice()), engine.ErrUnknownSession)
		must(t, b.request(id, alice()))
	})
}

func TestRestoreOverTheRealJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newSite(), newSite()
		a := from.boot(t, "a")
		for range 700 {
			a.create(alice())
		}
		last := a.create(bob())
		states, err := a.ExportSessionState(t.Context())
		must(t, err)
		b := to.boot(t, "b", importing)
		got, err := b.RestoreSessionState(t.Context(), states)
		must(t, err)
		if got.Restored != 701 {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Second)
		b.kill()
		c := to.boot(t, "c", importing)
		must(t, c.request(last, bob()))
		wantErr(t, c.request(last, alice()), engine.ErrUnknownSession)
		time.Sleep(31 * time.Minute)
		got, err = c.RestoreSessionState(t.Context(), states)
		must(t, err)
		if got.Skipped.Expired != 701 {
			t.Errorf("an old export resurrects: %+v", got)
		}
	})
}

// TestAccessElsewhereBeatsExpiry: while one replica's clients use a session, no sweep of any other one ends it; when nobody
// does, it ends once, on all.
func TestAccessElsewhereBeatsExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		all := []*process{s.boot(t, "a"), s.boot(t, "b"), s.boot(t, "c")}
		id := all[0].create(alice())
		for i := range 40 {
			time.Sleep(29*time.Minute + 59*time.Second)
			must(t, all[i%3].request(id, alice()))
		}
		time.Sleep(31 * time.Minute)
		for _, p := range all {
			if n := p.SessionInfo().Sessions; n != 0 {
				t.Errorf("%d sessions after the timeout", n)
			}
			must(t, p.follower.CatchUp(t.Context()))
			p.follower.View(func(st *replay.State) {
				if n := st.Stats().Accepted[journal.KindExpired]; n != 1 {
					t.Errorf("it expired %d times", n)
				}
			})
		}
	})
}
