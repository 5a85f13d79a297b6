package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// An export that breaks off has handed sessions out, and leaves the trace of one.
func TestExportThatBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		h.create(alice(), nil)
		h.create(bob(), nil)
		gone := errors.New("the client is gone")
		export := func(ctx context.Context, failsAt int, leave func()) error {
			calls := 0
			n, err := h.ExportEach(ctx, func(engine.SessionState) error {
				if calls++; calls == failsAt {
					leave()
					return gone
				}
				return nil
			})
			if n != calls-1 {
				t.Errorf("%d of %d calls took one", n, calls)
			}
			return err
		}
		for _, failsAt := range []int{1, 2} {
			ctx, leave := context.WithCancel(t.Context())
			wantErr(t, export(ctx, failsAt, leave), gone)
			if !strings.Contains(h.log.String(), fmt.Sprintf(`"count":%d,"end":"broke off","message":"[SECURITY] session_export"`, failsAt)) {
				t.Errorf("log: %s", h.log)
			}
			if n := h.pen.events(journal.KindExported); len(n) != failsAt || n[failsAt-1].Note.Count != uint64(failsAt) || n[failsAt-1].Note.Text != "broke off" {
				t.Errorf("journaled: %+v", n)
			}
		}
		n, err := h.ExportReceived(t.Context(), func(engine.SessionState) error { return nil }, func() error { return gone })
		wantErr(t, err, gone)
		if last := h.pen.events(journal.KindExported); n != 2 || last[len(last)-1].Note.Count != 2 || last[len(last)-1].Note.Text != "broke off" {
			t.Errorf("nobody has said that all of it came: %d, %+v", n, last)
		}
		h.pen.down.Store(true)
		err = export(t.Context(), 1, func() {})
		h.pen.down.Store(false)
		wantErr(t, err, gone)
		wantErr(t, err, journal.ErrUnavailable)
	})
}
