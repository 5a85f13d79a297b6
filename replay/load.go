package replay

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Block is a number of sessions on their way into a state. Blocks can be filled in parallel, each by one goroutine.
type Block struct {
	commons []Session
	pages   []*page
	common  []uint32 // of each record
	err     error
}

// NewBlock returns an empty block for about that many sessions. Each will take from one of the commons what [Alike]
// names.
func NewBlock(commons []Session, sessions int) *Block {
	return &Block{commons: commons, common: make([]uint32, 0, sessions)}
}

// Add takes in a session: what the commons do not say is from s. sealed is its ID, of idLen bytes, and its context. s
// is not kept; sealed, the upstream session and the subscriptions are, and must not change.
func (b *Block) Add(common int, s *Session, sealed []byte, idLen int) {
	n := len(b.common)
	if n == len(b.pages)*pageSize {
		b.pages = append(b.pages, new(page))
	}
	b.common = append(b.common, uint32(common))
	r := &b.pages[n/pageSize][n%pageSize]
	*r = record{
		ref: s.Ref, sealed: sealed, idLen: uint32(idLen), position: s.Position, createdAt: s.CreatedAt,
		lastAccess: s.LastAccess, epoch: s.Epoch, calls: s.Calls,
	}
	if s.Epoch > 0 {
		r.binding = &binding{at: s.BoundAt, replica: s.Replica, upstream: s.Upstream, upstreamKey: s.UpstreamKey}
	}
	if s.LogLevel != "" || len(s.Subscriptions) > 0 {
		r.wishes = &wishes{logLevel: s.LogLevel, subscriptions: s.Subscriptions}
	}
	if b.err == nil {
		b.err = b.check(common, s, sealed, idLen)
	}
}

// check refuses what no fold makes, so that nothing that follows can fail or panic.
func (b *Block) check(common int, s *Session, sealed []byte, idLen int) error {
	what := ""
	switch {
	case common < 0 || common >= len(b.commons):
		what = "profile"
	case s.Ref.IsZero():
		what = "ref"
	case idLen < 0 || idLen > len(sealed):
		what = "sealed ID"
	case !slices.IsSorted(s.Subscriptions):
		what = "order of the subscriptions"
	default:
		return nil
	}
	return fmt.Errorf("session %v: %w: %s", s.Ref, journal.ErrMalformed, what)
}

// Loader makes a state of what a snapshot held. Not safe for concurrent use.
type Loader struct {
	s *State
}

// NewLoader returns a loader with room for that many sessions.
func NewLoader(roomFor int) *Loader {
	s := NewState()
	s.table.index = newIndex(roomFor)
	s.table.pages = make([]*page, 0, roomFor/pageSize+1)
	return &Loader{s: s}
}

// Take moves the block's sessions into the state. It fails with journal.ErrMalformed; the loader is of no use then.
func (l *Loader) Take(b *Block) error {
	if b.err != nil {
		return b.err
	}
	profiles, err := l.profiles(b)
	if err != nil {
		return err
	}
	t := &l.s.table
	first := len(t.pages) * pageSize
	for _, p := range b.pages {
		t.pages = append(t.pages, p)
		t.since = append(t.since, t.freezes)
	}
	t.used = len(t.pages) * pageSize
	for i, common := range b.common {
		p := place(first + i)
		r := t.at(p)
		r.profile = profiles[common]
		h := t.index.hash(&r.ref)
		if _, _, twice := t.find(h, &r.ref); twice {
			return fmt.Errorf("session %v: %w: twice in a snapshot", r.ref, journal.ErrMalformed)
		}
		t.index.put(h, p)
		t.schedule(p)
	}
	for p := first + len(b.common); p < t.used; p++ {
		t.free = append(t.free, place(p))
	}
	return nil
}

// profiles takes the commons into the directory, once each.
func (l *Loader) profiles(b *Block) ([]*profile, error) {
	uses := make([]int, len(b.commons))
	for _, c := range b.common {
		uses[c]++
	}
	profiles := make([]*profile, len(b.commons))
	for i := range b.commons {
		c := &b.commons[i]
		if c.Source == 0 || c.Timeout < time.Millisecond || c.Timeout > MaxTimeout {
			return nil, fmt.Errorf("snapshot: %w: source %d, timeout %v", journal.ErrMalformed, c.Source, c.Timeout)
		}
		if uses[i] > 0 {
			profiles[i] = l.s.directory.adopt(c, uses[i])
		}
	}
	return profiles, nil
}

