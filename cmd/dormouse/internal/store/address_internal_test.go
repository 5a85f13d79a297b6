package store

import (
	"strings"
	"testing"
)

func TestRedacted(t *testing.T) {
	for in, want := range map[string]string{
		"nats://a:4222":                          "nats://a:4222",
		"nats://u:secret@a:4222":                 "nats://u:xxxxx@a:4222",
		"nats://u:secret@a:1, nats://u:secret@b": "nats://u:xxxxx@a:1,nats://u:xxxxx@b",
		"secret@a:4222":                          "nats://xxxxx@a:4222",
		"tls://u:secret@[::1]:4222,a":            "tls://u:xxxxx@[::1]:4222,nats://a",
		"nats://u:secret@%zz":                    "an address that is no URL",
	} {
		if got := redacted(in); got != want || strings.Contains(got, "secret") {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
