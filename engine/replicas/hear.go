package replicas

import (
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// hear takes a message in.
func (d *Directory) hear(data []byte) {
	m, err := decode(d.o.Key, data)
	if err != nil {
		d.o.Logger.Warn().Err(err).Msg("replicas: a message was ignored")
		return
	}
	if m.Boot == d.o.Boot {
		return
	}
	fresh, waits := d.echoed(&m)
	if m.Replica != d.o.Self {
		d.note(&m, fresh)
	} else if fresh {
		d.namesake(&m)
	}
	if m.Asks || waits {
		d.ask()
	}
}

// heardAt is the newest message of a run.
type heardAt struct {
	at   time.Duration
	when time.Time
}

// echoed remembers what to echo to the run that sent m, and reports whether m is fresh: whether it proves that the run
// was there a moment ago, because it names a message that this replica had sent no longer ago than the fence. An old one
// that somebody kept and sends again does not. waits: that run, or this one, needs another message to prove as much.
func (d *Directory) echoed(m *message) (fresh, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, known := d.echoes[m.Boot]
	if known && m.At <= before.at {
		return false, false
	}
	now := time.Now()
	d.echoes[m.Boot] = heardAt{m.At, now}
	for _, e := range m.Echoes {
		fresh = fresh || e.Boot == d.o.Boot && now.Sub(d.started)-e.At <= d.o.Fence
	}
	return fresh, !fresh || !known || now.Sub(before.when) > d.o.silence()
}

// note takes note of what another replica says. Of a run that it knows it believes what only grows whenever it was said,
// and all else only if it was said a moment ago.
func (d *Directory) note(m *message, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.wake()
	now := time.Now()
	p := d.peers[m.Replica]
	if fresh && (p == nil || p.Boot != m.Boot && d.succeeds(p, m)) {
		d.o.Logger.Info().Str("replica", string(m.Replica)).Str("url", m.URL).Str("version", m.Version).Msg("another replica is there")
		p = &peer{}
		p.Boot = m.Boot
		d.peers[m.Replica] = p
	}
	if p == nil || p.Boot != m.Boot {
		return // a late word from a run before, or a first one that nothing proves yet
	}
	if m.Leaving && !p.gone {
		d.o.Logger.Info().Str("replica", string(m.Replica)).Msg("a replica leaves")
		p.gone, p.noted = true, now
	}
	if m.At > p.At {
		p.message = *m
	}
	if fresh {
		p.heard, p.noted = now, now
		for _, l := range m.Left {
			d.noteLeft(l)
		}
	}
}

// succeeds reports whether m is of a run after p's: one that was started later, by the clocks of their machines, or that is
// there while p's is not heard any more. d.mu is held.
func (d *Directory) succeeds(p *peer, m *message) bool {
	return !m.Started.Before(p.Started) || p.over() || time.Since(p.heard) > d.o.silence()
}

// noteLeft takes another's word for who has left. d.mu is held.
func (d *Directory) noteLeft(l leaver) {
	p := d.peers[l.Replica]
	switch {
	case l.Replica == d.o.Self || l.Ago > remembered:
	case p == nil:
		d.peers[l.Replica] = &peer{message: message{Replica: l.Replica, Boot: l.Boot}, noted: time.Now().Add(-max(l.Ago, 0)), gone: true}
	case p.Boot == l.Boot:
		p.gone = true
	}
}

// namesake deals with another replica of this one's name. The second one to start gives up as soon as it hears the first.
// Where it goes on all the same, the first could not be heard when it started, and gives up in its turn.
func (d *Directory) namesake(m *message) {
	if m.Leaving {
		return
	}
	d.mu.Lock()
	now := time.Now()
	if d.double != m.Boot {
		d.double, d.doubled = m.Boot, now
	}
	second := m.Started.Before(d.started)
	taken := second && now.Sub(d.started) < d.o.silence() || !second && now.Sub(d.doubled) > d.o.silence()
	d.mu.Unlock()
	if taken {
		d.o.Taken(fmt.Errorf("%w: %s, since %v", ErrNameTaken, m.Replica, m.Started.Format(time.RFC3339)))
	}
}

// Lag is how far this replica is behind, as far as it can know.
type Lag struct {
	Batches uint64        // that another replica had folded and this one had not, when that was heard
	Events  uint64        // in these
	Since   time.Duration // since this replica was known to have folded all that the stream's leader had
}

// Lag returns the present one.
func (d *Directory) Lag() (l Lag) {
	seq, events := d.o.Folded()
	d.mu.Lock()
	defer d.mu.Unlock()
	l.Since = time.Since(d.proven)
	for _, p := range d.peers {
		if p.Seq > seq {
			l.Batches = max(l.Batches, uint64(p.Seq-seq))
		}
		if p.Seq > seq && p.Events > events {
			l.Events = max(l.Events, p.Events-events)
		}
	}
	return l
}

// Peer is another replica.
type Peer struct {
	Name    journal.ReplicaID
	Version string
	URL     string
	State   string // "there", "silent" or "gone"
	Heard   time.Duration
	Seq     journal.Seq
	Events  uint64
}

// Peers lists the other replicas that were heard in the last hour, in no order.
func (d *Directory) Peers() (list []Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, p := range d.peers {
		age := time.Since(p.noted)
		if age > time.Hour {
			continue
		}
		x := Peer{Name: name, Version: p.Version, URL: p.URL, State: "there", Heard: age, Seq: p.Seq, Events: p.Events}
		switch {
		case p.over():
			x.State = "gone"
		case d.unheard(p) > d.o.silence():
			x.State = "silent"
		}
		list = append(list, x)
	}
	return list
}
