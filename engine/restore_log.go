package engine

import (
	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
)

// securityLines is how many sessions of one restore, and how many failures, get a security line of their own. All
// others are counted in the summary, and have theirs at debug level: ten thousand lines at once hide what matters.
const securityLines = 100

// tellRestored writes the security line of a session that was taken in. r.mu is held.
func (r *restore) tellRestored(ref journal.Ref, instance string) {
	send(r.line("session_restore", r.result.Restored).Stringer("session", ref).Str("instance", instance), "session_restore")
}

// tellSkipped writes the security line of a session that was not. r.mu is held.
func (r *restore) tellSkipped(ref journal.Ref, err error) {
	send(r.line("session_restore_failed", r.result.Skipped.Total()).Stringer("session", ref).Str("reason", err.Error()), "session_restore_failed")
}

// line begins the nth security line of its kind.
func (r *restore) line(what string, n int) *zerolog.Event {
	if n <= securityLines {
		return r.e.security(what)
	}
	return r.e.log.Debug().Bool("security", true).Str("event", what) //nolint:zerologlint // the caller sends it
}

// tellAll writes the security line of the whole restore.
func (r *restore) tellAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	x, sk := &r.result, &r.result.Skipped
	if x.Restored+sk.Total() == 0 {
		return
	}
	untold := max(x.Restored-securityLines, 0) + max(sk.Total()-securityLines, 0)
	send(r.e.security("session_restore_summary").Int("count", x.Restored).Int("skipped", sk.Total()).
		Int("expired", sk.Expired).Int("duplicate", sk.Duplicate).Int("ended", sk.Ended).Int("invalid", sk.Invalid).
		Int("limit", sk.Limit).Int("untold", untold), "session_restore_summary")
}
