package config_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"30m":     30 * time.Minute,
		"1h30m":   90 * time.Minute,
		"1800000": 30 * time.Minute,
		"0":       0,
		" 5s ":    5 * time.Second,
		"250ms":   250 * time.Millisecond,
	} {
		got, err := config.ParseDuration(in)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", " ", "abc", "NaN", "Infinity", "1e3", "-5", "-5m", "30 minutes", "1800000.5", "0x10",
		"99999999999999999999", "9223372036854775807", "undefined", "null", "1d",
	} {
		got, err := config.ParseDuration(in)
		if !errors.Is(err, config.ErrDuration) || got != 0 {
			t.Errorf("ParseDuration(%q) = %v, %v; want ErrDuration", in, got, err)
		}
	}
}
