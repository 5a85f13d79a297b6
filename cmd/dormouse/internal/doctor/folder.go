package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/journal"
)

// folder reports whether there is one to look at.
func (e *exam) folder() bool {
	dir := e.o.Store.Dir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.add("data folder", Fail, "name it with --data (or DORMOUSE_DATA); `dormouse serve` makes one at its first start", "%s does not exist", dir)
		return false
	case err != nil:
		e.add("data folder", Fail, "run doctor as the user who runs the daemon", "%v", err)
		return false
	case !info.IsDir():
		e.add("data folder", Fail, "", "%s is not a folder", dir)
		return false
	case info.Mode().Perm()&0o077 != 0:
		e.add("data folder", Warn, "chmod 700 "+dir, "%s can be entered by others (mode %04o)", dir, info.Mode().Perm())
	default:
		e.ok("data folder", "%s, mode %04o", dir, info.Mode().Perm())
	}
	return true
}

// files checks that secrets can be read by their owner alone.
func (e *exam) files() {
	for _, f := range []struct{ name, path string }{
		{"keyring file", e.keyFile()}, {"admin token", filepath.Join(e.o.Store.Dir, "admin.token")},
	} {
		info, err := os.Stat(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// The keyring's absence is told by the next check, the token's is no fault.
		case err != nil:
			e.add(f.name, Fail, "run doctor as the user who runs the daemon", "%v", err)
		case info.Mode().Perm()&0o077 != 0:
			e.add(f.name, Fail, "chmod 600 "+f.path, "%s can be read by others (mode %04o)", f.path, info.Mode().Perm())
		default:
			e.ok(f.name, "%s, mode %04o", f.path, info.Mode().Perm())
		}
	}
}

func (e *exam) keyFile() string {
	if e.o.Store.KeyFile != "" {
		return e.o.Store.KeyFile
	}
	return filepath.Join(e.o.Store.Dir, "keys")
}

// whoIsThere finds out whether a daemon runs.
func (e *exam) whoIsThere(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := control.Connect(ctx, e.o.Store.Dir)
	if err == nil {
		s, err := client.Status(ctx)
		if err != nil {
			e.add("daemon", Fail, "look at its log", "it does not answer on its control socket: %v", err)
			return
		}
		e.daemon = &s
		e.ok("daemon", "pid %d is %s, listens on %s, up since %s", s.PID, s.State, s.Listen, console.Stamp(s.Started, e.o.Now))
		return
	}
	locked, lockErr := store.Locked(e.o.Store.Dir)
	switch {
	case lockErr != nil:
		e.add("daemon", Fail, "run doctor as the user who runs the daemon", "the lock cannot be looked at: %v", lockErr)
	case locked:
		e.add("daemon", Warn, "another dormouse command may be at work: try again; a daemon of another user cannot be asked", "somebody has the folder open, and no daemon answers")
	default:
		e.stopped = true
		e.notRunning()
	}
}

func (e *exam) notRunning() {
	if d, err := control.ReadDaemon(e.o.Store.Dir); err == nil {
		e.ok("daemon", "not running; the last one (pid %d) ended without a shutdown, which loses no session", d.PID)
		return
	}
	e.ok("daemon", "not running")
}

// running takes the daemon's word for the journal: it has opened, read and checked all of it.
func (e *exam) running() {
	s := e.daemon
	e.latest = s.JournalTime
	switch s.State {
	case "ready":
		e.ok("journal", "%s, folded up to batch %d: %s, %d of them live; the keyring fits", s.Journal, s.Folded, views.Plural(s.Sessions, "session"), s.Live)
		e.ok("durability", "%s", s.Durability)
	default:
		e.add("journal", Skip, "try again once it is ready", "the daemon is %s: batch %d of %d", s.State, s.Folded, s.Target)
	}
	if s.Replicas != nil {
		e.replicas(s.Replicas)
	}
	e.journalID(s.Journal)
}

// journalID checks that the journal is the folder's.
func (e *exam) journalID(is string) {
	had, err := store.ReadJournalID(e.o.Store.Dir)
	switch {
	case err != nil:
		e.add("journal ID", Fail, "", "%v", err)
	case had != (journal.ID{}) && is != "" && had.String() != is:
		e.add("journal ID", Fail, "bring the right journal back, or start on another folder", "the folder's journal is %s, this one is %s", had, is)
	}
}
