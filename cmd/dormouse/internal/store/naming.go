package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// checkNaming refuses a keyring whose rings may fit and whose naming key does not: every tenant would be taken for
// another one, and every session's owner for a stranger. Nothing else would ever tell.
func (s *Store) checkNaming(ctx context.Context) error {
	k := s.Keyring()
	if complete := k.Complete() == nil; s.o.NoKeys || !complete {
		return nil // a reading keyring makes no names
	}
	name := k.Name("naming-fingerprint")
	want, stored := hex.EncodeToString(name[:]), s.Journal.Naming()
	if stored == "" && s.o.Create {
		var err error
		if stored, err = s.Journal.SetNaming(ctx, want); err != nil {
			s.o.Logger.Warn().Err(err).Msg("which naming key this journal has could not be noted: one that is another will not be noticed")
			return nil // who may not update streams serves all the same
		}
	}
	if stored != "" && stored != want {
		return fmt.Errorf("%w: its fingerprint is %s, the journal's is %s", ErrNaming, want[:8], stored[:min(8, len(stored))])
	}
	return nil
}

// checkKeyFile refuses to make a keyring where an operator has named a file that is not there: its name may be wrong.
func checkKeyFile(o *Options) error {
	if o.KeyFile == "" || o.Keys != "" || o.NoKeys || !o.Create {
		return nil
	}
	if had, err := ReadJournalID(o.Dir); err != nil || had != (journal.ID{}) {
		return nil //nolint:nilerr // what comes next will say so
	}
	if _, err := os.Stat(o.KeyFile); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &seal.KeyFileError{
		Path: o.KeyFile, Err: fs.ErrNotExist,
		Hint: "correct --key-file, or make the file: `dormouse keys new " + o.KeyFile + "`. Without --key-file a keyring is made in the data folder",
	}
}

// The file nats says that this folder's journal is in a NATS of the operator's: its URLs, without passwords, and the
// prefix, a line each.
func natsFile(dir string) string { return filepath.Join(dir, "nats") }

// checkPlace refuses to look for a journal where this folder does not have it.
func (s *Store) checkPlace() error {
	data, err := os.ReadFile(natsFile(s.o.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	urls, rest, _ := strings.Cut(string(data), "\n")
	prefix, _, _ := strings.Cut(rest, "\n")
	switch {
	case s.o.NATSURL == "":
		return &PlaceError{URL: urls, Prefix: prefix}
	case prefix != "" && prefix != s.prefix():
		return &PlaceError{URL: urls, Prefix: prefix, Asked: s.prefix()}
	default:
		return nil
	}
}

// keepPlace notes where the journal is.
func (s *Store) keepPlace() error {
	if s.o.NATSURL == "" {
		return nil
	}
	text := redacted(s.o.NATSURL) + "\n" + s.prefix() + "\n"
	if data, err := os.ReadFile(natsFile(s.o.Dir)); err == nil && string(data) == text {
		return nil
	}
	return os.WriteFile(natsFile(s.o.Dir), []byte(text), 0o600)
}

func (s *Store) prefix() string {
	if s.o.Prefix == "" {
		return jetstream.DefaultPrefix
	}
	return s.o.Prefix
}

// PlaceError says that this folder's journal is in a NATS of the operator's, and was looked for elsewhere. Nothing was
// changed.
type PlaceError struct {
	URL    string // without passwords
	Prefix string
	Asked  string // the prefix that was asked for; empty: the journal was looked for in the folder
}

func (e *PlaceError) Error() string {
	if e.Asked != "" {
		return fmt.Sprintf("this folder's journal has the prefix %s, not %s", e.Prefix, e.Asked)
	}
	return fmt.Sprintf("this folder's journal is in the NATS at %s", e.URL)
}

// Hint tells the operator what to pass.
func (e *PlaceError) Hint() string {
	flags := "--nats-url"
	if e.Asked == "" {
		flags += " " + e.URL + " (or DORMOUSE_NATS_URL)"
	}
	if e.Prefix != jetstream.DefaultPrefix || e.Asked != "" {
		flags += " and --nats-prefix " + e.Prefix
	}
	return "pass " + flags + ", as to `dormouse serve`; to keep another journal, take another folder"
}
