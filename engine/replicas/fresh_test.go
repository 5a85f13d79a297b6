package replicas_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
)

// repeat says again, once a second, all that was ever said, until stop is called.
func (a *air) repeat(t *testing.T) (stop func()) {
	t.Helper()
	a.mu.Lock()
	said := slices.Clone(a.said)
	a.mu.Unlock()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			a.mu.Lock()
			for to, fn := range a.ears {
				for _, data := range said {
					if !to.isCut() {
						fn(data)
					}
				}
			}
			a.mu.Unlock()
		}
	}()
	return func() { close(over); <-ended }
}

// TestRepeatedMessages: what a replica said when it was there does not make it look as if it still were: not to one that
// heard it then, nor to one that was deaf at the time, or came later. And a replica's own former words do not stop it.
func TestRepeatedMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b, deaf := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k"), start(t, air, "d", "1", "k")
		defer b.Close()
		defer deaf.Close()
		time.Sleep(3 * time.Second)
		deaf.end.cut(true)
		time.Sleep(10 * time.Second)
		a.end.cut(true) // it is dead, and nobody was told
		defer a.Close()
		defer air.repeat(t)()
		deaf.end.cut(false)
		time.Sleep(2 * replicas.DefaultFence)
		b.sees(t, "a", replicas.Silent)
		deaf.sees(t, "a", replicas.Silent)
		late := start(t, air, "c", "1", "k")
		defer late.Close()
		late.sees(t, "a", replicas.Silent)
		late.sees(t, "b", replicas.There)
		again := start(t, air, "a", "2", "k")
		defer again.Close()
		time.Sleep(2 * replicas.DefaultFence)
		if _, taken := again.told(); taken != nil {
			t.Errorf("its former run's words: %v", taken)
		}
		for _, p := range []*party{b, deaf, late} {
			p.sees(t, "a", replicas.There)
		}
	})
}

// TestRefused: a port that refuses is not the end of a replica that answers; one that does not is taken for gone, until it
// is heard again.
func TestRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
		defer a.Close()
		defer b.Close()
		time.Sleep(3 * time.Second)
		if b.Refused(t.Context(), "a", "a1") {
			t.Error("it is gone although it answers")
		}
		b.sees(t, "a", replicas.There)
		a.end.cut(true)
		if !b.Refused(t.Context(), "a", "a1") {
			t.Error("it is there although nobody answers")
		}
		was := b.sees(t, "a", replicas.Gone)
		a.end.cut(false)
		time.Sleep(2 * time.Second)
		b.sees(t, "a", replicas.There)

		// A claim that was begun while it seemed gone, and stored when it is back, waits for it.
		began := time.Now()
		if err := b.Settled(t.Context(), replicas.Claim{From: "a", Was: was, Seq: 7, Since: began}); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < replicas.DefaultFence {
			t.Errorf("it waited %v", waited)
		}
		// One whose former owner is still away does not.
		a.end.cut(true)
		b.Refused(t.Context(), "a", "a1")
		time.Sleep(time.Second)
		began = time.Now()
		if err := b.Settled(t.Context(), replicas.Claim{From: "a", Was: was, Seq: 7, Since: began}); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("it waited %v", waited)
		}
	})
}

// TestGoneInAnElection: whoever claims from a replica that is gone asks until that is certain. The stream answers nobody at
// first, and the question of somebody else, from before the claim, is still open.
func TestGoneInAnElection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
		defer a.Close()
		defer b.Close()
		time.Sleep(3 * time.Second)
		a.end.cut(true)
		if !b.Refused(t.Context(), "a", "a1") {
			t.Fatal("it is there although nobody answers")
		}
		was := b.sees(t, "a", replicas.Gone)
		b.end.cut(true)
		time.Sleep(3 * time.Second)
		var other sync.WaitGroup
		other.Go(func() { b.Refused(t.Context(), "a", "a1") })
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		time.AfterFunc(500*time.Millisecond, func() { b.end.cut(false) })
		if err := b.Settled(t.Context(), replicas.Claim{From: "a", Was: was, Seq: 7, Since: began}); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited > 3*time.Second {
			t.Errorf("it waited %v", waited)
		}
		other.Wait()
	})
}

// TestRefusedWhileCutOff: a replica that the stream does not answer finds nobody gone: it may be the one that is away.
func TestRefusedWhileCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		air := &air{}
		a, b := start(t, air, "a", "1", "k"), start(t, air, "b", "1", "k")
		defer a.Close()
		defer b.Close()
		time.Sleep(3 * time.Second)
		b.end.cut(true)
		time.Sleep(5 * time.Second)
		b.end.cut(false)
		a.end.cut(true)
		if b.Refused(t.Context(), "a", "a1") {
			t.Error("it is gone, says one that knew nothing itself")
		}
	})
}

// TestStuck: whoever gets no answer from the stream for longer than the fence is told so, once for each fence.
func TestStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := start(t, &air{}, "a", "1", "k")
		defer a.Close()
		time.Sleep(time.Minute)
		if n := a.stuckTimes(); n != 0 {
			t.Errorf("told %d times without need", n)
		}
		a.end.cut(true)
		time.Sleep(4 * replicas.DefaultFence)
		if n := a.stuckTimes(); n < 2 || n > 4 {
			t.Errorf("told %d times", n)
		}
		a.end.cut(false)
		time.Sleep(time.Second * 3)
		if err := a.May(); err != nil {
			t.Error(err)
		}
	})
}
