package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
)

// Locked reports whether some process has the folder open. It looks without waiting and leaves no file behind.
func Locked(dir string) (bool, error) {
	path := filepath.Join(dir, "lock")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	l := flock.New(path)
	got, err := l.TryLock()
	if err != nil {
		return false, err
	}
	if !got {
		return true, nil
	}
	return false, l.Unlock()
}

// Claimable fails with ErrInUse if some process has the folder open just now.
func Claimable(dir string) error {
	locked, err := Locked(dir)
	if err == nil && locked {
		err = inUse(dir)
	}
	return err
}

// inUse says who holds the folder, as far as that is known.
func inUse(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	d, err := control.ReadDaemon(dir)
	if err != nil || d.PID == 0 {
		return fmt.Errorf("%w: %s has %s open", ErrInUse, holder(dir), abs)
	}
	return fmt.Errorf("%w: dormouse serve, pid %d, has %s open since %s and listens on %s",
		ErrInUse, d.PID, abs, d.Started.Local().Format("2006-01-02 15:04:05"), d.Listen)
}

// holder names who holds the lock by the number in its file.
func holder(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "lock"))
	if pid := strings.TrimSpace(string(data)); err == nil && pid != "" {
		return "another dormouse process, pid " + pid + ","
	}
	return "another dormouse process"
}
