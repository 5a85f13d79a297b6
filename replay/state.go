package replay

import (
	"iter"
	"math"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	// EndedMargin is how long, in journal time and beyond the longest timeout seen, the ref of an ended
	// session is remembered.
	EndedMargin = time.Hour

	// AccessLag is how long before the journal time of its batch an access may count as made. It is longer than
	// any honest batch takes to be stored, and shorter than any sensible timeout.
	AccessLag = 5 * time.Minute

	// MaxTimeout is the longest timeout a session may have. A created event with a longer one is
	// malformed.
	MaxTimeout = 366 * 24 * time.Hour
)

// State is the fold of a journal up to a sequence. Not safe for concurrent use: its readers may share
// it as long as nobody calls Apply.
type State struct {
	journal   journal.ID // zero until the first batch
	seq       journal.Seq
	now       journal.Instant
	memory    time.Duration // the longest timeout seen
	history   history
	table     table
	directory directory
	ended     ended
	erased    map[journal.TenantID]map[journal.KeyID]struct{}
	counters  counters

	losses   losses // accepted ones
	nextHole journal.Seq
	marks    []journal.Mark // still to be compared, by sequence
	proven   journal.Seq    // the last mark that fitted
	told     map[lossRange]struct{}
}

// lossRange is how an event names an accepted loss.
type lossRange struct{ from, to journal.Seq }

// NewState returns the state before the first batch.
func NewState() *State {
	p := newProfiles()
	return &State{
		history:   newHistory(),
		table:     newTable(p),
		directory: newDirectory(p),
		ended:     newEnded(),
		erased:    make(map[journal.TenantID]map[journal.KeyID]struct{}),
		counters:  counters{refused: make(map[Refusal]uint64)},
		nextHole:  math.MaxUint64,
		told:      make(map[lossRange]struct{}),
	}
}

// Journal returns the ID of the journal that was folded; zero before the first batch.
func (s *State) Journal() journal.ID { return s.journal }

// Seq returns the sequence of the last batch folded.
func (s *State) Seq() journal.Seq { return s.seq }

// Now returns journal time: the running maximum of the stream's timestamps.
func (s *State) Now() journal.Instant { return s.now }

// Root returns the history root up to Seq; zero before the first batch.
func (s *State) Root() journal.Root { return s.history.root }

// Len returns how many sessions are present. It costs nothing.
func (s *State) Len() int { return s.table.index.count }

// TenantLen returns how many sessions of a tenant are present. It costs a look-up.
func (s *State) TenantLen(t journal.TenantID) int { return s.directory.sessions(t) }

// Session returns the session of that ref, if it is present.
func (s *State) Session(ref journal.Ref) (Session, bool) {
	r, ok := s.table.get(ref)
	if !ok {
		return Session{}, false
	}
	return s.table.session(r), true
}

// Ended reports whether a session of that ref has ended and is still remembered.
func (s *State) Ended(ref journal.Ref) bool { return s.ended.has(ref) }

// All yields every session, by ref. It sorts all refs first.
func (s *State) All() iter.Seq[Session] { return s.copies(s.table.all()) }

// Due yields the sessions whose timeout has passed at now, by the caller's clock. It costs
// about as much as there is to yield. They stay present until an expired event is folded.
func (s *State) Due(now journal.Instant) iter.Seq[Session] { return s.copies(s.table.expired(now)) }

// Stats returns what was counted so far. The caller owns the maps.
func (s *State) Stats() Stats { return s.counters.stats() }

// ErasedKey reports whether that data key of the tenant was erased.
func (s *State) ErasedKey(t journal.TenantID, k journal.KeyID) bool {
	_, ok := s.erased[t][k]
	return ok
}

func (s *State) copies(records iter.Seq[*record]) iter.Seq[Session] {
	return func(yield func(Session) bool) {
		for r := range records {
			if !yield(s.table.session(r)) {
				return
			}
		}
	}
}
