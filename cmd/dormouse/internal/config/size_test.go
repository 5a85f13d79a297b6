package config_test

import (
	"errors"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "64MiB": 64 << 20, " 2 gib ": 2 << 30, "500MB": 500e6, "1kB": 1000, "9B": 9, "3KiB": 3072,
	} {
		if got, err := config.ParseSize(text); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "NaN", "64 apples", "9999999999999GiB", "99999999999999999999"} {
		if got, err := config.ParseSize(text); !errors.Is(err, config.ErrSize) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}
