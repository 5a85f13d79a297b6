package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// VerifyOptions says how to verify.
type VerifyOptions struct {
	HeadersOnly bool // open nothing
	Progress    func(audit.VerifyProgress)
}

// Verify reads the whole journal and reports every place where it is not what was written. It works on a store that
// cannot be restored, too.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (*audit.Report, error) {
	const attempts = 3
	for try := 1; ; try++ {
		r, err := s.verify(ctx, o)
		if err != nil || r.Whole() || try == attempts {
			return r, err
		}
		// What a snapshot's taker trims meanwhile is not missing.
		b, err := s.Journal.Bounds(ctx)
		if err != nil || b.First <= r.First {
			return r, err
		}
	}
}

func (s *Store) verify(ctx context.Context, o VerifyOptions) (*audit.Report, error) {
	k, err := s.known(ctx) // before the bounds: the stream must reach them
	if err != nil {
		return nil, err
	}
	list, bounds, err := s.believed(ctx, &k)
	if err != nil {
		return nil, err
	}
	v := audit.VerifyOptions{
		Source: s.Journal, Bounds: bounds, Journal: s.Journal.ID(), Losses: k.losses, Progress: o.Progress,
		Marks: s.withSnapshots(list, &k, bounds),
	}
	if !o.HeadersOnly && !s.o.NoKeys {
		v.Opener, v.CheckKeys = s.Opener, s.keyFaults
	}
	var notes []string
	if s.snapshots.store != nil {
		if bounds.First > 1 && s.o.NoKeys {
			v.Trimmed = s.trimmedTo(ctx, bounds)
		} else if bounds.First > 1 {
			v.State, notes = s.oldestState(ctx, bounds, k.losses)
		}
	}
	r, err := audit.Verify(ctx, v)
	if err != nil {
		return nil, err
	}
	r.Notes = append(append(r.Notes, notes...), k.notes...)
	if s.guard.renewed && s.Follower == nil { // restored: it was accepted
		r.Add(audit.Fault{Kind: audit.FaultGone, Detail: s.gone(ctx, bounds)})
	} else {
		list, err := s.Journal.Renewals(ctx)
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			r.Notes = append(r.Notes, x.String())
		}
	}
	more, err := s.snapshotNotes(ctx, r.HeadersOnly)
	if err != nil {
		return nil, err
	}
	r.Notes = append(r.Notes, more...)
	for _, f := range s.mendedBeside(r) {
		r.Add(f)
	}
	return r, nil
}

// gone says what had to be made anew.
func (s *Store) gone(ctx context.Context, b journal.Bounds) string {
	what := "its streams are gone, or the server no longer takes their files for streams"
	if list, err := s.Journal.Renewals(ctx); err == nil && len(list) == 1 {
		what = "stream " + list[0].Stream + " is gone, or the server no longer takes its files for one"
	}
	if b.Last < b.First {
		return what + "; made anew over what is left of them, there is no message"
	}
	return fmt.Sprintf("%s; made anew over what is left of them, there are messages %d to %d", what, b.First, b.Last)
}

// mendedBeside returns what was taken out of block files as damaged and shows nowhere else, as a hole among the batches
// or a key that is missing does.
func (s *Store) mendedBeside(r *audit.Report) (faults []audit.Fault) {
	if s.server == nil || s.Follower != nil { // restored: it was accepted
		return nil
	}
	keys := slices.ContainsFunc(r.Faults, func(f audit.Fault) bool { return f.Kind == audit.FaultKey })
	holes := slices.ContainsFunc(r.Faults, func(f audit.Fault) bool { return f.Kind != audit.FaultKey })
	mended := s.server.Mended()
	for i := range mended {
		stream := mended[i].Stream
		if holes && stream == s.Journal.Batches() || keys && strings.HasSuffix(stream, "_KEYS") {
			continue
		}
		faults = append(faults, audit.Fault{Kind: audit.FaultBlock, Detail: mended[i].String()})
	}
	return faults
}

// trimmedTo returns up to where the oldest snapshot from which the stream goes on says that it reaches. Nobody without
// keys can prove it.
func (s *Store) trimmedTo(ctx context.Context, b journal.Bounds) (to journal.Seq) {
	list, err := snapshot.List(ctx, s.snapshots.store)
	if err != nil {
		return 0
	}
	for i := range list {
		if list[i].Seq+1 >= b.First {
			to = list[i].Seq // the newest comes first
		}
	}
	return to
}

