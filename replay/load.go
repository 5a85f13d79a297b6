package replay

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Block is a number of sessions on their way into a state. Blocks can be filled in parallel, each by one goroutine.
type Block struct {
	commons []Session
	seed    uint64
	pages   []*page
	due     []bucket // of each page, the first
	common  []uint32 // of each record
	hashes  []uint32
	bodies  []byte
	used    int
	err     error
}

// NewBlock returns an empty block for that many sessions. Each will take what [Frozen.Common] names from one of the
// commons. bodies, unless it is nil, is where the bodies of the rows are, one after the other; it belongs to the
// block from then on.
func (l *Loader) NewBlock(commons []Session, sessions int, bodies []byte) *Block {
	return &Block{
		commons: commons, seed: l.s.table.index.seed, bodies: bodies,
		common: make([]uint32, 0, sessions), hashes: make([]uint32, 0, sessions),
	}
}

// Row takes in a session, whose body is the next one of the bodies.
func (b *Block) Row(row *Row) {
	offset := b.used
	b.used += len(row.Body)
	var now body
	if b.err == nil && (!now.decode(row.Body) || !now.canonical(row.Body)) {
		b.fail(row, "body")
	}
	if c := row.Common; b.err == nil && c < len(b.commons) && len(now.upstreamKey) > 0 && string(now.upstreamKey) == string(b.commons[c].IDKey) {
		b.fail(row, "key")
	}
	b.add(row, now.epoch, offset)
}

// Session takes in a session of the snapshots of former releases, in a block that was made without bodies. s is not
// kept.
func (b *Block) Session(common int, s *Session) {
	offset := b.used
	now := s.body()
	b.bodies = now.append(b.bodies, now.size())
	b.used = len(b.bodies)
	row := Row{
		Ref: s.Ref, Position: s.Position, CreatedAt: s.CreatedAt, LastAccess: s.LastAccess, Calls: s.Calls, Common: common,
	}
	if !slices.IsSorted(s.Subscriptions) {
		b.fail(&row, "order of the subscriptions")
	}
	b.add(&row, now.epoch, offset)
}

func (b *Block) fail(row *Row, what string) {
	if b.err == nil {
		b.err = fmt.Errorf("session %v: %w: %s", row.Ref, journal.ErrMalformed, what)
	}
}

// add refuses what no fold makes, so that nothing that follows can fail or panic.
func (b *Block) add(row *Row, epoch journal.Epoch, offset int) {
	switch {
	case row.Common < 0 || row.Common >= len(b.commons):
		b.fail(row, "profile")
	case row.Ref.IsZero():
		b.fail(row, "ref")
	case row.Position.Seq > maxSeq || row.Position.Index > maxIndex:
		b.fail(row, "position")
	case row.Calls > math.MaxUint32:
		b.fail(row, "calls")
	case offset > maxOffset:
		b.fail(row, "a block that is too large")
	}
	if b.err != nil {
		return
	}
	n := len(b.common)
	expires := bucketOf(row.LastAccess.Add(b.commons[row.Common].Timeout))
	if n == len(b.pages)*pageSize {
		b.pages, b.due = append(b.pages, new(page)), append(b.due, expires)
	}
	last := len(b.pages) - 1
	b.due[last] = min(b.due[last], expires)
	b.pages[last][n%pageSize] = record{
		ref: row.Ref, lastAccess: row.LastAccess, createdAt: row.CreatedAt, position: packPosition(row.Position),
		body: locationOf(0, offset).withEpoch(epoch), calls: uint32(row.Calls),
	}
	b.common = append(b.common, uint32(row.Common))
	b.hashes = append(b.hashes, hashRef(&row.Ref, b.seed))
}

// Loader makes a state of what a snapshot held. Not safe for concurrent use, but for NewBlock.
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
	if b.err == nil && b.used != len(b.bodies) {
		b.err = fmt.Errorf("snapshot: %w: bytes between the sessions", journal.ErrMalformed)
	}
	if b.err != nil || len(b.common) == 0 {
		return b.err
	}
	profiles, err := l.profiles(b)
	if err != nil {
		return err
	}
	t := &l.s.table
	if len(t.arena.slabs) == maxSlabs {
		return fmt.Errorf("snapshot: %w: too large", journal.ErrMalformed)
	}
	first := len(t.pages) * pageSize
	slab := t.arena.add(slab{
		data: b.bodies, live: len(b.bodies), runs: []run{{first: uint32(first), places: uint32(len(b.common))}},
	})
	for i, p := range b.pages {
		t.addPage(p)
		t.due.put(uint32(first/pageSize+i), b.due[i])
	}
	t.used = len(t.pages) * pageSize
	for i, common := range b.common {
		if i%pageSize == 0 {
			t.warmSlots(b.hashes[i:min(i+pageSize, len(b.hashes))])
		}
		p, h := place(first+i), b.hashes[i]
		r := t.at(p)
		r.profile = profiles[common]
		r.body |= locationOf(slab, 0)
		if _, _, twice := t.find(h, &r.ref); twice {
			return fmt.Errorf("session %v: %w: twice in a snapshot", r.ref, journal.ErrMalformed)
		}
		t.put(h, p)
	}
	for p := first + len(b.common); p < t.used; p++ {
		t.free = append(t.free, place(p))
	}
	return nil
}

// profiles takes the commons into the directory, once each.
func (l *Loader) profiles(b *Block) ([]profileID, error) {
	uses := make([]int, len(b.commons))
	for _, c := range b.common {
		uses[c]++
	}
	profiles := make([]profileID, len(b.commons))
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
	if g.Seq > maxSeq {
		return nil, fmt.Errorf("snapshot: %w: sequence %d", journal.ErrMalformed, g.Seq)
	}
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
func (d *directory) adopt(c *Session, sessions int) profileID {
	draft := profile{
		source: c.Source, timeout: c.Timeout, label: c.Label, urlHash: c.URLHash, principal: c.Principal,
		idKey: c.IDKey, contextKey: c.ContextKey, fingerprint: c.Fingerprint, protocol: c.Protocol,
	}
	id := d.join(c.Tenant, &draft, c.Initialize)
	p := d.profiles.at(id)
	p.sessions += sessions - 1
	p.tenant.sessions += sessions - 1
	return id
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
