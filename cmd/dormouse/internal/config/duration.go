// Package config turns what a person or a deployment writes (flags, environment, a YAML file) into values,
// and refuses what it does not understand: nothing unparsable ever becomes zero.
package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// ErrDuration says that a text is no duration. The message says what would be one.
var ErrDuration = errors.New("not a duration")

// Duration is a time.Duration that reads as a Go duration ("30m") or as plain milliseconds ("1800000").
// It is never negative.
type Duration time.Duration //nolint:recvcheck // kong sets it through Decode

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the Go form.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns the Go form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Decode implements kong.MapperValue. "-5m", which reads as a flag, is answered like any other negative duration.
func (d *Duration) Decode(ctx *kong.DecodeContext) error {
	t := ctx.Scan.Peek()
	if text := t.String(); !t.IsValue() && len(text) > 1 && text[0] == '-' && (text[1] == '.' || text[1] >= '0' && text[1] <= '9') {
		return d.UnmarshalText([]byte(text))
	}
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	return d.UnmarshalText([]byte(text))
}

// ParseDuration reads a Go duration or plain milliseconds. It fails with ErrDuration for everything else:
// an empty text, a negative one, one that does not fit.
func ParseDuration(s string) (time.Duration, error) {
	t := strings.TrimSpace(s)
	if t == "" {
		return 0, fmt.Errorf("%w: it is empty (want 30m, 1h30m, or milliseconds such as 1800000)", ErrDuration)
	}
	if strings.Trim(t, "0123456789") == "" {
		return millis(t)
	}
	d, err := time.ParseDuration(t)
	if strings.HasPrefix(t, "-") && (err == nil || strings.Trim(t[1:], "0123456789") == "") {
		return 0, fmt.Errorf("%w: %q is negative (want 30m, 1h30m, or milliseconds such as 1800000)", ErrDuration, t)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %q (want 30m, 1h30m, or milliseconds such as 1800000)", ErrDuration, t)
	}
	return d, nil
}

func millis(t string) (time.Duration, error) {
	ms, err := strconv.ParseInt(t, 10, 64)
	if err != nil || ms > math.MaxInt64/int64(time.Millisecond) {
		return 0, fmt.Errorf("%w: %q milliseconds are more than 292 years", ErrDuration, t)
	}
	return time.Duration(ms) * time.Millisecond, nil
}
