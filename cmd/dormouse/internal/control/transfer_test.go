package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	broken := errors.New("broken")
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		const n = 3000
		endsWith := func(fail error) func(context.Context, func([]byte) error, func() error) (int, error) { // may run on when the client has left
			return func(_ context.Context, fn func([]byte) error, received func() error) (int, error) {
				for i := range n {
					if err := fn(fmt.Appendf(nil, `{"n":%d,"html":"<&>"}`, i)); err != nil {
						return i, err
					}
				}
				return n, errors.Join(received(), fail)
			}
		}
		f.backend.Export = endsWith(nil)
		i := 0
		got, err := c.Export(t.Context(), func(state []byte) error {
			if want := fmt.Sprintf(`{"n":%d,"html":"<&>"}`, i); string(state) != want {
				return fmt.Errorf("got %s, want %s", state, want)
			}
			i++
			return nil
		})
		if err != nil || got != n || i != n {
			t.Errorf("%d of %d: %v", got, i, err)
		}
		if _, err := c.Export(t.Context(), func([]byte) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("the caller's error: %v", err)
		}
		fail := errors.New("the journal is out of reach")
		f.backend.Export = endsWith(fail)
		if _, err := c.Export(t.Context(), func([]byte) error { return nil }); err == nil || err.Error() != fail.Error() {
			t.Errorf("the backend's error at the end: %v", err)
		}
		f.backend.Export = func(context.Context, func([]byte) error, func() error) (int, error) {
			return 0, &control.RefusedError{Err: fail, Hint: "do so"}
		}
		_, err = c.Export(t.Context(), func([]byte) error { return nil })
		if a, ok := errors.AsType[*control.APIError](err); !ok || a.Hint != "do so" {
			t.Errorf("refused: %v", err)
		}
	})
}

// A client that leaves in the last bytes, which no buffer tells from bytes that were read, has not got the export.
func TestExportIsReceived(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		ends := make(chan error, 1)
		f.backend.Export = func(_ context.Context, fn func([]byte) error, received func() error) (int, error) {
			for range 3 {
				if err := fn([]byte(`{"n":1}`)); err != nil {
					ends <- err
					return 0, err
				}
			}
			err := received()
			ends <- err
			return 3, err
		}
		if n, err := c.Export(t.Context(), func([]byte) error { return nil }); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := <-ends; err != nil {
			t.Errorf("it was received: %v", err)
		}
		left := errors.New("the disk is full")
		i := 0
		if _, err := c.Export(t.Context(), func([]byte) error {
			if i++; i == 3 {
				return left // everything has been sent by now
			}
			return nil
		}); !errors.Is(err, left) {
			t.Error(err)
		}
		if err := <-ends; err == nil {
			t.Error("it counts as received")
		}
	})
}

// many is an array that is far larger than what any pipe between here and there holds.
func many(n int) string {
	one := `{"sessionId":"` + strings.Repeat("x", 1000) + `"},`
	return "[" + strings.Repeat(one, n-1) + one[:len(one)-1] + "]"
}

func TestRestore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		stopAt, fail := 1<<30, error(nil)
		f.backend.Restore = func(_ context.Context, states iter.Seq[engine.SessionState]) (r engine.RestoreResult, err error) {
			for range states {
				if r.Restored == stopAt {
					break
				}
				r.Restored++
			}
			return r, fail
		}
		const n = 5000
		if r, err := c.Restore(t.Context(), strings.NewReader(many(n))); err != nil || r.Restored != n {
			t.Errorf("%+v, %v", r, err)
		}
		// It breaks off with most of the body unread: nobody may wait for the rest.
		stopAt, fail = 7, journal.ErrUnavailable
		if _, err := c.Restore(t.Context(), strings.NewReader(many(n))); err == nil || !strings.Contains(err.Error(), "7 sessions were restored before") {
			t.Errorf("out of reach: %v", err)
		}
		stopAt, fail = 1<<30, nil
		if _, err := c.Restore(t.Context(), strings.NewReader(many(n)[:1_000_000])); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("cut off: %v", err)
		}
		broken := io.MultiReader(strings.NewReader("["), brokenReader{})
		if _, err := c.Restore(t.Context(), broken); err == nil {
			t.Error("a body that cannot be read is taken")
		}
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }
