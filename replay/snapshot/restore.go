package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// RestoreOptions says which snapshots may be restored from.
type RestoreOptions struct {
	Store   Store
	Sealer  Sealer
	Journal journal.ID
	Bounds  journal.Bounds // of the stream, as it was said to be
	// Stream, if not nil, is asked again when it seems to end before a good snapshot does, see replay.Reach. Nil: Bounds
	// are what they are.
	Stream replay.Source
	Losses []journal.Loss // accepted ones, all of them

	// Before, if not nil, is asked about each snapshot: only one for which it gives true may be taken.
	Before func(*Manifest) bool

	// Progress, if not nil, is told how many of a snapshot's sessions are loaded. It must not block.
	Progress func(loaded, of int)

	fold uint64 // this release's, for tests; 0 = replay.FoldVersion
}

// Restored is a state that a snapshot held.
type Restored struct {
	State    *replay.State // nil if there is no snapshot that can be used
	Manifest *Manifest     // nil likewise
	Passed   []Passed      // the newer snapshots that cannot be used, newest first
}

// Passed is a snapshot that was passed over.
type Passed struct {
	ID  journal.SnapshotID
	Seq journal.Seq // as far as it says so
	Err error
}

// Restore loads the newest snapshot that verifies. Those that do not are passed over, and named. It fails with
// ErrAhead, which is journal.ErrDamaged, if a good one tells that the stream has lost its end, and with the store's error or ctx's cause, because then
// nothing is known of them.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	list, broken, err := list(ctx, o.Store)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	out := &Restored{Passed: broken}
	for i := range list {
		m := &list[i]
		if o.Before != nil && !o.Before(m) {
			continue
		}
		s, err := o.load(ctx, m)
		switch {
		case err == nil:
			out.State, out.Manifest = s, m
			return out, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, ErrAhead), errors.Is(err, journal.ErrUnavailable):
			return nil, fmt.Errorf("restore: %w", err)
		}
		out.Passed = append(out.Passed, Passed{ID: m.ID, Seq: m.Seq, Err: err})
	}
	return out, nil
}

func (o *RestoreOptions) load(ctx context.Context, m *Manifest) (*replay.State, error) {
	if m.Journal != o.Journal {
		return nil, fmt.Errorf("%w: of %v", ErrForeign, m.Journal)
	}
	if fold := cmp.Or(o.fold, replay.FoldVersion); m.Fold == 0 || m.Fold > fold || m.Fold+1 < fold {
		return nil, fmt.Errorf("%w: the fold's is %d, this release's is %d", ErrVersion, m.Fold, fold)
	}
	x, err := m.open(o.Sealer) // before it is believed
	if err != nil {
		return nil, err
	}
	if err := o.fits(ctx, m, x.ledger.Losses); err != nil {
		return nil, err
	}
	var progress func(int)
	if o.Progress != nil {
		progress = func(n int) { o.Progress(n, m.Sessions) }
	}
	return Load(ctx, o.Store, o.Sealer, m, progress)
}

// fits checks that the stream goes on where the snapshot ends, and that nothing in it was declared lost later.
func (o *RestoreOptions) fits(ctx context.Context, m *Manifest, known []journal.Loss) (err error) {
	for _, l := range o.Losses {
		if l.From <= m.Seq && !slices.Contains(known, l) {
			return fmt.Errorf("loss %d, messages %d to %d: %w", l.Number, l.From, l.To, replay.ErrFolded)
		}
	}
	if m.Seq > o.Bounds.Last && o.Stream != nil {
		if o.Bounds, err = replay.Reach(ctx, o.Stream, m.Seq); err != nil {
			return err
		}
	}
	switch {
	case m.Seq > o.Bounds.Last:
		return fmt.Errorf("%w %v: %w", ErrAhead, m.ID, &replay.ShrunkError{Last: o.Bounds.Last, Folded: m.Seq})
	case m.Seq+1 < o.Bounds.First:
		return &replay.NeedsSnapshotError{From: m.Seq + 1, To: o.Bounds.First - 1}
	}
	return nil
}

// List returns the manifests of all complete snapshots, the newest state first. Those that cannot be read are left out.
func List(ctx context.Context, st Store) ([]Manifest, error) {
	manifests, _, err := list(ctx, st)
	return manifests, err
}

func list(ctx context.Context, st Store) (manifests []Manifest, broken []Passed, err error) {
	stored, err := st.Snapshots(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, x := range stored {
		if x.Manifest == nil {
			continue
		}
		m, err := ParseManifest(x.Manifest)
		if err == nil && m.ID != x.ID {
			err = fmt.Errorf("manifest: %w: of snapshot %v", journal.ErrMalformed, m.ID)
		}
		if err != nil {
			broken = append(broken, Passed{ID: x.ID, Err: err})
			continue
		}
		manifests = append(manifests, m)
	}
	slices.SortFunc(manifests, func(a, b Manifest) int {
		return -cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Taken, b.Taken), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return manifests, broken, nil
}
