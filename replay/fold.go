package replay

import (
	"math"

	"github.com/dormouse-mcp/dormouse/journal"
)

// fold is the transition function: it accepts the event and changes the state, or says why not and
// changes nothing.
func (s *State) fold(e *journal.Event, at journal.Position) Refusal {
	switch {
	case e.Kind == 0 || e.Kind > journal.LastKind:
		return UnknownKind
	case e.Kind.ForRecord():
		s.note(e)
		return accepted
	case e.Ref.IsZero():
		return RefusedMalformed
	case e.Kind == journal.KindCreated:
		return s.create(e, at)
	}
	r, p, ok := s.table.own(e.Ref)
	if !ok {
		return s.absent(e.Ref)
	}
	switch e.Kind {
	case journal.KindOpened, journal.KindAccessed, journal.KindTouched:
		return s.access(r, p, e)
	case journal.KindChanged:
		return s.change(r, p, e)
	case journal.KindBound:
		return s.bind(r, p, e, at)
	case journal.KindExpired:
		return s.expire(r, e)
	case journal.KindClosed:
		return s.close(r, e)
	default:
		return UnknownKind
	}
}

func (s *State) absent(ref journal.Ref) Refusal {
	if s.ended.has(ref) {
		return RefusedEnded
	}
	return RefusedUnknown
}

// heard returns when an event of that time counts as having happened, see AccessLag.
func (s *State) heard(at journal.Instant) journal.Instant {
	return min(max(at, s.now.Add(-AccessLag)), s.now)
}

func (s *State) access(r *record, p place, e *journal.Event) Refusal {
	if e.Epoch != 0 && e.Epoch < s.table.epoch(r) {
		return RefusedEpoch
	}
	if at := s.heard(e.At); at > r.lastAccess {
		r.lastAccess = at
		s.table.accessed(p)
	}
	if e.Kind == journal.KindAccessed && r.calls < math.MaxUint32 {
		r.calls++
	}
	return accepted
}

func (s *State) bind(r *record, p place, e *journal.Event, at journal.Position) Refusal {
	b := e.Bound
	if b == nil {
		return RefusedMalformed
	}
	common, now := s.directory.profiles.at(r.profile), s.table.body(r)
	switch {
	case len(b.Upstream) > 0 && s.ErasedKey(common.tenant.id, b.Key):
		return RefusedErased
	case e.Epoch == now.epoch+1:
		now.binding = binding{epoch: e.Epoch, at: at, replica: []byte(b.Replica)}
	case len(b.Upstream) == 0:
		return RefusedClaim
	case e.Epoch < now.epoch:
		return RefusedEpoch
	case e.Epoch > now.epoch || now.epoch == 0 || string(now.replica) != string(b.Replica) || len(now.upstream) > 0:
		return RefusedBinding
	}
	if len(b.Upstream) > 0 {
		now.upstream = b.Upstream
		now.setKey(b.Key, common.idKey)
	}
	s.table.rewrite(r, p, &now)
	return accepted
}

func (s *State) expire(r *record, e *journal.Event) Refusal {
	switch {
	case e.Basis != r.lastAccess:
		return RefusedAccessed
	case s.table.expires(r) > s.now:
		return RefusedNotDue
	}
	s.end(r)
	return accepted
}

func (s *State) close(r *record, e *journal.Event) Refusal {
	switch e.Reason {
	case 0:
		return RefusedMalformed
	case journal.ReasonClient, journal.ReasonAdmin, journal.ReasonErased:
	default:
		if e.Epoch < s.table.epoch(r) {
			return RefusedEpoch
		}
	}
	s.end(r)
	return accepted
}

// end removes a session and remembers its ref.
func (s *State) end(r *record) {
	ref, p := r.ref, r.profile
	s.table.remove(ref)
	s.directory.leave(p)
	s.ended.add(ref, s.now, s.now.Add(s.memory+EndedMargin))
}
