package config_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]config.Rate{
		"10/s": {N: 10, Per: time.Second}, " 600/m ": {N: 600, Per: time.Minute}, "1/h": {N: 1, Per: time.Hour}, "0": {},
	} {
		got, err := config.ParseRate(in)
		if err != nil || got != want {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", in, got, err, want)
		}
		var back config.Rate
		if text, _ := got.MarshalText(); back.UnmarshalText(text) != nil || back != want {
			t.Errorf("%q became %q and %v", in, text, back)
		}
	}
	for _, in := range []string{"", "10", "10/", "/s", "-1/s", "0/s", "1.5/s", "10/d", "10/ms", "ten/s", "99999999999/s", "10/s/s"} {
		if got, err := config.ParseRate(in); !errors.Is(err, config.ErrRate) || got != (config.Rate{}) {
			t.Errorf("ParseRate(%q) = %v, %v; want ErrRate", in, got, err)
		}
	}
}
