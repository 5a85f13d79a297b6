package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Copy copies what a stopped store is opened from into an empty folder, the keyring aside, which is read where it is:
// opening rewrites a store, and what is damaged should stay as it was found.
func Copy(from, to string) error {
	for _, name := range []string{filepath.Base(journalFile(from)), filepath.Base(markFile(from)), filepath.Base(natsFile(from))} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o600) // #nosec G703 -- a folder of our own
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := os.CopyFS(filepath.Join(to, "jetstream"), os.DirFS(filepath.Join(from, "jetstream")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the whole of it is gone, which the copy's user will notice
	}
	return err
}
