package replicas_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// air is a wire whose ends can be cut off.
type air struct {
	mu    sync.Mutex
	ears  map[*end]func([]byte)
	names map[string]*end // who answers
	said  [][]byte        // all messages so far
}

// end is one replica's end of it.
type end struct {
	a    *air
	mu   sync.Mutex
	deaf bool
}

func (a *air) end() *end { return &end{a: a} }

func (e *end) cut(deaf bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf = deaf
}

func (e *end) isCut() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.deaf
}

func (e *end) Tell(data []byte) error {
	if e.isCut() {
		return errors.New("cut")
	}
	e.a.mu.Lock()
	defer e.a.mu.Unlock()
	e.a.said = append(e.a.said, data)
	for to, fn := range e.a.ears {
		if !to.isCut() {
			fn(data)
		}
	}
	return nil
}

func (e *end) Hear(fn func([]byte)) (func(), error) {
	e.a.mu.Lock()
	defer e.a.mu.Unlock()
	if e.a.ears == nil {
		e.a.ears = map[*end]func([]byte){}
	}
	e.a.ears[e] = fn
	return func() {
		e.a.mu.Lock()
		defer e.a.mu.Unlock()
		delete(e.a.ears, e)
	}, nil
}

func (e *end) Answer(name string) (func(), error) {
	e.a.mu.Lock()
	defer e.a.mu.Unlock()
	if e.a.names == nil {
		e.a.names = map[string]*end{}
	}
	e.a.names[name] = e
	return func() {
		e.a.mu.Lock()
		defer e.a.mu.Unlock()
		delete(e.a.names, name)
	}, nil
}

// Call finds nobody who is cut off: the servers have noticed.
func (e *end) Call(ctx context.Context, name string) (bool, error) {
	if e.isCut() {
		<-ctx.Done()
		return false, context.Cause(ctx)
	}
	e.a.mu.Lock()
	defer e.a.mu.Unlock()
	to := e.a.names[name]
	return to != nil && !to.isCut(), nil
}

// party is one replica.
type party struct {
	*replicas.Directory

	end    *end
	mu     sync.Mutex
	seq    journal.Seq
	fenced int
	stuck  int
	taken  error
}

func (p *party) fold(seq journal.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq = seq
}

func (p *party) stuckTimes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stuck
}

func (p *party) told() (fenced int, taken error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fenced, p.taken
}

func start(t *testing.T, a *air, name journal.ReplicaID, boot, key string) *party {
	t.Helper()
	p := &party{end: a.end()}
	var err error
	p.Directory, err = replicas.Start(t.Context(), replicas.Options{
		Self: name, Boot: string(name) + boot, URL: "https://" + string(name) + "/mcp", Key: []byte(key), Wire: p.end,
		CatchUp: func(ctx context.Context) error {
			if p.end.isCut() {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		},
		Folded: func() (journal.Seq, uint64) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.seq, uint64(p.seq)
		},
		Fenced: func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fenced++
		},
		Stuck: func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.stuck++
		},
		Taken: func(err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.taken = err
			p.end.cut(true) // as it ends
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *party) sees(t *testing.T, name journal.ReplicaID, want replicas.Place) replicas.Where {
	t.Helper()
	w, err := p.Locate(t.Context(), name)
	if err != nil || w.Place != want {
		t.Errorf("%s is at place %d, %v; want %d", name, w.Place, err, want)
	}
	return w
}

// TestComingAndGoing: who starts is heard at once, who leaves too, and who starts later learns of both.
func TestComingAndGoing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a := start(t, air, "a", "1", "k")
		b := start(t, air, "b", "1", "k")
		synctest.Wait()
		if w := a.sees(t, "b", replicas.There); w.URL != "https://b/mcp" {
			t.Error(w)
		}
		b.sees(t, "a", replicas.There)
		b.sees(t, "b", replicas.Here)
		b.Close()
		a.sees(t, "b", replicas.Gone)
		c := start(t, air, "c", "1", "k")
		synctest.Wait()
		c.sees(t, "a", replicas.There)
		c.sees(t, "b", replicas.Gone)
		back := start(t, air, "b", "2", "k")
		synctest.Wait()
		c.sees(t, "b", replicas.There)
		for _, p := range []*party{a, c, back} {
			p.Close()
		}
	})
}

// TestYoungDirectory: one that has just started waits before it takes somebody for silent.
func TestYoungDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := start(t, &air{}, "a", "1", "k")
		defer a.Close()
		began := time.Now()
		a.sees(t, "stranger", replicas.Silent)
		if waited := time.Since(began); waited != replicas.DefaultFence*3/5 {
			t.Errorf("it waited %v", waited)
		}
	})
}

// TestPartition: at no time may a cut-off replica serve while another one that has claimed from it serves too.
func TestPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
		defer a.Close()
		defer b.Close()
		time.Sleep(10 * time.Second)
		a.end.cut(true)
		cutAt := time.Now()
		b.sees(t, "a", replicas.There)
		time.Sleep(replicas.DefaultFence)
		if err := a.May(); err != nil && time.Since(cutAt) < replicas.DefaultFence-time.Second {
			t.Errorf("it gave up early: %v", err)
		}
		was := b.sees(t, "a", replicas.Silent)
		b.fold(7)
		if err := b.Settled(t.Context(), replicas.Claim{From: "a", Was: was, Seq: 7, Since: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if err := a.May(); !errors.Is(err, replicas.ErrCutOff) {
			t.Errorf("both serve: %v", err)
		}
		if n, _ := a.told(); n != 1 {
			t.Errorf("told %d times that it must not serve", n)
		}
		a.end.cut(false)
		a.fold(7)
		if err := a.Regain(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		b.sees(t, "a", replicas.There)
	})
}

