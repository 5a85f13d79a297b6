package replicas

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

var (
	// ErrCutOff says that this replica has not heard from the stream for so long that another one may serve its
	// sessions by now: 503. It heals by itself.
	ErrCutOff = errors.New("cut off from the stream")

	// ErrNameTaken says that two replicas have the same name. Give each its own (--replica-name).
	ErrNameTaken = errors.New("another replica has this name")
)

// Directory is this replica's view of the others. Safe for concurrent use.
type Directory struct {
	o       Options
	started time.Time
	stop    context.CancelFunc
	wg      sync.WaitGroup
	unhear  func()
	now     chan struct{} // asks for a message at once

	mu      sync.Mutex
	peers   map[journal.ReplicaID]*peer
	proven  time.Time // when the last answered question to the stream's leader was asked
	since   time.Time // since when such questions were answered without a gap
	cut     bool      // Fenced was called since then
	leaving bool
	at      time.Duration      // of the last message of its own
	changed chan struct{}      // closed, and replaced, at each message
	echoes  map[string]heardAt // by run
	double  string             // the run of another replica of this one's name
	doubled time.Time          // when it was heard first
}

// peer is another replica as it was heard of last.
type peer struct {
	message
	heard   time.Time     // when it was known to be there; zero = others said that it has left
	noted   time.Time     // when it was heard, or had left
	gone    bool          // this run of it has left
	dead    time.Time     // when its process was found to be gone; zero = it was not
	inquest chan struct{} // closed when it is known whether its process is gone; nil = nobody asks
}

// over reports whether p's run serves nothing any more.
func (p *peer) over() bool { return p.gone || p.isDead() }

func (p *peer) isDead() bool { return !p.dead.IsZero() && !p.dead.Before(p.heard) }

// Start makes this replica known and listens for others. ctx bounds the first question to the stream alone. Close must
// be called.
func Start(ctx context.Context, o Options) (*Directory, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := o.CatchUp(ctx); err != nil {
		return nil, fmt.Errorf("replicas: %w", err)
	}
	d := &Directory{
		o: o, started: time.Now(), proven: began, since: began, now: make(chan struct{}, 1),
		peers: make(map[journal.ReplicaID]*peer), echoes: make(map[string]heardAt), changed: make(chan struct{}),
	}
	silence, err := o.Wire.Answer(o.Boot)
	if err != nil {
		return nil, fmt.Errorf("replicas: %w", err)
	}
	unhear, err := o.Wire.Hear(d.hear)
	if err != nil {
		silence()
		return nil, fmt.Errorf("replicas: %w", err)
	}
	d.unhear = func() { unhear(); silence() }
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = cancel
	d.tell(true)
	d.wg.Go(func() { d.prove(run) })
	d.wg.Go(func() { d.watch(run) })
	return d, nil
}

// Leave tells the others that this replica serves no local runtime any more: they take its sessions over.
func (d *Directory) Leave() {
	d.mu.Lock()
	d.leaving = true
	d.mu.Unlock()
	d.tell(false)
}

// Close leaves, and stops.
func (d *Directory) Close() {
	d.Leave()
	d.stop()
	d.wg.Wait()
	d.unhear()
}

// May says why this replica may serve no local runtime now, ErrCutOff; nil if it may.
func (d *Directory) May() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if silent := time.Since(d.proven); silent > d.o.Fence {
		return fmt.Errorf("%w for %v", ErrCutOff, silent.Round(time.Millisecond))
	}
	return nil
}

// Regain returns nil once this replica may serve local runtimes: at once as a rule, else when the stream's leader has
// answered, which may tell of sessions that were taken over. It fails with May's error when ctx ends before.
func (d *Directory) Regain(ctx context.Context) error {
	for {
		d.mu.Lock()
		change := d.changed
		d.mu.Unlock()
		err := d.May()
		if err == nil {
			return nil
		}
		d.ask()
		select {
		case <-change:
		case <-ctx.Done():
			return err
		}
	}
}

