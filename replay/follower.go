package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Follower keeps a State at the tail of a stream. Safe for concurrent use. It stops for good when the
// history it reads is damaged, has a gap or does not open: Done tells, Err says why and where.
type Follower struct {
	o       FollowOptions
	ctx     context.Context //nolint:containedctx // ends with Close; questions to the leader outlive their callers
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	started time.Time
	ready   chan struct{} // closed once the restore is done
	target  journal.Seq
	tail    tail
	asker   asker

	shrunk journal.Doubt // that the leader knows less than was folded; of the goroutine that asks

	mu    sync.RWMutex
	state *State

	lifeMu  sync.Mutex
	closing bool
	isReady bool
	took    time.Duration // of the restore
	err     error
	done    chan struct{} // closed once err is set

	reported time.Time // of the last Progress call
}

// Follow restores: it folds up to the last sequence that the leader names at the call, then returns
// and goes on folding in the background until Close. ctx is for the restore alone. An error is the
// source's or Err's; nothing is left running then.
func Follow(ctx context.Context, o FollowOptions) (*Follower, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if err := o.State.Accept(o.Losses...); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	o.State.Expect(o.Marks...)
	o.Source = Over(o.Source, o.Losses)
	bounds, err := awaitEnd(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := checkBounds(bounds, o.State); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	f := &Follower{
		o: o, started: started, target: o.State.losses.lastRead(bounds.Last), state: o.State, tail: newTail(),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	f.tail.basis = basisOf(o.State)
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	f.wg.Go(f.run)
	if err := f.awaitReady(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// awaitReady waits for the restore. On any error it stops everything first.
func (f *Follower) awaitReady(ctx context.Context) error {
	select {
	case <-f.ready:
		return nil
	case <-f.done:
	case <-ctx.Done():
		f.shut(context.Cause(ctx))
	}
	f.wg.Wait()
	return fmt.Errorf("restore: %w", f.Err())
}

// checkBounds checks that the stream can bring the state to its end.
func checkBounds(b journal.Bounds, s *State) error {
	switch next := s.Seq() + 1; {
	case b.First > next:
		return &NeedsSnapshotError{From: next, To: b.First - 1}
	case b.Last < s.Seq():
		return &ShrunkError{Last: b.Last, Folded: s.Seq()}
	}
	return nil
}

func basisOf(s *State) journal.Basis { return journal.Basis{Seq: s.Seq(), Root: s.Root()} }

// run reads until the follower is closed or the stream fails.
func (f *Follower) run() {
	r := restorer{f: f}
	if f.target > f.state.Seq() {
		r.pipe = startPipeline(f.o.Opener, f.o.Workers, f.fold)
	} else {
		f.restored()
	}
	err := f.o.Source.Read(f.ctx, f.tail.current().Seq, r.take)
	if failed := r.finish(); failed != nil {
		err = failed
	}
	if err == nil {
		err = errors.New("the source stopped reading without a reason")
	}
	f.stop(err)
}

// restorer takes messages: through the pipeline up to the target, one by one from then on, so that
// the tail costs no hand-over.
type restorer struct {
	f    *Follower
	pipe *pipeline // nil once the restore is done
}

func (r *restorer) take(m journal.Message) error {
	if r.pipe == nil {
		return r.f.fold([]opened{r.f.open(m)})
	}
	if err := r.pipe.push(m); err != nil {
		return err
	}
	if m.Seq < r.f.target {
		return nil
	}
	if err := r.finish(); err != nil {
		return err
	}
	r.f.restored()
	return nil
}

func (r *restorer) finish() error {
	if r.pipe == nil {
		return nil
	}
	p := r.pipe
	r.pipe = nil
	return p.finish()
}

// open opens a message, or takes it from this process's own committer.
func (f *Follower) open(m journal.Message) opened {
	if f.o.Own != nil {
		if h, _, err := journal.ParseHeader(m.Data); err == nil {
			digest := journal.DigestOf(m.Data)
			if events, ok := f.o.Own(h.Writer, h.Number, digest); ok {
				return opened{message: m, digest: digest, batch: &journal.Batch{Header: h, Events: events}}
			}
		}
	}
	return open(f.o.Opener, m)
}

// fold applies messages and tells those who wait. It is called by one goroutine at a time.
func (f *Follower) fold(items []opened) error {
	err := f.applyAll(items)
	f.tail.advance(basisOf(f.state))
	f.report(false)
	if f.o.Seen != nil && err == nil {
		f.tellSeen(items)
	}
	return err
}

func (f *Follower) tellSeen(items []opened) {
	for i := range items {
		if items[i].message.Seq > f.target {
			f.o.Seen(items[i].batch)
		}
	}
}

func (f *Follower) applyAll(items []opened) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range items {
		it := &items[i]
		if it.err != nil {
			return it.err
		}
		if f.o.Journal != (journal.ID{}) && it.batch.Journal != f.o.Journal {
			return damage(it.message, &it.batch.Header, fmt.Sprintf("belongs to journal %v, not to %v", it.batch.Journal, f.o.Journal))
		}
		if err := f.state.apply(it.message, it.digest, it.batch, nil); err != nil {
			return err
		}
		if err := f.state.CheckMarks(); err != nil {
			return err
		}
		if it.message.Seq > f.target {
			if err := f.checkTold(it); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkTold stops a follower that has folded what another replica accepted as lost meanwhile: from then on their
// histories differ.
func (f *Follower) checkTold(it *opened) error {
	for i := range it.batch.Events {
		e := &it.batch.Events[i]
		if e.Kind == journal.KindLossAccepted && e.Note != nil && e.Note.From > 0 && !f.state.losses.has(e.Note.From, e.Note.To) {
			return &UnknownLossError{Seq: it.message.Seq, Note: *e.Note}
		}
	}
	return nil
}

// restored marks the end of the restore.
func (f *Follower) restored() {
	f.lifeMu.Lock()
	f.isReady, f.took = true, time.Since(f.started)
	f.lifeMu.Unlock()
	f.report(true)
	close(f.ready)
}

// report calls Options.Progress during the restore, not too often.
func (f *Follower) report(end bool) {
	if f.o.Progress == nil || !end && time.Since(f.reported) < 100*time.Millisecond {
		return
	}
	select {
	case <-f.ready:
	default:
		f.reported = time.Now()
		f.o.Progress(f.Progress())
	}
}
