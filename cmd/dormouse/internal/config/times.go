package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrTime says that a text names no point in time. The message says what would.
var ErrTime = errors.New("not a time")

// ParseTime reads a point in time as people write it: RFC 3339, "2006-01-02 15:04[:05]", "15:04[:05]"
// (the latest such time that is not after now), or how long ago ("10m", "1h30m ago"). Times without a zone
// are in now's location. It fails with ErrTime.
func ParseTime(s string, now time.Time) (time.Time, error) {
	t := strings.TrimSpace(s)
	if at, err := time.Parse(time.RFC3339Nano, t); err == nil {
		return at, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, t, now.Location()); err == nil {
			return at, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if at, err := time.ParseInLocation(layout, t, now.Location()); err == nil {
			return latest(at, now), nil
		}
	}
	ago := strings.TrimSpace(strings.TrimSuffix(t, "ago"))
	if d, err := time.ParseDuration(ago); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%w: %q (want 2006-01-02T15:04:05Z, \"2006-01-02 15:04\", 15:04, or how long ago: 10m)", ErrTime, s)
}

// latest moves a time of day to today, or to yesterday when it is still to come.
func latest(at, now time.Time) time.Time {
	y, m, d := now.Date()
	on := time.Date(y, m, d, at.Hour(), at.Minute(), at.Second(), 0, now.Location())
	if on.After(now) {
		on = time.Date(y, m, d-1, at.Hour(), at.Minute(), at.Second(), 0, now.Location())
	}
	return on
}
