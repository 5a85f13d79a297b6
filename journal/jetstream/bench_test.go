package jetstream_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// BenchmarkAppend appends durably, every message synced to disk, beside what one would write without
// thinking. Each event is acknowledged to its own caller.
func BenchmarkAppend(b *testing.B) {
	ways := []struct {
		name  string
		begin func(b *testing.B, e *embedded) (appendOne func() error, end func())
	}{
		{"dormouse", dormouse},
		{"bare-packed", barePacked},
		{"message-an-event", messageAnEvent},
	}
	for _, callers := range []int{1, 64, 512} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("callers=%d/%s", callers, way.name), func(b *testing.B) {
				appendOne, end := way.begin(b, start(b, b.TempDir()))
				measure(b, callers, appendOne)
				end()
			})
		}
	}
	b.Run("async-4096/message-an-event", func(b *testing.B) { async(b, start(b, b.TempDir())) })
}

// measure has the callers append b.N events, and reports the rate and the callers' latencies.
func measure(b *testing.B, callers int, appendOne func() error) {
	b.Helper()
	var next atomic.Int64
	latencies := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for i := range callers {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				began := time.Now()
				if err := appendOne(); err != nil {
					b.Error(err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// created is a session's creation with a context of 200 bytes, about 300 bytes as sealed and stored.
func created() journal.Event {
	return journal.Event{
		Kind: journal.KindCreated, Ref: journal.NewSessionID().Ref(), At: journal.InstantOf(time.Now()),
		Created: &journal.Created{
			Source: journal.SourceClient, ID: make([]byte, 64), Context: make([]byte, 200), Key: "key-1",
			Tenant: journal.TenantID{1}, Label: "instance", Principal: "token:bench", Protocol: "2025-06-18",
			Timeout: 30 * time.Minute, CreatedAt: 1, LastAccess: 1,
		},
	}
}

func dormouse(b *testing.B, e *embedded) (func() error, func()) {
	b.Helper()
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(seal.GenerateKeyring(), w)
	if err != nil {
		b.Fatal(err)
	}
	c, err := commit.New(commit.Options{Port: e, Encoder: sealer, Journal: e.ID(), Writer: w})
	if err != nil {
		b.Fatal(err)
	}
	event := created()
	ctx := b.Context()
	return func() error {
			_, err := c.Append(ctx, event)
			return err
		}, func() {
			s := c.Stats()
			b.ReportMetric(float64(s.Events)/float64(s.Batches), "events/batch")
			if err := c.Close(ctx); err != nil {
				b.Error(err)
			}
		}
}

// barePacked is group commit with nothing in it: a goroutine that publishes 300 bytes for each waiting
// caller, unsealed, unchained and not retried.
func barePacked(b *testing.B, e *embedded) (func() error, func()) {
	b.Helper()
	client := newClient(b, e)
	waiting := make(chan chan error, journal.MaxBatchEvents)
	calls := sync.Pool{New: func() any { return make(chan error, 1) }}
	var loop sync.WaitGroup
	loop.Go(func() {
		payload := make([]byte, 300*journal.MaxBatchEvents)
		for first := range waiting {
			batch := []chan error{first}
			for len(waiting) > 0 && len(batch) < journal.MaxBatchEvents {
				batch = append(batch, <-waiting)
			}
			_, err := client.Publish(b.Context(), "dormouse.batch.bare", payload[:300*len(batch)])
			for _, done := range batch {
				done <- err
			}
		}
	})
	return func() error {
			done := calls.Get().(chan error)
			defer calls.Put(done)
			waiting <- done
			return <-done
		}, func() {
			close(waiting)
			loop.Wait()
		}
}

// messageAnEvent publishes each event as a message of its own.
func messageAnEvent(b *testing.B, e *embedded) (func() error, func()) {
	b.Helper()
	client := newClient(b, e)
	payload := make([]byte, 300)
	return func() error {
		_, err := client.Publish(b.Context(), "dormouse.batch.bare", payload)
		return err
	}, func() {}
}

// async publishes each event as a message of its own without waiting for the one before.
func async(b *testing.B, e *embedded) {
	b.Helper()
	client, err := js.New(e.nc, js.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.PublishAsync("dormouse.batch.bare", payload, js.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-client.PublishAsyncComplete()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func newClient(b *testing.B, e *embedded) js.JetStream {
	b.Helper()
	client, err := js.New(e.nc)
	if err != nil {
		b.Fatal(err)
	}
	return client
}

// BenchmarkRead reads packed batches to the end.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{300, 30 << 10, 500 << 10} {
		b.Run("bytes="+strconv.Itoa(size), func(b *testing.B) {
			e := start(b, b.TempDir())
			n := min(20_000, 400<<20/size)
			fillAsync(b, e.nc, n, size)
			b.SetBytes(int64(n * size))
			for b.Loop() {
				err := e.Read(b.Context(), 0, func(m journal.Message) error {
					if m.Seq == journal.Seq(n) {
						return journal.ErrStop
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func fillAsync(b *testing.B, nc *nats.Conn, n, size int) {
	b.Helper()
	client, err := js.New(nc, js.WithPublishAsyncMaxPending(64))
	if err != nil {
		b.Fatal(err)
	}
	for range n {
		if _, err := client.PublishAsync("dormouse.batch.bare", make([]byte, size), js.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-client.PublishAsyncComplete()
}

// BenchmarkTail measures how long after its acknowledgement a batch reaches a reader in the same process.
func BenchmarkTail(b *testing.B) {
	e := start(b, b.TempDir())
	ctx, cancel := context.WithCancel(b.Context())
	seen := make(chan time.Time, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		_ = e.Read(ctx, 0, func(journal.Message) error {
			seen <- time.Now()
			return nil
		})
	})
	w := journal.NewWriterID()
	var last journal.Seq
	var lags []time.Duration
	for b.Loop() {
		seq, err := e.Publish(ctx, w, last, make([]byte, 300))
		if err != nil {
			b.Fatal(err)
		}
		acked := time.Now()
		lags = append(lags, (<-seen).Sub(acked))
		last = seq
	}
	cancel()
	reader.Wait()
	slices.Sort(lags)
	b.ReportMetric(float64(lags[len(lags)/2].Microseconds()), "p50-lag-µs")
	b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds()), "p99-lag-µs")
}

// BenchmarkLone compares a lone Append with a bare synced publish of as many bytes, turn by turn, so that
// both see the same disk.
func BenchmarkLone(b *testing.B) {
	e := start(b, b.TempDir())
	own, end := dormouse(b, e)
	client := newClient(b, e)
	payload := make([]byte, 600)
	bare := func() error {
		_, err := client.Publish(b.Context(), "dormouse.batch.bare", payload)
		return err
	}
	var took [2][]time.Duration
	for b.Loop() {
		for i, appendOne := range []func() error{own, bare} {
			began := time.Now()
			if err := appendOne(); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	end()
	var p50 [2]float64
	for i := range took {
		slices.Sort(took[i])
		p50[i] = float64(took[i][len(took[i])/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(p50[0], "append-p50-µs")
	b.ReportMetric(p50[1], "bare-p50-µs")
	b.ReportMetric(p50[0]/p50[1], "ratio")
}
