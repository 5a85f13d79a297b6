package views

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
)

// Keys writes a table of the keys of a keyring.
func Keys(s console.Streams, k *control.Keys) {
	rows := make([][]string, 0, len(k.Keys))
	for i := range k.Keys {
		key := &k.Keys[i]
		made := "-"
		if !key.Made.IsZero() {
			made = key.Made.Local().Format("2006-01-02 15:04:05")
		}
		rows = append(rows, []string{key.Ring, key.ID, key.State, made, key.Fingerprint, use(key)})
	}
	console.Table(s.Out, []string{"ring", "key", "state", "made", "fingerprint", "seals"}, rows)
	fmt.Fprintf(s.Err, "keyring: %s\n", k.Source)
}

// use says what is under a key, as far as it was counted.
func use(k *control.Key) string {
	switch {
	case k.Wraps != nil:
		return Plural(*k.Wraps, "data key")
	case k.Batches != nil && *k.Batches == 1:
		return "1 batch"
	case k.Batches != nil:
		return strconv.FormatUint(*k.Batches, 10) + " batches"
	default:
		return "-"
	}
}

// Rotated says what came of a rotation, and what is to be done now.
func Rotated(s console.Streams, r *control.Rotated, offline bool) {
	for _, x := range r.Rings {
		switch {
		case r.Prepared:
			fmt.Fprintf(s.Out, "%s: %s is prepared (fingerprint %s), %s stays current\n", x.Ring, x.To, x.Fingerprint, x.From)
		default:
			fmt.Fprintf(s.Out, "%s: %s is current (fingerprint %s), after %s\n", x.Ring, x.To, x.Fingerprint, x.From)
		}
	}
	switch {
	case offline:
		fmt.Fprintf(s.Err, "%s is saved; daemons take it over at SIGHUP or at their next start\n", r.Source)
	case r.Prepared:
		fmt.Fprintf(s.Err, "give %s to every replica and send each SIGHUP; then rotate\n", r.Source)
	case r.Wrapped > 0:
		fmt.Fprintf(s.Err, "%s wrapped anew; back up %s again\n", Plural(r.Wrapped, "data key"), r.Source)
	default:
		fmt.Fprintf(s.Err, "back up %s again\n", r.Source)
	}
}

// Retired says which keys were dropped.
func Retired(s console.Streams, r *control.Rotated) {
	if len(r.Retired) == 0 {
		fmt.Fprintln(s.Err, "no older key of the tenant ring is without use")
		return
	}
	for _, id := range r.Retired {
		fmt.Fprintf(s.Out, "tenant: %s is retired\n", id)
	}
	fmt.Fprintf(s.Err, "it is gone from %s, but not from copies of that file\n", r.Source)
}

// Tenants writes a table of tenants.
func Tenants(s console.Streams, list []control.Tenant) {
	if len(list) == 0 {
		fmt.Fprintln(s.Err, "no tenants")
		return
	}
	now := time.Now()
	rows := make([][]string, 0, len(list))
	for i := range list {
		t := &list[i]
		rows = append(rows, []string{
			t.Tenant, orDash(t.Label), t.State, strconv.Itoa(t.Sessions), dataKeys(t), console.Ago(t.Since, now),
		})
	}
	console.Table(s.Out, []string{"tenant", "label", "state", "sessions", "data keys", "sealed since"}, rows, 4)
	for i := range list {
		for _, fault := range list[i].Faults {
			fmt.Fprintf(s.Err, "%s\n", console.Clean(fault))
		}
	}
}

// dataKeys lists a tenant's data keys with the keys that wrap them.
func dataKeys(t *control.Tenant) string {
	if len(t.Keys) == 0 {
		return "-"
	}
	var parts []string
	for _, k := range t.Keys {
		parts = append(parts, k.ID+"/"+strings.Join(k.Wraps, "+"))
	}
	return strings.Join(parts, " ")
}

// Erased says what came of an erasure.
func Erased(s console.Streams, t *control.Tenant, e *control.Erased) {
	name := console.Clean(Tenant(t.Label, t.Tenant))
	if len(e.Keys) == 0 && e.Deleted == 0 {
		fmt.Fprintf(s.Out, "nothing of tenant %s is left to erase\n", name)
		return
	}
	fmt.Fprintf(s.Out, "erased tenant %s: %s deleted, %s closed\n", name, Plural(e.Deleted, "data key"), Plural(e.Sessions, "session"))
	fmt.Fprintln(s.Err, "backups, exports and copies that were made before are yours to delete: see docs/keys.md")
}
