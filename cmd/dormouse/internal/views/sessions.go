// Package views renders what the control API tells for people.
package views

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
)

// Sessions writes a table of sessions, and a summary of it to standard error.
func Sessions(s console.Streams, sessions []control.Session) { SessionsAt(s, sessions, time.Now()) }

// SessionsAt is Sessions with the ages that they had then.
func SessionsAt(s console.Streams, sessions []control.Session, now time.Time) {
	if len(sessions) == 0 {
		fmt.Fprintln(s.Err, "no sessions")
		return
	}
	digits := abbreviation(sessions)
	rows := make([][]string, 0, len(sessions))
	counts := map[string]int{}
	for i := range sessions {
		x := &sessions[i]
		counts[x.State]++
		rows = append(rows, []string{
			x.Ref[:digits], Tenant(x.Label, x.Tenant), Principal(x.Principal), x.State, console.Ago(x.CreatedAt, now),
			console.Ago(x.LastAccess, now), console.Ago(x.ExpiresAt, now),
			strconv.FormatUint(x.Calls, 10), strconv.FormatUint(x.Epoch, 10),
		})
	}
	console.Table(s.Out, []string{"ref", "tenant", "principal", "state", "created", "last access", "expires", "calls", "epoch"}, rows, 8, 9)
	fmt.Fprintf(s.Err, "%s\n", summary(len(sessions), counts))
}

func summary(n int, counts map[string]int) string {
	var parts []string
	for _, state := range []string{control.StateLive, control.StateDormant, control.StateExpired} {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	return fmt.Sprintf("%s: %s", Plural(n, "session"), strings.Join(parts, ", "))
}

// Detail writes all about one session.
func Detail(s console.Streams, d control.Detail) {
	now := time.Now()
	pairs := [][2]string{{"ref", d.Ref}, {"state", d.State}}
	if d.State != control.StateEnded {
		pairs = append(pairs, known(&d, now)...)
	}
	console.Fields(s.Out, pairs)
	if len(d.Events) == 0 {
		return
	}
	fmt.Fprintf(s.Out, "\nlast %s\n", Plural(len(d.Events), "event"))
	write := EventLines(s.Out)
	for _, e := range d.Events {
		_ = write(e)
	}
}

func known(d *control.Detail, now time.Time) [][2]string {
	pairs := [][2]string{
		{"tenant", strings.TrimSpace(console.Clean(d.Label) + " " + d.Tenant)},
		{"principal", console.Clean(orDash(d.Principal))},
		{"client", client(d)},
		{"protocol", orDash(d.Protocol)},
		{"created", when(d.CreatedAt, now) + " by " + d.Source + ", event " + d.Position},
		{"last access", when(d.LastAccess, now)},
		{"expires", when(d.ExpiresAt, now) + ", " + console.Rough(time.Duration(d.TimeoutMS)*time.Millisecond) + " after the last access"},
		{"calls", strconv.FormatUint(d.Calls, 10)},
		{"bound", bound(d)},
		{"context", held(d.HasContext, d)},
	}
	if d.LogLevel != "" {
		pairs = append(pairs, [2]string{"log level", console.Clean(d.LogLevel)})
	}
	if len(d.Subscriptions) > 0 {
		for i := range d.Subscriptions {
			d.Subscriptions[i] = console.Clean(d.Subscriptions[i])
		}
		pairs = append(pairs, [2]string{"subscribed", strings.Join(d.Subscriptions, "\n")})
	}
	return pairs
}

func client(d *control.Detail) string {
	var info struct{ Name, Version string }
	if json.Unmarshal(d.Client, &info) != nil || info.Name == "" {
		return "-"
	}
	return console.Clean(strings.TrimSpace(info.Name + " " + info.Version))
}

func bound(d *control.Detail) string {
	if d.Epoch == 0 {
		return "never"
	}
	s := fmt.Sprintf("epoch %d by replica %s", d.Epoch, d.Replica)
	if d.HasUpstream {
		s += ", upstream session sealed"
	}
	return console.Clean(s)
}

func held(has bool, d *control.Detail) string {
	if !has {
		return "none"
	}
	return fmt.Sprintf("sealed under key %s (fingerprint %s)", d.Key, orDash(d.Fingerprint))
}

func when(at, now time.Time) string {
	return console.Stamp(at, now) + " (" + console.Ago(at, now) + ")"
}

// Tenant names a tenant for people: its label, or the beginning of its ID.
func Tenant(label, id string) string {
	if label != "" {
		return label
	}
	if strings.Trim(id, "0") == "" {
		return "-"
	}
	return id[:min(8, len(id))]
}

// Principal shortens the hash of a credential.
func Principal(p string) string {
	kind, hash, ok := strings.Cut(p, ":")
	if ok && kind == "credential" && len(hash) > 8 {
		return kind + ":" + hash[:8]
	}
	return orDash(p)
}

// Plural gives "1 session" or "2 sessions".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// abbreviation is how many digits keep the refs apart: eight, or more.
func abbreviation(sessions []control.Session) int {
	for digits := 8; digits < 32; digits++ {
		seen := make(map[string]bool, len(sessions))
		for i := range sessions {
			seen[sessions[i].Ref[:digits]] = true
		}
		if len(seen) == len(sessions) {
			return digits
		}
	}
	return 32
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