// TestOutage: while the stream answers nobody, nobody is suspected, and afterwards everybody is given time to be heard.
func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
		defer a.Close()
		defer b.Close()
		time.Sleep(10 * time.Second)
		defer b.OnSilence("a", "a1", func() { t.Error("a is taken for silent") })()
		a.end.cut(true)
		b.end.cut(true)
		for range 30 {
			time.Sleep(time.Second)
			b.sees(t, "a", replicas.There)
		}
		if err := b.May(); !errors.Is(err, replicas.ErrCutOff) {
			t.Errorf("it may serve: %v", err)
		}
		b.end.cut(false)
		time.Sleep(2 * time.Second)
		a.end.cut(false)
		for range 10 {
			time.Sleep(time.Second)
			b.sees(t, "a", replicas.There)
		}
	})
}

// TestSettledEarly: whoever claimed need not wait once the former owner has said that it knows, is gone, or refuses
// connections; and not for one that is merely heard.
func TestSettledEarly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		event func(ctx context.Context, a, b *party)
		full  bool
	}{
		"it has folded the claim":  {event: func(_ context.Context, a, _ *party) { a.fold(7) }},
		"it leaves":                {event: func(_ context.Context, a, _ *party) { a.Leave() }},
		"its process is gone":      {event: func(ctx context.Context, a, b *party) { a.end.cut(true); b.Refused(ctx, "a", "a1") }},
		"another run's is gone":    {event: func(ctx context.Context, a, b *party) { a.end.cut(true); b.Refused(ctx, "a", "a0") }, full: true},
		"its port alone refuses":   {event: func(ctx context.Context, _, b *party) { b.Refused(ctx, "a", "a1") }, full: true},
		"it has not folded so far": {event: func(_ context.Context, a, _ *party) { a.fold(6) }, full: true},
		"nothing":                  {event: func(_ context.Context, a, _ *party) { a.end.cut(true) }, full: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				air := &air{}
				a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
				defer a.Close()
				defer b.Close()
				time.Sleep(3 * time.Second)
				c.event(t.Context(), a, b)
				began := time.Now()
				claim := replicas.Claim{From: "a", Was: replicas.Where{Place: replicas.Silent, Boot: "a1"}, Seq: 7, Since: began}
				if err := b.Settled(t.Context(), claim); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); (waited > replicas.DefaultFence) != c.full {
					t.Errorf("it waited %v", waited)
				}
			})
		})
	}
}

// TestNamesake: of two replicas of one name the second gives up, unless the first could not be heard when it started.
func TestNamesake(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"both there": false, "the first one paused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				air := &air{}
				first := start(t, air, "a", "1", "k")
				defer first.Close()
				time.Sleep(10 * time.Second)
				first.end.cut(deaf)
				second := start(t, air, "a", "2", "k")
				defer second.Close()
				time.Sleep(10 * time.Second)
				first.end.cut(false)
				time.Sleep(10 * time.Second)
				_, one := first.told()
				_, two := second.told()
				if errors.Is(one, replicas.ErrNameTaken) != deaf || errors.Is(two, replicas.ErrNameTaken) == deaf {
					t.Errorf("the first was told %v, the second %v", one, two)
				}
			})
		})
	}
}

// TestForgedMessages: who has not the key is not heard.
func TestForgedMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a := start(t, air, "a", "1", "k")
		defer a.Close()
		forger := start(t, air, "b", "1", "another key")
		defer forger.Close()
		_ = forger.end.Tell([]byte("short"))
		synctest.Wait()
		if p := a.Peers(); len(p) != 0 {
			t.Errorf("%+v", p)
		}
	})
}

// TestOnSilence: the call comes when a replica is heard no more, and not while it is.
func TestOnSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
		defer a.Close()
		defer b.Close()
		silent := make(chan time.Time, 1)
		defer b.OnSilence("a", "a1", func() { silent <- time.Now() })()
		forgotten := b.OnSilence("a", "a1", func() { t.Error("called although forgotten") })
		time.Sleep(20 * time.Second)
		select {
		case <-silent:
			t.Error("called too early")
		default:
		}
		forgotten()
		a.end.cut(true)
		began := time.Now()
		if waited := (<-silent).Sub(began); waited > replicas.DefaultFence {
			t.Errorf("called after %v", waited)
		}
	})
}

// TestLag: what others have folded and this replica has not.
func TestLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
		defer a.Close()
		defer b.Close()
		a.fold(100)
		b.fold(90)
		time.Sleep(2 * time.Second)
		if l := b.Lag(); l.Batches != 10 || l.Events != 10 {
			t.Errorf("%+v", l)
		}
		if l := a.Lag(); l.Batches != 0 || l.Since > time.Second {
			t.Errorf("%+v", l)
		}
	})
}

// TestTLS: both ends want the key, and nothing else lets anybody in.
func TestTLS(t *testing.T) {
	t.Parallel()
	server, client, err := replicas.TLS([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	otherServer, otherClient, err := replicas.TLS([]byte("another"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		server, client *tls.Config
		ok             bool
	}{
		"replicas":         {server, client, true},
		"a strange client": {server, otherClient, false},
		"a strange server": {otherServer, client, false},
		"no certificate":   {server, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := shake(t, c.server, c.client); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

// shake connects the two, and returns what went wrong at either end.
func shake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		tc := tls.Server(conn, server)
		err = tc.HandshakeContext(t.Context())
		if err == nil {
			_, err = tc.Write([]byte("x"))
		}
		served <- err
	}()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tc := tls.Client(conn, client)
	err = tc.HandshakeContext(t.Context())
	if err == nil {
		_, err = tc.Read(make([]byte, 1))
	}
	_ = conn.Close()
	return errors.Join(err, <-served)
}
