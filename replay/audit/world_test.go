package audit_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// tb is what testing.T and rapid.T share.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is a journal with real sealing, and the replicas that write into it.
type world struct {
	t       tb
	journal *memory.Journal
	keys    *seal.Keyring
	opener  *seal.BatchOpener
	names   int // of sessions

	archive []journal.Message // what was there before it was trimmed
	held    journal.Seq       // up to where there is a snapshot; zero: none
}

// trim takes a snapshot of the first messages and takes away some of those.
func (w *world) trim(held, before journal.Seq) {
	w.t.Helper()
	bounds, err := w.journal.Bounds(context.Background())
	w.must(err)
	for len(w.archive) < int(bounds.Last) {
		w.archive = append(w.archive, w.stored(journal.Seq(len(w.archive)+1)))
	}
	w.held = max(w.held, held)
	w.must(w.journal.Trim(context.Background(), min(before, w.held+1)))
}

// snapshot returns what it holds; nil if there is none.
func (w *world) snapshot() *replay.State {
	w.t.Helper()
	if w.held == 0 {
		return nil
	}
	s := replay.NewState()
	for _, m := range w.archive[:w.held] {
		b, err := w.opener.Open(m.Data)
		w.must(err)
		w.must(s.Apply(m, b))
	}
	return s
}

func newWorld(t tb) *world {
	k := seal.GenerateKeyring()
	return &world{t: t, journal: memory.New(), keys: k, opener: seal.NewBatchOpener(k)}
}

// replica is one boot: a writer and a follower.
type replica struct {
	w         *world
	name      journal.ReplicaID
	committer *commit.Committer
	follower  *replay.Follower
}

func (w *world) known() (losses []journal.Loss, marks []journal.Mark) {
	w.t.Helper()
	losses, err := w.journal.Marks().Losses(context.Background())
	w.must(err)
	marks, err = w.journal.Marks().Marks(context.Background())
	w.must(err)
	return losses, marks
}

// boot restores. It fails as a restart does.
func (w *world) boot(name journal.ReplicaID) (*replica, error) {
	w.t.Helper()
	losses, marks := w.known()
	follower, err := replay.Follow(context.Background(), replay.FollowOptions{
		Source: w.journal, Opener: w.opener, Journal: w.journal.ID(), Losses: losses, Marks: marks, State: w.snapshot(),
	})
	if err != nil {
		return nil, err
	}
	id := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(w.keys, id)
	w.must(err)
	committer, err := commit.New(commit.Options{
		Port: w.journal, Encoder: sealer, Journal: w.journal.ID(), Writer: id, Basis: follower.Basis,
		Linger: -1, AttemptTimeout: 5 * time.Millisecond, RetryEvery: time.Millisecond, MaxWait: time.Hour,
	})
	w.must(err)
	return &replica{w: w, name: name, committer: committer, follower: follower}, nil
}

