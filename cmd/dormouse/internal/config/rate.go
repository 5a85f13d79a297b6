package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrRate says that a text is no rate. The message says what would be one.
var ErrRate = errors.New("not a rate")

// Rate is how often something may happen, written "100/m". The zero Rate is no limit, written "0".
type Rate struct {
	N   int
	Per time.Duration
}

// String returns the form that UnmarshalText reads.
func (r Rate) String() string {
	if r.N == 0 {
		return "0"
	}
	unit := r.Per.String()
	for name, d := range units() {
		if d == r.Per {
			unit = name
		}
	}
	return strconv.Itoa(r.N) + "/" + unit
}

// MarshalText returns String's bytes.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

func units() map[string]time.Duration {
	return map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}
}

// ParseRate reads a number by the second, minute or hour ("10/s", "600/m", "1000/h"), or "0" for no limit. It fails with
// ErrRate for everything else.
func ParseRate(s string) (Rate, error) {
	t := strings.TrimSpace(s)
	if t == "0" {
		return Rate{}, nil
	}
	number, unit, _ := strings.Cut(t, "/")
	per, known := units()[unit]
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || !known || n == 0 {
		return Rate{}, fmt.Errorf("%w: %q (want 10/s, 600/m or 1000/h; 0 for no limit)", ErrRate, t)
	}
	return Rate{N: int(n), Per: per}, nil
}
