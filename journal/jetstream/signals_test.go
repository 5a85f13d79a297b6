package jetstream_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// TestSignals: what one tells all hear, and whoever answers to a name is found, until it stops or its connection is gone.
func TestSignals(t *testing.T) {
	t.Parallel()
	url := startNATS(t, &server.Options{}).ClientURL()
	open := func() (*jetstream.Signals, func()) {
		nc, err := jetstream.Connect(url, jetstream.ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		return j.Signals(), nc.Close
	}
	a, _ := open()
	b, hangUp := open()
	heard := make(chan string, 2)
	for _, s := range []*jetstream.Signals{a, b} {
		stop, err := s.Hear(func(data []byte) { heard <- string(data) })
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	if _, err := b.Call(t.Context(), "b"); err != nil { // the server has b's subscriptions, too, once it answers
		t.Fatal(err)
	}
	if err := a.Tell([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-heard; got != "hello" {
			t.Errorf("heard %q", got)
		}
	}
	// becomes waits until a call says so: the server takes its time to notice.
	becomes := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(hung); ; <-time.After(time.Millisecond) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the name's last one may have gone with the call
			there, err := a.Call(ctx, "b")
			cancel()
			if err == nil && there == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("somebody is there: %v, %v; want %v", there, err, want)
			}
		}
	}
	becomes(false)
	stop, err := b.Answer("b")
	if err != nil {
		t.Fatal(err)
	}
	becomes(true)
	stop()
	becomes(false)
	if _, err := b.Answer("b"); err != nil {
		t.Fatal(err)
	}
	becomes(true)
	hangUp()
	becomes(false)
}