// believed returns all snapshots, and what the stream holds, asked until it is as long as they and the marks say, or is
// to be believed that it is not.
func (s *Store) believed(ctx context.Context, k *known) (list []snapshot.Manifest, b journal.Bounds, err error) {
	if s.snapshots.store != nil {
		if list, err = snapshot.List(ctx, s.snapshots.store); err != nil {
			return nil, b, err
		}
	}
	highest, _ := replay.Highest(s.withSnapshots(list, k, b), k.losses)
	b, err = replay.Reach(ctx, s.Journal, highest.Seq)
	return list, b, err
}

// withSnapshots adds snapshots behind the stream's end to the marks: they show that it was longer once.
func (s *Store) withSnapshots(list []snapshot.Manifest, k *known, b journal.Bounds) []journal.Mark {
	marks := slices.Clip(k.marks)
	for i := range list {
		m := &list[i]
		if m.Seq <= b.Last || m.Journal != s.Journal.ID() {
			continue
		}
		mark := journal.Mark{
			Journal: m.Journal, Basis: journal.Basis{Seq: m.Seq}, Events: m.Events, Sessions: uint64(m.Sessions), When: m.Taken,
			Replica: journal.ReplicaID("that took snapshot " + m.ID.String()),
		}
		for _, l := range k.losses {
			if l.When <= m.Taken {
				mark.Losses = l.Number
			}
		}
		marks = append(marks, mark)
	}
	return marks
}

// snapshotNotes reads all snapshots and names those that cannot be used. That is no damage of the history: it can be
// folded without them, or a fault says so.
func (s *Store) snapshotNotes(ctx context.Context, headersOnly bool) (notes []string, err error) {
	if s.snapshots.store == nil || headersOnly {
		return nil, nil
	}
	list, err := snapshot.List(ctx, s.snapshots.store)
	if err != nil {
		return nil, err
	}
	for i := range list {
		err := snapshot.Verify(ctx, s.snapshots.store, s.snapshots.sealer, &list[i])
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err == nil:
		case s.superseded(ctx, &list[i]): // it was taken away meanwhile
		default:
			notes = append(notes, fmt.Sprintf("snapshot %v, of message %d, cannot be used: %v", list[i].ID, list[i].Seq, err))
		}
	}
	return notes, nil
}

func (s *Store) superseded(ctx context.Context, m *snapshot.Manifest) bool {
	list, err := snapshot.List(ctx, s.snapshots.store)
	return err == nil && !slices.ContainsFunc(list, func(x snapshot.Manifest) bool { return x.ID == m.ID })
}

// oldestState returns what the oldest good snapshot held from which a trimmed stream goes on.
func (s *Store) oldestState(ctx context.Context, b journal.Bounds, losses []journal.Loss) (*replay.State, []string) {
	list, err := snapshot.List(ctx, s.snapshots.store)
	if err != nil {
		return nil, []string{"snapshots: " + err.Error()}
	}
	var notes []string
	for _, oldest := range slices.Backward(list) {
		if oldest.Seq+1 < b.First {
			continue
		}
		r, err := snapshot.Restore(ctx, snapshot.RestoreOptions{
			Store: s.snapshots.store, Sealer: s.snapshots.sealer, Journal: s.Journal.ID(), Bounds: b, Losses: losses,
			Before: func(m *snapshot.Manifest) bool { return m.ID == oldest.ID },
		})
		switch {
		case err != nil:
			notes = append(notes, "snapshot "+oldest.ID.String()+": "+err.Error())
		case r.State != nil:
			return r.State, notes
		default:
			for _, p := range r.Passed {
				notes = append(notes, "snapshot "+p.ID.String()+": "+p.Err.Error())
			}
		}
	}
	return nil, notes
}

// keyFaults reports the tenants' keys that are not as they must be.
func (s *Store) keyFaults(ctx context.Context, st *replay.State) (faults []audit.Fault, err error) {
	orphans, err := s.orphans(ctx, func(fn func(*replay.State)) { fn(st) })
	for i := range orphans {
		o := &orphans[i]
		if _, ring := errors.AsType[*seal.RingKeyError](o.Err); ring {
			continue // a reading keyring, or not all of one: no damage
		}
		faults = append(faults, audit.Fault{
			Kind: audit.FaultKey, Tenant: o.Tenant.String(), Key: string(o.Key), Sessions: uint64(o.Sessions), Detail: o.String(),
		})
	}
	return faults, err
}
