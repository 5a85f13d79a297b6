package jetstream

import (
	"fmt"
	"sync"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

// chunkReader passes chunks on, of those in parts once all parts are there.
type chunkReader struct {
	fn  func(data []byte) error
	end chan error

	mu      sync.Mutex // held while fn runs
	stopped bool
	after   journal.Seq      // the last message that was passed on
	parts   map[int][][]byte // of chunks that are not complete yet
}

// stop returns why fn is not called any more, or else err. Afterwards fn is not running.
func (r *chunkReader) stop(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	select {
	case err = <-r.end:
	default:
	}
	return err
}

// position returns the last message that was passed on, unless one is being passed on just now.
func (r *chunkReader) position() (after journal.Seq, idle bool) {
	if !r.mu.TryLock() {
		return 0, false
	}
	defer r.mu.Unlock()
	return r.after, true
}

// handle runs on the subscription's goroutine.
func (r *chunkReader) handle(m js.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	meta, err := m.Metadata()
	if err != nil {
		err = fmt.Errorf("%w: %w", errBroken, err)
	} else {
		r.after = journal.Seq(meta.Sequence.Stream)
		err = r.pass(m)
	}
	if err != nil || meta.NumPending == 0 {
		r.stopped = true
		r.end <- err
	}
}

func (r *chunkReader) pass(m js.Msg) error {
	var number, part, parts int
	if _, err := fmt.Sscanf(m.Headers().Get(headerPart), "%d/%d/%d", &number, &part, &parts); err != nil || part < 1 || part > parts || parts > 1<<12 {
		return fmt.Errorf("chunk: %w: header %q", journal.ErrMalformed, m.Headers().Get(headerPart))
	}
	if parts == 1 {
		return r.fn(m.Data())
	}
	if r.parts == nil {
		r.parts = map[int][][]byte{}
	}
	got := r.parts[number]
	if len(got) != parts {
		got = make([][]byte, parts)
		r.parts[number] = got
	}
	got[part-1] = m.Data()
	var whole []byte
	for _, p := range got {
		if p == nil {
			return nil
		}
		whole = append(whole, p...)
	}
	delete(r.parts, number)
	return r.fn(whole)
}
