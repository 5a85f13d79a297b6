package replay

import (
	"slices"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

func (s *State) create(e *journal.Event, at journal.Position) Refusal {
	c := e.Created
	if c == nil || c.Source == 0 || c.Timeout < time.Millisecond || c.Timeout > MaxTimeout {
		return RefusedMalformed
	}
	if _, ok := s.table.get(e.Ref); ok {
		return RefusedPresent
	}
	if s.ended.has(e.Ref) {
		return RefusedEnded
	}
	if s.ErasedKey(c.Tenant, c.Key) {
		return RefusedErased
	}
	r := record{ref: e.Ref, position: at, sealed: join(c.ID, c.Context), idLen: uint32(len(c.ID))}
	if why := s.dates(&r, c); why != accepted {
		return why
	}
	draft := profile{
		source: c.Source, timeout: c.Timeout.Truncate(time.Millisecond), label: c.Label, urlHash: c.URLHash,
		principal: c.Principal, idKey: c.Key, contextKey: c.Key, fingerprint: c.Fingerprint, protocol: c.Protocol,
	}
	r.profile = s.directory.join(c.Tenant, &draft, c.Initialize)
	s.memory = max(s.memory, draft.timeout)
	s.table.add(r)
	return accepted
}

// dates sets the times of a session to be created: a client's is new now, whatever its writer's clock
// says; an import has a past, which must not have run out.
func (s *State) dates(r *record, c *journal.Created) Refusal {
	if c.Source != journal.SourceImport {
		r.createdAt = s.heard(c.CreatedAt)
		r.lastAccess = r.createdAt
		return accepted
	}
	r.lastAccess = min(c.LastAccess, s.now)
	r.createdAt = min(c.CreatedAt, r.lastAccess)
	switch {
	case r.lastAccess.Add(c.Timeout) <= s.now:
		return RefusedExpired
	case r.lastAccess <= s.ended.horizon:
		return RefusedForgotten
	}
	return accepted
}

func join(a, b []byte) []byte {
	out := make([]byte, 0, len(a)+len(b))
	return append(append(out, a...), b...)
}

func (s *State) change(r *record, e *journal.Event) Refusal {
	c := e.Changed
	switch {
	case c == nil:
		return RefusedMalformed
	case e.Epoch < r.epoch:
		return RefusedEpoch
	case c.Tenant != r.profile.tenant.id:
		return RefusedTenant
	case c.URLHash != r.profile.urlHash:
		return RefusedURL
	case len(c.Context) > 0 && s.ErasedKey(c.Tenant, c.Key):
		return RefusedErased
	}
	if len(c.Context) > 0 {
		r.sealed = join(r.sealed[:r.idLen], c.Context)
	}
	s.reprofile(r, c)
	if c.LogLevel != "" || len(c.Subscribed)+len(c.Unsubscribed) > 0 {
		r.wishes = r.wishes.after(c)
	}
	return accepted
}

// reprofile gives the session another profile if the change touches what profiles hold.
func (s *State) reprofile(r *record, c *journal.Changed) {
	old := r.profile
	draft, initialize := *old, []byte(old.initialize.bytes())
	if len(c.Context) > 0 {
		draft.contextKey, draft.fingerprint = c.Key, c.Fingerprint
	}
	if c.Principal != "" {
		draft.principal = c.Principal
	}
	if len(c.Initialize) > 0 {
		initialize = c.Initialize
	}
	if c.Protocol != "" {
		draft.protocol = c.Protocol
	}
	if old.same(&draft, initialize) {
		return
	}
	r.profile = s.directory.join(old.tenant.id, &draft, initialize)
	s.directory.leave(old)
}

// after returns what the client wishes once c is folded. It shares no slice with its receiver, which may be nil.
func (w *wishes) after(c *journal.Changed) *wishes {
	var out wishes
	if w != nil {
		out.logLevel = w.logLevel
		out.subscriptions = slices.Clone(w.subscriptions)
	}
	if c.LogLevel != "" {
		out.logLevel = strings.Clone(c.LogLevel)
	}
	for _, uri := range c.Subscribed {
		if i, found := slices.BinarySearch(out.subscriptions, uri); !found {
			out.subscriptions = slices.Insert(out.subscriptions, i, strings.Clone(uri))
		}
	}
	for _, uri := range c.Unsubscribed {
		if i, found := slices.BinarySearch(out.subscriptions, uri); found {
			out.subscriptions = slices.Delete(out.subscriptions, i, i+1)
		}
	}
	return &out
}

// replica returns the name as the session already holds it, or a copy of its own.
func (r *record) replica(name journal.ReplicaID) journal.ReplicaID {
	if r.binding != nil && r.binding.replica == name {
		return r.binding.replica
	}
	return clone(name)
}

// with returns the binding with the upstream session that e records, if it does.
func (b *binding) with(e *journal.Bound) *binding {
	if len(e.Upstream) == 0 {
		return b
	}
	return &binding{at: b.at, replica: b.replica, upstream: slices.Clone(e.Upstream), upstreamKey: clone(e.Key)}
}
