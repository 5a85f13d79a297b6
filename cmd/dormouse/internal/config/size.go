package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrSize says that a text is no size. The message says what would be one.
var ErrSize = errors.New("not a size")

// Size is a number of bytes that reads with or without a unit ("64MiB", "1GB", "1048576"). It is never negative.
type Size int64

// Bytes returns s in bytes.
func (s Size) Bytes() int64 { return int64(s) }

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := ParseSize(string(text))
	*s = Size(n)
	return err
}

// ParseSize reads a whole number of bytes, kB, MB, GB, KiB, MiB or GiB. It fails with ErrSize for everything else.
func ParseSize(text string) (int64, error) {
	t := strings.TrimSpace(text)
	digits := t[:len(t)-len(strings.TrimLeft(t, "0123456789"))]
	unit, known := map[string]int64{
		"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
	}[strings.ToLower(strings.TrimSpace(t[len(digits):]))]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%w: %q (want 64MiB, 1GiB, 500MB, or bytes such as 1048576)", ErrSize, text)
	}
	return n * unit, nil
}