func (w *world) start(name journal.ReplicaID) *replica {
	w.t.Helper()
	r, err := w.boot(name)
	w.must(err)
	return r
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// append stores events in a batch of their own, and waits until they are folded.
func (r *replica) append(events ...journal.Event) journal.Position {
	r.w.t.Helper()
	pos, err := r.committer.Append(context.Background(), events...)
	r.w.must(err)
	r.w.must(r.follower.WaitFor(context.Background(), pos.Seq))
	return pos
}

// create makes a session and returns its ref.
func (r *replica) create() journal.Ref {
	r.w.t.Helper()
	var ref journal.Ref
	r.append(r.w.created(&ref))
	return ref
}

// created is a new session's event. It sets its ref.
func (w *world) created(ref *journal.Ref) journal.Event {
	w.names++
	*ref = replaytest.Ref(w.names)
	now := journal.InstantOf(time.Now())
	return journal.Event{Kind: journal.KindCreated, Ref: *ref, At: now, Created: &journal.Created{
		Source: journal.SourceClient, ID: journal.Sealed("sealed"), Tenant: journal.TenantID{1}, Key: "k",
		Timeout: time.Hour, CreatedAt: now, LastAccess: now, Protocol: "2025-11-25",
	}}
}

func (*world) touched(ref *journal.Ref) journal.Event {
	return journal.Event{Kind: journal.KindTouched, Ref: *ref, At: journal.InstantOf(time.Now())}
}

func (r *replica) access(ref journal.Ref) journal.Position {
	return r.append(r.w.touched(&ref))
}

// mark writes the high-water mark.
func (r *replica) mark() journal.Mark {
	r.w.t.Helper()
	losses, _ := r.w.known()
	m := journal.Mark{Journal: r.w.journal.ID(), When: journal.InstantOf(time.Now()), Replica: r.name, Losses: uint32(len(losses))}
	r.follower.View(func(s *replay.State) {
		m.Basis = journal.Basis{Seq: s.Seq(), Root: s.Root()}
		m.Events, m.Sessions = s.Stats().Events, uint64(s.Len())
	})
	r.w.must(r.w.journal.Marks().PutMark(context.Background(), m))
	return m
}

// stop is a shutdown in order, crash is none.
func (r *replica) stop() {
	r.w.t.Helper()
	r.append(journal.Event{Kind: journal.KindReplicaStopped, At: journal.InstantOf(time.Now()), Note: &journal.Note{Replica: r.name}})
	r.w.must(r.committer.Close(context.Background()))
	r.mark()
	r.w.must(r.follower.Close())
}

func (r *replica) crash() {
	_ = r.follower.Close()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.committer.Close(gone)
}

func (w *world) verify(headersOnly bool) *audit.Report {
	w.t.Helper()
	r, err := w.tryVerify(headersOnly)
	w.must(err)
	return r
}

func (w *world) tryVerify(headersOnly bool) (*audit.Report, error) {
	w.t.Helper()
	losses, marks := w.known()
	o := audit.VerifyOptions{Source: w.journal, Opener: w.opener, Journal: w.journal.ID(), Losses: losses, Marks: marks, State: w.snapshot()}
	if headersOnly {
		o.Opener = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return audit.Verify(ctx, o)
}

// whole fails if either way of verifying finds anything.
func (w *world) whole() {
	w.t.Helper()
	for _, headersOnly := range []bool{false, true} {
		if r := w.verify(headersOnly); !r.Whole() {
			w.t.Fatalf("headers only %v: false alarm: %s", headersOnly, describe(r))
		}
	}
}

// accept does what serve --accept-loss does, and returns the replica that goes on.
func (w *world) accept(r *audit.Report) *replica {
	w.t.Helper()
	known, _ := w.known()
	for _, l := range r.Losses() {
		l.Number, l.Journal, l.Replica, l.When = uint32(len(known)+1), w.journal.ID(), "acceptor", journal.InstantOf(time.Now())
		w.must(w.journal.Marks().AddLoss(context.Background(), l))
		known = append(known, l)
	}
	rep := w.start("acceptor")
	for _, l := range known {
		told := false
		rep.follower.View(func(s *replay.State) { told = s.Told(l.From, l.To) })
		if !told {
			rep.append(journal.Event{Kind: journal.KindLossAccepted, At: l.When, Note: &journal.Note{Replica: "acceptor", From: l.From, To: l.To, Text: l.Text}})
		}
	}
	return rep
}

func describe(r *audit.Report) string {
	out := r.Verdict
	for i := range r.Faults {
		out += "\n  " + string(r.Faults[i].Kind) + " " + r.Faults[i].String()
	}
	return out
}

// stored reads a message as it is in the stream.
func (w *world) stored(seq journal.Seq) (m journal.Message) {
	w.t.Helper()
	err := w.journal.Read(context.Background(), seq-1, func(got journal.Message) error {
		m = got
		return journal.ErrStop
	})
	w.must(err)
	if m.Seq != seq {
		w.t.Fatalf("message %d: %v", seq, errors.New(fmt.Sprint("found ", m.Seq)))
	}
	return m
}
