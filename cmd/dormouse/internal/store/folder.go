package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dormouse-mcp/dormouse/journal"
)

// prepareFolder makes the data folder with mode 0700 if it may.
func prepareFolder(dir string, create bool) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%w: %s is not a folder", ErrNoFolder, dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !create:
		return fmt.Errorf("%w: %s does not exist", ErrNoFolder, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700) // #nosec G302 -- a folder; whatever the umask made of it
}

func journalFile(dir string) string { return filepath.Join(dir, "journal.id") }

// ReadJournalID returns the journal that the folder has had; the zero ID if it has had none.
func ReadJournalID(dir string) (journal.ID, error) {
	data, err := os.ReadFile(journalFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return journal.ID{}, nil
	}
	if err != nil {
		return journal.ID{}, err
	}
	if len(data) > 0 && data[len(data)-1] == '\n' {
		data = data[:len(data)-1]
	}
	id, err := journal.ParseID(string(data))
	if err != nil {
		return id, fmt.Errorf("%s: %w", journalFile(dir), err)
	}
	return id, nil
}

// keepJournalID notes which journal this folder has.
func keepJournalID(dir string, id journal.ID) error {
	temp := journalFile(dir) + ".new"
	if err := writeSynced(temp, []byte(id.String()+"\n")); err != nil {
		return err
	}
	return os.Rename(temp, journalFile(dir))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
