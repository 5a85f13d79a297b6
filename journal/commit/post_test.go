package commit_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Posting an access takes no memory but what the buffer, which is kept, has for it.
func TestPostAllocatesNothing(t *testing.T) {
	r := newRig(t, func(o *commit.Options) { o.Linger = time.Hour }) // nothing else happens meanwhile
	const posts = journal.MaxBatchEvents / 2                         // a full batch would go out at once
	for i := range posts + 2 {
		r.Post(event(i))
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := event(1)
	if n := testing.AllocsPerRun(posts, func() { r.Post(e) }); n != 0 {
		t.Errorf("%v allocations a post", n)
	}
}

// nowhere is a port that stores nothing, at once.
type nowhere struct {
	commit.Port

	mu  sync.Mutex
	seq journal.Seq
}

func (p *nowhere) Publish(context.Context, journal.WriterID, journal.Seq, []byte) (journal.Seq, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	return p.seq, nil
}

func newBenchCommitter(b *testing.B) *commit.Committer {
	b.Helper()
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(seal.GenerateKeyring(), w)
	if err != nil {
		b.Fatal(err)
	}
	c, err := commit.New(commit.Options{
		Port: new(nowhere), Encoder: sealer, Journal: journal.NewID(), Writer: w, KeepBatches: -1,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close(context.WithoutCancel(b.Context())) })
	return c
}

// BenchmarkPost is what an access costs in all, sealed and stored nowhere, beside a channel to somebody who drops it.
func BenchmarkPost(b *testing.B) {
	b.Run("committer", func(b *testing.B) {
		c := newBenchCommitter(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if c.Post(event(i)); i%10_000 == 0 {
				if err := c.Flush(b.Context()); err != nil { // or the buffer overflows
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("channel", func(b *testing.B) {
		events := make(chan journal.Event, 1<<16)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range events {
			}
		})
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			events <- event(i)
		}
		close(events)
		wg.Wait()
	})
}

// BenchmarkAppend is what an append costs beside storing: the hand-over, sealing and the digest.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("callers-a-processor=%d", callers), func(b *testing.B) {
			c := newBenchCommitter(b)
			b.SetParallelism(callers) // times the processors
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, err := c.Append(b.Context(), event(i)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
