package gateway

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

// nobodyThere is a wire on which nobody is.
type nobodyThere struct{}

func (nobodyThere) Tell([]byte) error                          { return nil }
func (nobodyThere) Hear(func([]byte)) (func(), error)          { return func() {}, nil }
func (nobodyThere) Answer(string) (func(), error)              { return func() {}, nil }
func (nobodyThere) Call(context.Context, string) (bool, error) { return false, nil }

// alone starts a directory whose stream answers until cut is set.
func alone(t *testing.T, cut *atomic.Bool) *replicas.Directory {
	t.Helper()
	d, err := replicas.Start(t.Context(), replicas.Options{
		Self: "a", Boot: "a1", Key: []byte("k"), Wire: nobodyThere{}, Folded: func() (journal.Seq, uint64) { return 0, 0 },
		CatchUp: func(context.Context) error {
			if cut.Load() {
				return errors.New("cut")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPatience: a request waits as long as an election may take from when the stream was last heard, and not for long on a
// replica that has been cut off for longer than that.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Bool
		d := alone(t, &cut)
		defer d.Close()
		g := &Gateway{o: Options{Waker: &Waker{o: WakerOptions{Replicas: d}}}}
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/mcp", nil)
		if p := g.patience(r); p < routePatience-2*time.Second || p > routePatience {
			t.Errorf("%v while all is well", p)
		}
		cut.Store(true)
		time.Sleep(routePatience / 2)
		if p := g.patience(r); p > routePatience/2+time.Second || p < routePatience/4 {
			t.Errorf("%v in the middle of an outage", p)
		}
		time.Sleep(time.Minute)
		if p := g.patience(r); p != routeLeast {
			t.Errorf("%v when there is no hope", p)
		}
	})
}

// TestClaimsAreForgotten: a claim that nobody asks for any more is not kept for longer than it takes to be settled.
func TestClaimsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Bool
		d := alone(t, &cut)
		defer d.Close()
		w := &Waker{o: WakerOptions{Replicas: d}}
		ref := journal.NewSessionID().Ref()
		c := replicas.Claim{From: "b", Was: replicas.Where{Place: replicas.Silent}, Seq: 1, Since: time.Now()}
		w.took(ref, c)
		if _, ok := w.claims.from(ref); !ok {
			t.Error("it is not known")
		}
		time.Sleep(d.SettledWithin())
		synctest.Wait()
		if _, ok := w.claims.from(ref); ok {
			t.Error("it is still kept")
		}
		if err := d.Settled(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}
