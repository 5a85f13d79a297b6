//go:build linux || darwin || freebsd

package jetstream

import "golang.org/x/sys/unix"

// freeBytes returns how much room there is for this process on a path's disk.
func freeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // the types differ between systems
}
