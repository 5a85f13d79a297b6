package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// ErrExposed says that a key file may be read by others than its owner.
var ErrExposed = errors.New("readable by others")

// maxKeyFile bounds what is read as a key file: room for some thousand keys.
const maxKeyFile = 1 << 20

// KeyFileError says what is wrong with a key file. errors.Is sees fs.ErrNotExist, ErrExposed and
// journal.ErrMalformed through it.
type KeyFileError struct {
	Path string
	Err  error
	// Hint is what the operator can do about it; empty when nothing can be said.
	Hint string
}

func (e *KeyFileError) Error() string { return fmt.Sprintf("key file %s: %v", e.Path, e.Err) }

func (e *KeyFileError) Unwrap() error { return e.Err }

// LoadOrCreate reads the keyring in a file. If there is no such file and mayCreate is set, it makes one
// with new keys, mode 0600, that is complete and on the disk before it has its name; of two processes that do so
// at once, one makes it and both return it.
//
// Errors are *KeyFileError: fs.ErrNotExist without mayCreate, ErrExposed if the group or everybody may
// read or write it, journal.ErrMalformed.
func LoadOrCreate(path string, mayCreate bool) (k *Keyring, created bool, err error) {
	k, err = Load(path)
	if !mayCreate || !errors.Is(err, fs.ErrNotExist) {
		return k, false, err
	}
	k = GenerateKeyring()
	switch err := write(path, k, os.Link); {
	case errors.Is(err, fs.ErrExist):
		k, err = Load(path)
		return k, false, err
	case err != nil:
		return nil, false, &KeyFileError{Path: path, Err: err, Hint: "the folder must exist and be writable"}
	}
	return k, true, nil
}

// Load reads the keyring in a file. Its errors are those of LoadOrCreate.
func Load(path string) (*Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		e := &KeyFileError{Path: path, Err: plain(err)}
		if errors.Is(err, fs.ErrNotExist) {
			e.Hint = "restore it from your copy, or name the right file; without it the journal cannot be opened"
		}
		return nil, e
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: plain(err)}
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, &KeyFileError{
			Path: path, Err: fmt.Errorf("%w: mode %04o", ErrExposed, info.Mode().Perm()),
			Hint: "chmod 600 " + path + ", and rotate the keys if others may have read it",
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: plain(err)}
	}
	k, err := ParseKeyring(text)
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: err, Hint: "bring it back from your copy: a key that is damaged cannot be guessed"}
	}
	return k, nil
}

// Save replaces the file by one with this keyring, mode 0600. After a crash there is the old file or the
// new one, whole. Its errors are *KeyFileError.
func Save(path string, k *Keyring) error {
	if err := write(path, k, os.Rename); err != nil {
		return &KeyFileError{Path: path, Err: err, Hint: "make sure that there is room on the disk and that the folder is writable"}
	}
	return nil
}

// SaveNew is Save for a file that must not be there yet: it fails with fs.ErrExist rather than replace one.
func SaveNew(path string, k *Keyring) error {
	err := write(path, k, os.Link)
	switch {
	case errors.Is(err, fs.ErrExist):
		return &KeyFileError{Path: path, Err: err, Hint: "name another file: one that is there may be a keyring, and is not replaced"}
	case err != nil:
		return &KeyFileError{Path: path, Err: err, Hint: "the folder must exist and be writable"}
	}
	return nil
}

// write puts the keyring on the disk under another name, then gives it its name by means of publish.
func write(path string, k *Keyring, publish func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // its mode is 0600
	if err != nil {
		return plain(err)
	}
	defer os.Remove(f.Name()) // after a rename there is nothing to remove
	_, err = f.Write(k.Text())
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return plain(err)
	}
	if err := publish(f.Name(), path); err != nil {
		return plain(err)
	}
	return syncDir(dir)
}

// syncDir makes a new name in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return plain(err)
	}
	err = d.Sync()
	if runtime.GOOS == "windows" {
		err = nil // folders cannot be synced there
	}
	return errors.Join(plain(err), d.Close())
}

// plain takes the path out of a file error: KeyFileError says it.
func plain(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	if l := (*os.LinkError)(nil); errors.As(err, &l) {
		return l.Err
	}
	return err
}
