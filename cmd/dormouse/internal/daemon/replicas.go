package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/metrics"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Replicas says how this replica lives with others. Zero fields are defaults.
type Replicas struct {
	Listen    string        // host:port where others forward requests to; empty = nowhere
	Advertise string        // https://host:port under which they reach it; empty = Listen, if that names a host
	Fence     time.Duration // without a word from the stream for so long, runtimes of this process are not served
	Drain     time.Duration // how long to go on serving at a shutdown while balancers look elsewhere
	Presence  time.Duration // how long a writer may be silent until it says that it is there; 0 = a day
}

// keepPresent notes once a day that this replica is still there, if it wrote nothing else: a writer that was silent for
// 90 days is forgotten, and refused until its replica is started anew.
func (d *daemon) keepPresent(ctx context.Context) {
	every := d.c.Replicas.Presence
	tick := time.NewTicker(every)
	defer tick.Stop()
	var seen uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n := d.store.Committer.Stats().Number; n != seen {
			seen = n
			continue
		}
		e := d.event(journal.KindReplicaStarted)
		e.Note.Text = stillThere
		if _, err := d.store.Committer.Append(ctx, e); err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("this replica's presence is not noted")
		}
	}
}

// stillThere marks the daily event of a replica that had nothing else to say.
const stillThere = "still there"

// leaveTime is how long forwarded requests are still served after the others were told to send none.
const leaveTime = 300 * time.Millisecond

// openPeers opens the listener for other replicas. It serves once the keyring is there.
func (d *daemon) openPeers(ctx context.Context) (err error) {
	if d.c.Replicas.Listen == "" {
		return nil
	}
	var lc net.ListenConfig
	if d.peerListen, err = lc.Listen(ctx, "tcp", d.c.Replicas.Listen); err != nil {
		return fmt.Errorf("--replica-listen %s: %w", d.c.Replicas.Listen, err)
	}
	d.peerURL, err = peerURL(d.c.Replicas.Advertise, d.peerListen.Addr())
	if err != nil {
		_ = d.peerListen.Close()
	}
	return err
}

// peerURL is where other replicas send requests.
func peerURL(advertise string, listen net.Addr) (string, error) {
	if advertise == "" {
		addr, ok := listen.(*net.TCPAddr)
		if !ok || addr.IP.IsUnspecified() {
			return "", fmt.Errorf("%w: --replica-listen %s names no host: say with --replica-advertise https://HOST:PORT how other replicas reach this one", ErrConfig, listen)
		}
		advertise = "https://" + addr.String()
	}
	u, err := url.Parse(strings.TrimSuffix(advertise, "/"))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.User != nil {
		return "", fmt.Errorf("%w: --replica-advertise: want https://HOST:PORT", ErrConfig)
	}
	return u.String() + "/mcp", nil
}

