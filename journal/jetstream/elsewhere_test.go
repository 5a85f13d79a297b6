package jetstream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// TestElsewhere: a connection is led to another server if there is one, and left alone if not.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"three servers": urls(cluster(t)), "one server": startNATS(t, &server.Options{}).ClientURL()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc, err := jetstream.Connect(url, jetstream.ConnectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			before := nc.ConnectedServerId()
			j.Elsewhere()
			if name == "one server" {
				if !nc.IsConnected() || nc.Stats().Reconnects > 0 {
					t.Error("the only connection was given up")
				}
				return
			}
			for deadline := time.Now().Add(hung); !nc.IsConnected() || nc.ConnectedServerId() == before; <-time.After(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("no other server")
				}
			}
			if _, err := j.Bounds(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
