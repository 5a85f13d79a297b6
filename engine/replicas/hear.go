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
	if m.Replica == d.o.Self {
		if m.Boot != d.o.Boot {
			d.namesake(&m)
		}
		return
	}
	d.note(&m)
	if m.Asks {
		d.ask()
	}
}

func (d *Directory) note(m *message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[m.Replica]
	fresh := p == nil || p.Boot != m.Boot
	if fresh && p != nil && m.Started.Before(p.Started) {
		return // a late word from a run before
	}
	if fresh {
		p = &peer{}
		d.peers[m.Replica] = p
		d.o.Logger.Info().Str("replica", string(m.Replica)).Str("url", m.URL).Str("version", m.Version).Msg("another replica is there")
	}
	if m.Leaving && !p.gone {
		d.o.Logger.Info().Str("replica", string(m.Replica)).Msg("a replica leaves")
	}
	p.message, p.heard, p.gone = *m, time.Now(), p.gone || m.Leaving
	for _, l := range m.Left {
		d.noteLeft(l)
	}
	d.wake()
}

// noteLeft takes another's word for who has left. d.mu is held.
func (d *Directory) noteLeft(l leaver) {
	p := d.peers[l.Replica]
	switch {
	case l.Replica == d.o.Self:
	case p == nil:
		d.peers[l.Replica] = &peer{message: message{Replica: l.Replica, Boot: l.Boot}, heard: time.Now(), gone: true}
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
		age := time.Since(p.heard)
		if age > time.Hour {
			continue
		}
		x := Peer{Name: name, Version: p.Version, URL: p.URL, State: "there", Heard: age, Seq: p.Seq, Events: p.Events}
		switch {
		case p.gone:
			x.State = "gone"
		case d.unheard(p) > d.o.silence():
			x.State = "silent"
		}
		list = append(list, x)
	}
	return list
}
