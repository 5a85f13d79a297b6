package journaltest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

func readFromAnywhere(u underTest) {
	t, h := u.t, u.Harness
	fill(t, h.Journal, 30)
	for _, after := range []journal.Seq{0, 1, 17, 29, 30} {
		messages, err := ReadAll(within(t), h.Journal, after)
		must(t, err)
		if len(messages) != int(30-after) {
			t.Fatalf("after %d: %d messages", after, len(messages))
		}
		for i, m := range messages {
			if m.Seq != after+journal.Seq(i+1) || !bytes.Equal(m.Data, payload(int(m.Seq))) {
				t.Fatalf("after %d: message %d is %d, %q", after, i, m.Seq, m.Data)
			}
		}
	}
	mine := errors.New("mine")
	if err := h.Journal.Read(within(t), 0, func(journal.Message) error { return mine }); err != mine { //nolint:errorlint // as it is
		t.Errorf("fn's error came back as %v", err)
	}
}

func readFollows(u underTest) {
	t, h := u.t, u.Harness
	ctx := within(t)
	seen := make(chan journal.Seq)
	end := make(chan error, 1)
	go func() {
		end <- h.Journal.Read(ctx, 0, func(m journal.Message) error {
			select {
			case seen <- m.Seq:
			case <-ctx.Done():
			}
			if m.Seq == 20 {
				return journal.ErrStop
			}
			return nil
		})
	}()
	w := journal.NewWriterID()
	for want := journal.Seq(1); want <= 20; want++ {
		_, err := h.Journal.Publish(ctx, w, want-1, payload(int(want)))
		must(t, err)
		select {
		case got := <-seen:
			if got != want {
				t.Fatalf("read %d, want %d", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("waited %v for message %d", patience, want)
		}
	}
	must(t, <-end)
}

func readStops(u underTest) {
	t, h := u.t, u.Harness
	fill(t, h.Journal, 50)
	why := errors.New("enough")
	for _, at := range []journal.Seq{10, 50} { // in the middle, and while it waits for more
		ctx, cancel := context.WithCancelCause(within(t))
		var stopped time.Time
		var after []journal.Seq
		err := h.Journal.Read(ctx, 0, func(m journal.Message) error {
			if ctx.Err() != nil {
				after = append(after, m.Seq)
			}
			if m.Seq == at {
				stopped = time.Now()
				cancel(why)
			}
			return nil
		})
		if !errors.Is(err, why) {
			t.Errorf("stopped at %d: %v", at, err)
		}
		if d := time.Since(stopped); d > patience/2 {
			t.Errorf("took %v to stop", d)
		}
		if len(after) > 40 {
			t.Errorf("got %v after the end", after)
		}
	}
}

func readReportsGap(u underTest) {
	t, h := u.t, u.Harness
	fill(t, h.Journal, 10)
	must(t, h.Remove(within(t), 5))
	must(t, h.Remove(within(t), 6))
	var last journal.Seq
	err := h.Journal.Read(within(t), 0, func(m journal.Message) error {
		last = m.Seq
		return nil
	})
	wantGap(t, err, 4, 7)
	if last != 4 {
		t.Errorf("read up to %d", last)
	}
	if rest, err := ReadAll(within(t), h.Journal, 6); err != nil || len(rest) != 4 {
		t.Errorf("behind the gap: %d messages, %v", len(rest), err)
	}
}

func wantGap(t *testing.T, err error, after, next journal.Seq) {
	t.Helper()
	var gap *journal.GapError
	if !errors.As(err, &gap) || gap.After != after || gap.Next != next || !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("got %v, want a gap from %d to %d", err, after, next)
	}
}

func readReportsTrim(u underTest) {
	t, h := u.t, u.Harness
	fill(t, h.Journal, 10)
	must(t, h.Journal.Trim(within(t), 6))
	never := func(m journal.Message) error {
		t.Errorf("read %d", m.Seq)
		return nil
	}
	wantGap(t, h.Journal.Read(within(t), 0, never), 0, 6)
	wantGap(t, h.Journal.Read(within(t), 4, never), 4, 6)
	if rest, err := ReadAll(within(t), h.Journal, 5); err != nil || len(rest) != 5 {
		t.Errorf("behind the trim: %d messages, %v", len(rest), err)
	}
	must(t, h.Journal.Trim(within(t), 11))
	wantGap(t, h.Journal.Read(within(t), 5, never), 5, 11)
}

func readReportsShorter(u underTest) {
	t, h := u.t, u.Harness
	fill(t, h.Journal, 5)
	err := h.Journal.Read(within(t), 6, func(journal.Message) error { return nil })
	if !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("reading on after 6 of 5 messages: %v", err)
	}
}

func manyReaders(u underTest) {
	t, h := u.t, u.Harness
	const n, readers = 200, 5
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range readers {
		wg.Go(func() {
			want := journal.Seq(1)
			err := h.Journal.Read(within(t), 0, func(m journal.Message) error {
				if m.Seq != want {
					t.Errorf("reader %d: got %d, want %d", i, m.Seq, want)
				}
				want++
				if m.Seq == n {
					return journal.ErrStop
				}
				return nil
			})
			if err != nil {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	fill(t, h.Journal, n)
}

// largeBatches reads more than any buffer on the way holds.
func largeBatches(u underTest) {
	t, h := u.t, u.Harness
	const n = 200
	w := journal.NewWriterID()
	data := bytes.Repeat([]byte("dormouse"), journal.MaxBatchBytes/8)
	for i := range n {
		data[0] = byte(i)
		_, err := h.Journal.Publish(within(t), w, journal.Seq(i), data)
		must(t, err)
	}
	start := time.Now()
	messages, err := ReadAll(within(t), h.Journal, 0)
	must(t, err)
	for i, m := range messages {
		if m.Data[0] != byte(i) || !bytes.Equal(m.Data[1:], data[1:]) {
			t.Fatalf("message %d is not what was published", i)
		}
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("reading %d MiB took %v", n/2, d)
	}
}