// ask makes prove ask at once.
func (d *Directory) ask() {
	select {
	case d.now <- struct{}{}:
	default:
	}
}

// wake lets those who wait look again. d.mu is held.
func (d *Directory) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Proven returns when this replica was last known to have folded all that the stream's leader had.
func (d *Directory) Proven() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.proven
}

// prove asks the stream's leader again and again, and after each answer tells the others.
func (d *Directory) prove(ctx context.Context) {
	tick := time.NewTicker(d.o.every())
	defer tick.Stop()
	stuck := time.Now() // when Stuck was called, or need not be
	for {
		began := time.Now()
		asked, cancel := context.WithTimeout(ctx, d.o.gap())
		err := d.o.CatchUp(asked)
		cancel()
		if err == nil {
			d.mu.Lock()
			if began.Sub(d.proven) > d.o.gap() {
				d.since = time.Now()
			}
			d.proven, d.cut = began, false
			d.wake()
			d.mu.Unlock()
			d.tell(false)
			stuck = began
		}
		if time.Since(stuck) > d.o.Fence && ctx.Err() == nil {
			d.o.Stuck()
			stuck = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-d.now:
		case <-tick.C:
		}
	}
}

// watch notices when this replica may no longer serve.
func (d *Directory) watch(ctx context.Context) {
	tick := time.NewTicker(d.o.every() / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := d.May()
		d.mu.Lock()
		first := err != nil && !d.cut
		d.cut = d.cut || first
		d.mu.Unlock()
		if first {
			d.o.Logger.Warn().Err(err).Msg("runtimes of this process are not served until the stream answers: another replica may have taken them over")
			d.o.Fenced()
		}
	}
}

// tell sends this replica's state. What is not heard is repeated soon.
func (d *Directory) tell(asks bool) {
	seq, events := d.o.Folded()
	d.mu.Lock()
	d.forget()
	d.at = max(d.at+1, time.Since(d.started))
	m := message{
		Replica: d.o.Self, Boot: d.o.Boot, Started: d.started, Version: d.o.Version, Kinds: journal.LastKind, URL: d.o.URL,
		Leaving: d.leaving, Asks: asks, Seq: seq, Events: events, Left: d.left(),
		At: d.at, Echoes: d.listEchoes(),
	}
	d.mu.Unlock()
	data, err := m.encode(d.o.Key)
	if err == nil {
		err = d.o.Wire.Tell(data)
	}
	if err != nil {
		d.o.Logger.Debug().Err(err).Msg("replicas: not told")
	}
}

// remembered is for how long a replica is known after its last word. What belonged to one that is forgotten is taken over
// as from one that is silent.
const remembered = 24 * time.Hour

// forget lets go of whom nobody asks for any more. d.mu is held.
func (d *Directory) forget() {
	maps.DeleteFunc(d.peers, func(_ journal.ReplicaID, p *peer) bool { return time.Since(p.noted) > remembered })
	maps.DeleteFunc(d.echoes, func(_ string, h heardAt) bool { return time.Since(h.when) > 2*d.o.Fence })
}

const (
	maxLeavers = 64 // in a message
	// maxEchoes bounds how many echoes are in a message. With more runs than that, those left out would ask for another
	// message each time.
	maxEchoes = 1024
)

// left lists who is known to have left. d.mu is held.
func (d *Directory) left() (list []leaver) {
	for name, p := range d.peers {
		if p.gone && len(list) < maxLeavers {
			list = append(list, leaver{name, p.Boot, time.Since(p.noted)})
		}
	}
	return list
}

// listEchoes lists what to echo. d.mu is held.
func (d *Directory) listEchoes() (list []echo) {
	for boot, h := range d.echoes {
		if len(list) < maxEchoes {
			list = append(list, echo{boot, h.at})
		}
	}
	return list
}
