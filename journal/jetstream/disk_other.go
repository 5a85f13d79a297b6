//go:build !(linux || darwin || freebsd)

package jetstream

import "errors"

// freeBytes cannot tell.
func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }
