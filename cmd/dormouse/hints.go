package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// hinted adds the exit code and the operator's next step to what went wrong with a store.
func hinted(err error, data string) error {
	if k, ok := errors.AsType[*seal.KeyFileError](err); ok && k.Hint != "" {
		return console.Refused(err, "%s", k.Hint)
	}
	if r, ok := errors.AsType[*control.RefusedError](err); ok {
		return console.Refused(err, "%s", r.Hint)
	}
	if p, ok := errors.AsType[*store.PlaceError](err); ok {
		return console.Refused(err, "%s", p.Hint())
	}
	if k, ok := errors.AsType[*seal.RingKeyError](err); ok {
		return console.Refused(err, "another replica has rotated the keys since this keyring was copied, or it is another deployment's: bring the key file that has %s (compare with `dormouse keys list` there), and start again", k.ID)
	}
	if d, ok := errors.AsType[*store.DamageError](err); ok {
		return console.Refused(err, "%s", damageHint(d, data))
	}
	if _, ok := errors.AsType[*jetstream.BlockError](err); ok {
		return console.Refused(err, "keep a copy of %s as it is now; bring the folder back from a backup, or look at what would be lost with `dormouse verify` and then go on without it: `dormouse serve --accept-loss`", data)
	}
	if _, ok := errors.AsType[*store.GoneError](err); ok {
		return console.Refused(err, "bring the journal's files back from a backup, or start on another folder; `dormouse verify --data %s` shows what is left of it, and `dormouse serve --accept-loss` goes on with that", data)
	}
	if _, ok := errors.AsType[*store.OrphansError](err); ok {
		return console.Refused(err, "bring the folder back from a backup, its key stream at least; `dormouse serve --accept-loss` closes these sessions and goes on")
	}
	switch {
	case err == nil:
		return nil
	case isUsage(err):
		return err
	case errors.Is(err, store.ErrNaming):
		return console.Refused(err, "with it, every tenant would be taken for another one: bring back the key file that belongs here, its naming line included (replicas must have the same one; compare with `dormouse keys list`)")
	case errors.Is(err, store.ErrEnvironment):
		return console.Refused(err, "it must hold the text of a key file: DORMOUSE_KEYS=\"$(cat FILE)\"; or unset it to use the key file")
	case errors.Is(err, seal.ErrReading):
		return console.Refused(err, "bring the complete keyring to serve or to change anything; with this one `dormouse log` and `dormouse sessions ls` work")
	case errors.Is(err, replicas.ErrNameTaken):
		return console.Refused(err, "give every replica a name of its own with --replica-name; by default it is the host's")
	case errors.Is(err, jetstream.ErrOptions):
		return console.Usage(err, "see `dormouse serve --help`")
	case errors.Is(err, store.ErrInUse):
		return console.Refused(err, "stop that process, or take another folder with --data; to look inside, `dormouse sessions ls` and `dormouse log` work beside it")
	case errors.Is(err, daemon.ErrConfig):
		return console.Usage(err, "see `dormouse serve --help`")
	case errors.Is(err, daemon.ErrUnsafe):
		return console.Refused(err, "give --auth-token-file FILE, or --auth passthrough when the upstream checks credentials, or listen on 127.0.0.1")
	case errors.Is(err, store.ErrOtherJournal):
		return console.Refused(err, "bring the journal's files back from a backup, or start on another folder; %s/journal.id says which journal belongs here", data)
	case errors.Is(err, store.ErrNoKeys):
		return console.Refused(err, "bring the keyring back from your backup, or name it with --key-file; a new one could not read this journal")
	case errors.Is(err, store.ErrNoFolder):
		return console.Failed(err, "name the folder with --data (or DORMOUSE_DATA), or start `dormouse serve` to make one")
	case errors.Is(err, journal.ErrWrongKey), errors.Is(err, journal.ErrKeyMissing):
		return console.Refused(err, "this is not the keyring that sealed the journal: bring the right one back")
	case errors.Is(err, journal.ErrForeignBatch):
		return console.Failed(err, "something else wrote as this replica; start it again, which makes it a new writer")
	case errors.Is(err, journal.ErrDamaged):
		return console.Refused(err, "the journal is not what was written. Keep the folder as it is, and bring it back from a backup")
	case errors.Is(err, jetstream.ErrDiskFull), errors.Is(err, syscall.ENOSPC):
		return console.Failed(err, "free some room on that disk and start again; nothing that was answered is lost")
	case errors.Is(err, syscall.EADDRINUSE):
		return console.Failed(err, "another program listens there; choose another address with --listen or --admin-listen")
	default:
		return console.Failed(err, "")
	}
}

// damageHint says what the operator can do about damage.
func damageHint(d *store.DamageError, data string) string {
	hint := fmt.Sprintf("keep a copy of %s as it is now; bring the folder back from a backup, or look at all of it with `dormouse verify` and then go on without what is lost: `dormouse serve --accept-loss`", data)
	for i := range d.Report.Faults {
		if d.Report.Faults[i].Kind == audit.FaultEnds {
			return hint + ". Is an older copy of the folder in its place?"
		}
	}
	return hint
}

// answered gives what a daemon refused its exit code.
func answered(err error) error {
	a, ok := errors.AsType[*control.APIError](err)
	switch {
	case ok && a.Status == http.StatusBadRequest:
		return console.Usage(err, "%s", a.Hint)
	case ok && a.Status == http.StatusForbidden:
		return console.Refused(err, "%s", a.Hint)
	default:
		return err
	}
}

// isUsage reports whether err has an exit code already.
func isUsage(err error) bool {
	_, ok := errors.AsType[*console.Error](err)
	return ok
}

// oneLine keeps a message on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
