package replay

import (
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// note folds an event for the record. Only an erasure concerns sessions.
func (s *State) note(e *journal.Event) {
	switch {
	case e.Note == nil:
	case e.Kind == journal.KindTenantErased:
		s.eraseKeys(e.Note.Tenant, e.Note.Keys)
	case e.Kind == journal.KindLossAccepted && e.Note.From > 0:
		s.told[lossRange{e.Note.From, e.Note.To}] = struct{}{}
	}
}

// Told reports whether an event says that the loss of these messages was accepted.
func (s *State) Told(from, to journal.Seq) bool {
	_, ok := s.told[lossRange{from, to}]
	return ok
}

// eraseKeys ends the tenant's sessions whose ID or context can no longer be opened, and forgets upstream
// sessions sealed under the erased keys: the gateway makes new ones.
func (s *State) eraseKeys(t journal.TenantID, keys []journal.KeyID) {
	if len(keys) == 0 {
		return
	}
	erased := s.erased[t]
	if erased == nil {
		erased = make(map[journal.KeyID]struct{})
		s.erased[t] = erased
	}
	for _, k := range keys {
		erased[clone(k)] = struct{}{}
	}
	if s.directory.sessions(t) == 0 {
		return
	}
	// By ref, because the order of ends is part of the state.
	for _, ref := range s.refsOf(t) {
		r, place, _ := s.table.own(ref)
		p, b := s.directory.profiles.at(r.profile), s.table.body(r)
		switch {
		case s.ErasedKey(t, p.idKey), s.ErasedKey(t, p.contextKey):
			s.end(r)
		case len(b.upstream) > 0 && s.ErasedKey(t, b.key(p.idKey)):
			b.upstream, b.upstreamKey, b.keyOfID = nil, nil, false
			s.table.rewrite(r, place, &b)
		}
	}
}

func (s *State) refsOf(t journal.TenantID) []journal.Ref {
	var refs []journal.Ref
	for r := range s.table.records() {
		if s.directory.profiles.at(r.profile).tenant.id == t {
			refs = append(refs, r.ref)
		}
	}
	slices.SortFunc(refs, compareRefs)
	return refs
}
