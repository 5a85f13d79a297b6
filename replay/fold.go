package replay

import (
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
	r, ok := s.table.own(e.Ref)
	if !ok {
		return s.absent(e.Ref)
	}
	switch e.Kind {
	case journal.KindOpened, journal.KindAccessed, journal.KindTouched:
		return s.access(r, e)
	case journal.KindChanged:
		return s.change(r, e)
	case journal.KindBound:
		return s.bind(r, e, at)
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

func (s *State) access(r *record, e *journal.Event) Refusal {
	if e.Epoch != 0 && e.Epoch < r.epoch {
		return RefusedEpoch
	}
	if at := s.heard(e.At); at > r.lastAccess {
		r.lastAccess = at
		s.table.accessed(r)
	}
	if e.Kind == journal.KindAccessed {
		r.calls++
	}
	return accepted
}

func (s *State) bind(r *record, e *journal.Event, at journal.Position) Refusal {
	b := e.Bound
	switch {
	case b == nil:
		return RefusedMalformed
	case len(b.Upstream) > 0 && s.ErasedKey(r.profile.tenant.id, b.Key):
		return RefusedErased
	case e.Epoch == r.epoch+1:
		r.epoch = e.Epoch
		r.binding = (&binding{at: at, replica: r.replica(b.Replica)}).with(b)
		return accepted
	case len(b.Upstream) == 0:
		return RefusedClaim
	case e.Epoch < r.epoch:
		return RefusedEpoch
	case e.Epoch > r.epoch || r.binding == nil || r.binding.replica != b.Replica || len(r.binding.upstream) > 0:
		return RefusedBinding
	}
	r.binding = r.binding.with(b)
	return accepted
}

func (s *State) expire(r *record, e *journal.Event) Refusal {
	switch {
	case e.Basis != r.lastAccess:
		return RefusedAccessed
	case r.expires() > s.now:
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
		if e.Epoch < r.epoch {
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
