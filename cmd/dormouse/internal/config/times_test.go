package config_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("two", 2*60*60)
	now := time.Date(2026, 11, 20, 14, 5, 30, 0, zone)
	for in, want := range map[string]time.Time{
		"2026-11-19T10:00:00Z":      time.Date(2026, 11, 19, 10, 0, 0, 0, time.UTC),
		"2026-11-19T10:00:00+02:00": time.Date(2026, 11, 19, 8, 0, 0, 0, time.UTC),
		"2026-11-19 10:00":          time.Date(2026, 11, 19, 10, 0, 0, 0, zone),
		"2026-11-19":                time.Date(2026, 11, 19, 0, 0, 0, 0, zone),
		"14:05":                     time.Date(2026, 11, 20, 14, 5, 0, 0, zone),
		"14:06":                     time.Date(2026, 11, 19, 14, 6, 0, 0, zone),
		"10m":                       now.Add(-10 * time.Minute),
		"10m ago":                   now.Add(-10 * time.Minute),
		"1h30m":                     now.Add(-90 * time.Minute),
	} {
		got, err := config.ParseTime(in, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("ParseTime(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "yesterday", "25:00", "-10m", "2026-13-01", "14"} {
		if got, err := config.ParseTime(in, now); !errors.Is(err, config.ErrTime) {
			t.Errorf("ParseTime(%q) = %v, %v; want ErrTime", in, got, err)
		}
	}
}
