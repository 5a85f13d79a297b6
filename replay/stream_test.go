package replay_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// realStream is a stream on the embedded server, with real sealing.
type realStream struct {
	*jetstream.Journal

	keys   *seal.Keyring
	writer journal.WriterID
	sealer *seal.BatchSealer
	header journal.Header
	last   journal.Seq
}

func newRealStream(tb testing.TB) *realStream {
	tb.Helper()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Shutdown)
	nc, err := server.Connect()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	j, err := jetstream.Open(tb.Context(), nc, jetstream.Options{Create: true})
	if err != nil {
		tb.Fatal(err)
	}
	r := &realStream{Journal: j, keys: seal.GenerateKeyring(), writer: journal.NewWriterID()}
	if r.sealer, err = seal.NewBatchSealer(r.keys, r.writer); err != nil {
		tb.Fatal(err)
	}
	r.header.Journal, r.header.Writer = j.ID(), r.writer
	return r
}

func (r *realStream) store(tb testing.TB, events []journal.Event) {
	tb.Helper()
	r.header.Number++
	data, err := r.sealer.Encode(&r.header, events)
	if err != nil {
		tb.Fatal(err)
	}
	r.header.Previous = journal.DigestOf(data)
	if r.last, err = r.Publish(tb.Context(), r.writer, r.last, data); err != nil {
		tb.Fatal(err)
	}
}

func (r *realStream) follow(ctx context.Context, keys *seal.Keyring) (*replay.Follower, error) {
	return replay.Follow(ctx, replay.FollowOptions{Source: r.Journal, Opener: seal.NewBatchOpener(keys), Journal: r.ID()})
}

func TestFollowEmbeddedServer(t *testing.T) {
	r := newRealStream(t)
	for i := range 150 {
		r.store(t, []journal.Event{benchCreated(i, journal.Instant(1+i))})
	}
	f, err := r.follow(t.Context(), r.keys)
	if err != nil {
		t.Fatal(err)
	}
	r.store(t, []journal.Event{benchCreated(150, 2)})
	if err := f.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.View(func(s *replay.State) {
		if s.Len() != 151 || s.Journal() != r.ID() {
			t.Errorf("%d sessions of journal %v", s.Len(), s.Journal())
		}
	})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.follow(t.Context(), seal.GenerateKeyring()); !errors.Is(err, journal.ErrWrongKey) && !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatalf("another keyring: %v", err)
	}
}

// BenchmarkFollowEmbeddedServer is a restore as it is in practice: from files, through the server.
func BenchmarkFollowEmbeddedServer(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			r, batches := newRealStream(b), w.batches()
			batches = batches[:min(len(batches), 5000)]
			for _, events := range batches {
				r.store(b, events)
			}
			b.ReportAllocs()
			for b.Loop() {
				f, err := r.follow(b.Context(), r.keys)
				if err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
			perEvent(b, len(batches)*w.size)
		})
	}
}
