package replicas

import (
	"context"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Place is where a replica's local runtimes are.
type Place int

// The places. The zero Place says nothing.
const (
	Here   Place = iota + 1 // it is this replica
	There                   // it is alive
	Gone                    // it is surely not serving any more
	Silent                  // it is not heard; it may be serving for a while
)

// Where is where a replica is to be found.
type Where struct {
	Place Place
	URL   string // of one that is There; empty = it takes no forwarded requests
	Boot  string
}

// Locate waits until it is known where replica r is: this directory may be so young that r was not heard yet. It fails
// with ctx's cause alone.
func (d *Directory) Locate(ctx context.Context, r journal.ReplicaID) (Where, error) {
	for {
		w, change, again := d.look(r)
		if w.Place != 0 {
			return w, nil
		}
		timer := time.NewTimer(again)
		select {
		case <-change:
			timer.Stop()
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Where{}, context.Cause(ctx)
		}
	}
}

// look says where r is, or when to look again.
func (d *Directory) look(r journal.ReplicaID) (w Where, change <-chan struct{}, again time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[r]
	switch {
	case r == "" || r == d.o.Self:
		return Where{Place: Here}, nil, 0
	case p == nil:
		if left := d.o.silence() - time.Since(d.started); left > 0 {
			return Where{}, d.changed, left
		}
		return Where{Place: Silent}, nil, 0
	case p.over():
		return Where{Place: Gone, Boot: p.Boot}, nil, 0
	case d.unheard(p) > d.o.silence():
		return Where{Place: Silent, Boot: p.Boot}, nil, 0
	}
	return Where{Place: There, URL: p.URL, Boot: p.Boot}, nil, 0
}

// unheard returns for how long p was not heard, of the time in which it could have been. d.mu is held.
func (d *Directory) unheard(p *peer) time.Duration {
	if time.Since(d.proven) > d.o.gap() {
		return 0 // it may be as cut off as this replica
	}
	from := p.heard
	if d.since.After(from) {
		from = d.since.Add(d.o.silence()) // it may need longer to come back
	}
	return time.Since(from)
}

// Claim is a claim of what belonged to another replica.
type Claim struct {
	From  journal.ReplicaID
	Was   Where       // From's place before
	Seq   journal.Seq // where the claim is stored
	Since time.Time   // when that was known
}

// Settled returns once nobody but the winner serves what was claimed. It fails with ctx's cause alone.
func (d *Directory) Settled(ctx context.Context, c Claim) error {
	var asked time.Time
	for {
		change, left := d.settled(c)
		if left <= 0 {
			return nil
		}
		if c.Was.Place == Gone {
			pause := d.o.every()/4 - time.Since(asked)
			if pause <= 0 { // again and again: the answer may be to a question from before the claim, or come in an election
				asked = time.Now()
				d.inquire(ctx, c.From, c.Was.Boot, c.Since)
				continue
			}
			left = min(left, pause)
		}
		timer := time.NewTimer(left)
		select {
		case <-change:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// SettledWithin is how long after a claim it is settled at the latest, whoever was heard meanwhile.
func (d *Directory) SettledWithin() time.Duration { return d.o.settle() }

// settled returns how long to wait at most. That a process was found gone before the claim was stored is not enough: it
// may have been this replica that nothing reached.
func (d *Directory) settled(c Claim) (change <-chan struct{}, left time.Duration) {
	if c.Was.Place == Here {
		return nil, 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[c.From]
	switch {
	case p == nil && c.Was.Place == Gone: // forgotten
		return nil, 0
	case p == nil:
	case p.gone, p.Seq >= c.Seq, c.Was.Boot != "" && p.Boot != c.Was.Boot, p.isDead() && !p.dead.Before(c.Since):
		return nil, 0
	}
	return d.changed, d.o.settle() - time.Since(c.Since)
}

// OnSilence calls fn once, in a goroutine of its own, when that run of r is no longer heard, unless forget was called
// before. A run that says that it leaves is not silent.
func (d *Directory) OnSilence(r journal.ReplicaID, boot string, fn func()) (forget func()) {
	w := &silence{d: d, r: r, boot: boot, fn: fn}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(d.o.silence(), w.check)
	return w.forget
}

type silence struct {
	d    *Directory
	r    journal.ReplicaID
	boot string
	fn   func()

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func (w *silence) check() {
	left := w.d.heardFor(w.r, w.boot)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case left > 0:
		w.timer.Reset(left)
	default:
		w.over = true
		go w.fn()
	}
}

func (w *silence) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// heardFor returns for how long that run of r still counts as heard.
func (d *Directory) heardFor(r journal.ReplicaID, boot string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[r]
	if p == nil || p.Boot != boot {
		return 0
	}
	return d.o.silence() - d.unheard(p)
}
