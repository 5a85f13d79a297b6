package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// keyring checks that the keys can be read.
func (e *exam) keyring() {
	if e.o.Store.Keys != "" {
		if _, err := seal.ParseKeyring([]byte(e.o.Store.Keys)); err != nil {
			e.add("keyring", Fail, "correct DORMOUSE_KEYS", "DORMOUSE_KEYS: %v", err)
			return
		}
		e.ok("keyring", "DORMOUSE_KEYS holds one")
		return
	}
	_, _, err := seal.LoadOrCreate(e.keyFile(), false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.add("keyring", Fail, "bring it back from your backup, or name it with --key-file: without it the journal cannot be read", "%s is not there", e.keyFile())
	case err != nil:
		e.add("keyring", Fail, "bring it back from your backup", "%v", err)
	default:
		e.ok("keyring", "it can be read; do you have a backup of it?")
	}
}

// copied opens a copy of the stopped store and folds all of it.
func (e *exam) copied(ctx context.Context) {
	from := filepath.Join(e.o.Store.Dir, "jetstream")
	bytes, err := SizeOf(from)
	if errors.Is(err, fs.ErrNotExist) {
		e.noJournal()
		return
	}
	if err != nil {
		e.add("journal", Fail, "", "%v", err)
		return
	}
	if e.o.NoCopy {
		e.add("journal", Skip, "leave --no-copy out", "%s; not opened, because that needs a copy", Size(bytes))
		return
	}
	if free, _, err := space(os.TempDir()); err == nil && free < 2*bytes {
		e.add("journal", Skip, "point TMPDIR at a larger file system", "%s; there is no room for a copy in %s", Size(bytes), os.TempDir())
		return
	}
	temp, err := os.MkdirTemp("", "dormouse-doctor-")
	if err != nil {
		e.add("journal", Skip, "", "%v", err)
		return
	}
	defer os.RemoveAll(temp)
	if err := store.Copy(e.o.Store.Dir, temp); err != nil {
		e.add("journal", Skip, "", "copy: %v", err)
		return
	}
	e.open(ctx, temp, bytes)
}

func (e *exam) noJournal() {
	had, err := store.ReadJournalID(e.o.Store.Dir)
	if err == nil && had == (journal.ID{}) {
		e.ok("journal", "none yet: `dormouse serve` makes it")
		return
	}
	e.add("journal", Fail, "bring the folder back from a backup", "journal %s was here and is gone", had)
}

// open opens and folds the copy in dir.
func (e *exam) open(ctx context.Context, dir string, bytes uint64) {
	o := e.o.Store
	o.Dir, o.KeyFile, o.Create = dir, e.keyFile(), false
	s, err := store.Open(ctx, o)
	if err == nil {
		defer func() { _ = s.Close(context.WithoutCancel(ctx)) }()
		err = s.Restore(ctx)
	}
	if errors.Is(err, store.ErrNoFolder) {
		e.noJournal()
		return
	}
	if err != nil {
		e.add("journal", Fail, journalHint(err), "%v", err)
		return
	}
	p := s.Follower.Progress()
	s.Follower.View(func(st *replay.State) { e.latest = st.Now().Time() })
	e.ok("journal", "%s, %s: %d batches, %d events, %s restored in %s; the keyring fits (checked on a copy)",
		s.Journal.ID(), Size(bytes), p.Seq, p.Events, views.Plural(p.Sessions, "session"), console.Short(p.Elapsed))
	e.tenantKeys(ctx, s)
	e.ok("durability", "%s", s.Durability())
	e.journalID(s.Journal.ID().String())
}

// tenantKeys checks that the sessions that were restored can wake.
func (e *exam) tenantKeys(ctx context.Context, s *store.Store) {
	orphans, err := s.CheckKeys(ctx)
	if err != nil {
		e.add("tenant keys", Fail, "", "%v", err)
		return
	}
	for i := range orphans {
		e.add("tenant keys", Fail, "bring the folder back from a backup; until then these sessions cannot wake", "%v", &orphans[i])
	}
	if len(orphans) == 0 {
		e.ok("tenant keys", "every session's is there")
	}
}

func journalHint(err error) string {
	switch {
	case errors.Is(err, journal.ErrKeyMissing), errors.Is(err, journal.ErrWrongKey), errors.Is(err, store.ErrNoKeys):
		return "this keyring does not fit the journal: bring the right one back"
	case errors.Is(err, journal.ErrDamaged), errors.Is(err, store.ErrOtherJournal):
		return "keep the folder as it is: `dormouse verify` shows every place; bring it back from a backup, or go on without what is lost: `dormouse serve --accept-loss`"
	default:
		return ""
	}
}

// SizeOf adds up the files below dir.
func SizeOf(dir string) (n uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += uint64(info.Size())
		}
		return err
	})
	return n, err
}

// Size writes bytes for people.
func Size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n), -1
	for f >= unit && i < 4 {
		f /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}
