package replicas

import (
	"context"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// How long one call waits for its answer: ever longer, as a server may not have noticed yet that a process has died.
const (
	callFirst = 10 * time.Millisecond
	callMost  = 200 * time.Millisecond
)

// Refused is told that a connection to that run of r was refused. It reports whether the run is over, once that is known or
// cannot be known soon. A port that refuses is not enough: the listener may be away, its backlog full, a firewall in between.
// Gone is a process that nobody can call through the stream's servers either, although they answer this replica.
func (d *Directory) Refused(ctx context.Context, r journal.ReplicaID, boot string) (gone bool) {
	d.inquire(ctx, r, boot, time.Time{})
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[r]
	return p != nil && (p.Boot != boot || p.over())
}

// inquire finds out whether that run's process is gone. Those who want to know at the same time ask once. reached
// is when the stream was reached otherwise than by the directory's own questions; zero = that is not known.
func (d *Directory) inquire(ctx context.Context, r journal.ReplicaID, boot string, reached time.Time) {
	ctx, cancel := context.WithTimeout(ctx, d.o.every())
	defer cancel()
	d.mu.Lock()
	p := d.peers[r]
	if p == nil || p.Boot != boot || p.gone {
		d.mu.Unlock()
		return
	}
	asked := p.inquest
	if asked == nil {
		p.inquest = make(chan struct{})
	}
	d.mu.Unlock()
	if asked != nil {
		select {
		case <-asked:
		case <-ctx.Done():
		}
		return
	}
	began, there, known := d.call(ctx, boot)
	d.mu.Lock()
	defer d.mu.Unlock()
	close(p.inquest)
	p.inquest = nil
	if d.proven.After(reached) {
		reached = d.proven
	}
	if known && !there && time.Since(reached) <= d.o.gap() {
		p.dead = began
		d.o.Logger.Info().Str("replica", string(r)).Msg("a replica is gone: its port refuses, and nobody answers in its name")
		d.wake()
	}
}

// call calls that run until somebody answers, or it is sure that nobody does. began is when the last call was made.
func (d *Directory) call(ctx context.Context, boot string) (began time.Time, there, known bool) {
	for wait := callFirst; ctx.Err() == nil; wait = min(2*wait, callMost) {
		began = time.Now()
		once, cancel := context.WithTimeout(ctx, wait)
		there, err := d.o.Wire.Call(once, boot)
		if err == nil {
			cancel()
			return began, there, true
		}
		<-once.Done() // whatever it was, it may be over then
		cancel()
	}
	return began, false, false
}