// Finish returns the state of the sessions taken and of a ledger, whose slices belong to the state from then on. It
// fails with journal.ErrMalformed if they do not belong together.
func (l *Loader) Finish(g *Ledger) (*State, error) {
	s := l.s
	if s.Len() != g.Sessions {
		return nil, fmt.Errorf("snapshot: %w: %d sessions where it says %d", journal.ErrMalformed, s.Len(), g.Sessions)
	}
	s.journal, s.seq, s.now, s.memory = g.Journal, g.Seq, g.Now, g.Memory
	for _, k := range g.Erased {
		if s.erased[k.Tenant] == nil {
			s.erased[k.Tenant] = make(map[journal.KeyID]struct{})
		}
		s.erased[k.Tenant][k.Key] = struct{}{}
	}
	if err := errors.Join(s.history.load(g), s.ended.load(g), s.counters.load(&g.Stats)); err != nil {
		return nil, err
	}
	for ref := range s.ended.refs {
		if _, ok := s.table.get(ref); ok {
			return nil, fmt.Errorf("snapshot: %w: session %v is both present and ended", journal.ErrMalformed, ref)
		}
	}
	s.table.advance(s.now)
	s.losses = s.losses.with(g.Losses)
	s.nextHole = s.losses.next(s.seq)
	for _, x := range g.Losses {
		s.told[lossRange{x.From, x.To}] = struct{}{} // before anything else was appended
	}
	s.proven = s.seq
	return s, nil
}

// adopt is join for several sessions at once.
func (d *directory) adopt(c *Session, sessions int) *profile {
	draft := profile{
		source: c.Source, timeout: c.Timeout, label: c.Label, urlHash: c.URLHash, principal: c.Principal,
		idKey: c.IDKey, contextKey: c.ContextKey, fingerprint: c.Fingerprint, protocol: c.Protocol,
	}
	p := d.join(c.Tenant, &draft, c.Initialize)
	p.sessions += sessions - 1
	p.tenant.sessions += sessions - 1
	return p
}

func (h *history) load(l *Ledger) error {
	hashes := make([][]byte, len(l.Frontier))
	for i := range l.Frontier {
		hashes[i] = bytes.Clone(l.Frontier[i][:])
	}
	f := &compact.RangeFactory{Hash: hashChildren}
	tree, err := f.NewRange(0, l.Size, hashes)
	if err != nil {
		return fmt.Errorf("snapshot: history tree: %w: %w", journal.ErrMalformed, err)
	}
	h.tree = tree
	if l.Size > 0 {
		root, err := tree.GetRootHash(nil)
		if err != nil || journal.Root(root) != l.Root {
			return fmt.Errorf("snapshot: history tree: %w: its root is another one", journal.ErrMalformed)
		}
		h.root, h.recent, h.since = l.Root, []journal.Root{l.Root}, l.Seq
	}
	h.forgot = forgot{l.Forgot.Writers, l.Forgot.Seq, l.Forgot.Seen}
	for i := range l.Writers {
		w := &l.Writers[i]
		h.writers[w.Writer] = &writer{number: w.Number, last: w.Last, seq: w.Seq, seen: w.Seen, stopped: w.Stopped}
	}
	return nil
}

func (e *ended) load(l *Ledger) error {
	e.queue, e.horizon = l.Ended, l.Horizon
	e.refs = make(map[journal.Ref]struct{}, len(l.Ended))
	for i := range l.Ended {
		e.refs[l.Ended[i].Ref] = struct{}{}
		if i > 0 && l.Ended[i].Forget < l.Ended[i-1].Forget {
			return fmt.Errorf("snapshot: ended sessions: %w: not in order", journal.ErrMalformed)
		}
	}
	return nil
}

func (c *counters) load(s *Stats) error {
	c.batches, c.events, c.unknown, c.lost = s.Batches, s.Events, s.Unknown, s.Lost
	for k, n := range s.Accepted {
		if k > journal.LastKind {
			return fmt.Errorf("snapshot: counters: %w: %v", journal.ErrMalformed, k)
		}
		c.accepted[k] = n
	}
	for why, n := range s.Refused {
		c.refused[Refusal(strings.Clone(string(why)))] = n
	}
	return nil
}
