package jetstream_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

func TestLaws(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Harness {
		t.Helper()
		return start(t, t.TempDir()).harness()
	})
}

// embedded is a server on a folder, a connection to it and the journal in it.
type embedded struct {
	dir    string
	server *jetstream.Server
	nc     *nats.Conn
	*jetstream.Journal
}

func start(tb testing.TB, dir string) *embedded {
	tb.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	e := &embedded{dir: dir, server: s}
	tb.Cleanup(e.stop)
	if e.nc, err = s.Connect(); err != nil {
		tb.Fatal(err)
	}
	if e.Journal, err = jetstream.Open(tb.Context(), e.nc, jetstream.Options{Create: true}); err != nil {
		tb.Fatal(err)
	}
	return e
}

func (e *embedded) stop() {
	if e.nc != nil {
		e.nc.Close()
	}
	e.server.Shutdown()
}

func (e *embedded) harness() journaltest.Harness {
	return journaltest.Harness{
		Journal: e.Journal,
		Keys:    e.Keys(),
		Remove:  func(ctx context.Context, seq journal.Seq) error { return remove(ctx, e.nc, "DORMOUSE_BATCHES", seq) },
		Restart: func(t *testing.T) journaltest.Harness {
			t.Helper()
			e.stop()
			return start(t, e.dir).harness()
		},
	}
}

func remove(ctx context.Context, nc *nats.Conn, stream string, seq journal.Seq) error {
	client, err := js.New(nc)
	if err != nil {
		return err
	}
	s, err := client.Stream(ctx, stream)
	if err != nil {
		return err
	}
	return s.DeleteMsg(ctx, uint64(seq))
}