// joinReplicas makes this replica known to those that share its journal, and serves what they forward.
func (d *daemon) joinReplicas(ctx context.Context) error {
	if !d.store.Remote() {
		return nil
	}
	server, client, err := replicas.TLS(d.secret("replica-tls"))
	if err != nil {
		return err
	}
	d.peers = gateway.NewPeerTransport(client)
	d.directory, err = replicas.Start(ctx, replicas.Options{
		Self: d.c.Replica, Boot: d.store.Committer.Writer().String(), Version: d.c.Version, URL: d.peerURL, Key: d.secret("replica-messages"),
		Wire: d.store.Journal.Signals(), CatchUp: d.store.Follower.CatchUp, Folded: d.folded,
		Fence: d.c.Replicas.Fence, Fenced: d.fenced, Stuck: d.store.Journal.Elsewhere, Taken: d.fail, Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.metrics.WatchReplicas(metrics.ReplicaSources{
		Lag: d.directory.Lag, Peers: d.directory.Peers,
		Clock: func() float64 { return d.store.Journal.Clock().Ahead.Seconds() },
	})
	if d.peerListen != nil {
		d.forwards.serve(tls.NewListener(d.peerListen, server), d.forwarded())
	}
	return nil
}

// secret is what all replicas of a deployment derive from their keyring.
func (d *daemon) secret(what string) []byte {
	a, b := d.store.Keyring().Name(what, "1"), d.store.Keyring().Name(what, "2")
	return append(a[:], b[:]...)
}

func (d *daemon) folded() (seq journal.Seq, events uint64) {
	d.store.Follower.View(func(st *replay.State) { seq, events = st.Seq(), st.Stats().Events })
	return seq, events
}

// fenced ends what is under way in runtimes that another replica may have taken over.
func (d *daemon) fenced() {
	if w := d.listening.Load(); w != nil {
		w.Fenced()
	}
}

// seen tells the gateway what was folded.
func (d *daemon) seen(own bool, events []journal.Event) {
	if w := d.listening.Load(); w != nil {
		w.Heard(own, events)
	}
}

// forwarded serves what other replicas forward.
func (d *daemon) forwarded() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		d.phase.awaitReady(r.Context(), requestWait)
		if d.phase.handler.Load() == nil {
			gateway.Away(w, r)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if r.Method == http.MethodGet {
			defer d.phase.onEnding(cancel)()
		}
		d.gateway.Peer().ServeHTTP(w, r.WithContext(ctx))
	})
	return mux
}

// lame goes on serving for a while, so that balancers look elsewhere, and then hands the runtimes of this process over.
func (d *daemon) lame(ctx context.Context) {
	if d.c.Replicas.Drain > 0 && d.phase.is(phaseReady) {
		d.phase.enter(phaseDraining)
		d.log.Info().Dur("for", d.c.Replicas.Drain).Msg("/readyz is 503 now; serving until balancers have noticed")
		pause(ctx, d.c.Replicas.Drain)
	}
	if d.directory != nil {
		d.directory.Leave()
		pause(ctx, leaveTime)
	}
}

func pause(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// among is what /readyz tells of a replica among others.
type among struct {
	Name   string     `json:"name"`
	Others int        `json:"others"` // replicas that are there besides
	Lag    lag        `json:"lag"`
	Clock  clockState `json:"clock"`
	CutOff bool       `json:"cutOff,omitempty"` // runtimes of this process are not served
}

type lag struct {
	Batches uint64  `json:"batches"`
	Events  uint64  `json:"events"`
	Seconds float64 `json:"seconds"`
}

type clockState struct {
	AheadMS  float64 `json:"aheadMs"` // of the stream's clock before this machine's
	WithinMS float64 `json:"withinMs"`
}

// among returns nil where there is no other replica to be.
func (d *daemon) among() *among {
	if d.directory == nil {
		return nil
	}
	l, c := d.directory.Lag(), d.store.Journal.Clock()
	a := &among{
		Name: string(d.c.Replica), Lag: lag{l.Batches, l.Events, l.Since.Seconds()},
		Clock: clockState{millis(c.Ahead), millis(c.Within)},
	}
	for _, p := range d.directory.Peers() {
		if p.State == "there" {
			a.Others++
		}
	}
	a.CutOff = !d.upstream.Shared() && errors.Is(d.directory.May(), replicas.ErrCutOff)
	return a
}

// replicaStatus is what commands are told.
func (d *daemon) replicaStatus() *control.Replicas {
	a := d.among()
	if a == nil {
		return nil
	}
	s := &control.Replicas{
		LagBatches: a.Lag.Batches, LagEvents: a.Lag.Events, LagSeconds: a.Lag.Seconds,
		ClockAheadMS: a.Clock.AheadMS, ClockWithinMS: a.Clock.WithinMS,
	}
	for _, p := range d.directory.Peers() {
		s.Others = append(s.Others, control.Peer{
			Name: string(p.Name), Version: p.Version, URL: strings.TrimSuffix(p.URL, "/mcp"), State: p.State, HeardMS: p.Heard.Milliseconds(),
		})
	}
	return s
}
