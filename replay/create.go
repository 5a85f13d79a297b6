package replay

import (
	"slices"
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
	r := record{ref: e.Ref, position: packPosition(at)}
	if why := s.dates(&r, c); why != accepted {
		return why
	}
	draft := profile{
		source: c.Source, timeout: c.Timeout.Truncate(time.Millisecond), label: c.Label, urlHash: c.URLHash,
		principal: c.Principal, idKey: c.Key, contextKey: c.Key, fingerprint: c.Fingerprint, protocol: c.Protocol,
	}
	r.profile = s.directory.join(c.Tenant, &draft, c.Initialize)
	s.memory = max(s.memory, draft.timeout)
	s.table.add(&r, &body{id: c.ID, context: c.Context})
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

func (s *State) change(r *record, p place, e *journal.Event) Refusal {
	c := e.Changed
	if c == nil {
		return RefusedMalformed
	}
	common := s.directory.profiles.at(r.profile)
	switch {
	case e.Epoch < s.table.epoch(r):
		return RefusedEpoch
	case c.Tenant != common.tenant.id:
		return RefusedTenant
	case c.URLHash != common.urlHash:
		return RefusedURL
	case len(c.Context) > 0 && s.ErasedKey(c.Tenant, c.Key):
		return RefusedErased
	}
	s.reprofile(r, c)
	wishes := c.LogLevel != "" || len(c.Subscribed)+len(c.Unsubscribed) > 0
	if len(c.Context) == 0 && !wishes {
		return accepted
	}
	now := s.table.body(r)
	if len(c.Context) > 0 {
		now.context = c.Context
	}
	if wishes {
		now.wish(c)
	}
	s.table.rewrite(r, p, &now)
	return accepted
}

// reprofile gives the session another profile if the change touches what profiles hold.
func (s *State) reprofile(r *record, c *journal.Changed) {
	former := r.profile
	old := s.directory.profiles.at(former)
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
	s.directory.leave(former)
}

// wish folds what the client wishes from now on.
func (w *wishes) wish(c *journal.Changed) {
	if c.LogLevel != "" {
		w.logLevel = []byte(c.LogLevel)
	}
	for _, uri := range c.Subscribed {
		if i, found := slices.BinarySearch(w.subscriptions, uri); !found {
			w.subscriptions = slices.Insert(w.subscriptions, i, uri)
		}
	}
	for _, uri := range c.Unsubscribed {
		if i, found := slices.BinarySearch(w.subscriptions, uri); found {
			w.subscriptions = slices.Delete(w.subscriptions, i, i+1)
		}
	}
}
