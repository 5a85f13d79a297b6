package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/metrics"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// daemon is one run. Fields below "started" are set during the start, before phaseReady, and read after it.
type daemon struct {
	c        Config
	log      zerolog.Logger
	phase    *phase
	metrics  *metrics.Metrics
	token    atomic.Pointer[string]
	backend  *control.Backend
	clients  servers       // the clients' listener
	servers  servers       // the operator's and the control socket
	forwards servers       // the other replicas'
	fatal    chan error    // buffered: the first reason to stop counts
	told     atomic.Int64  // the second of the restore of which the log told last
	newKeys  chan struct{} // buffered: the key file should be read again
	hup      <-chan os.Signal

	listen, adminListen net.Listener
	peerListen          net.Listener // nil = none
	peerURL             string       // how other replicas reach it
	listening           atomic.Pointer[gateway.Waker]
	record              control.Daemon // what daemon.json says
	exportKey           []byte         // nil = none
	upstream            gateway.Upstream
	tokens              *gateway.TokenFile // nil = none
	jwt                 *gateway.JWT       // nil = none

	// started
	directory *replicas.Directory // nil where the journal is not shared
	peers     http.RoundTripper   // to other replicas
	store     *store.Store
	waker     *gateway.Waker
	engine    *engine.Engine
	gateway   *gateway.Gateway
	keeper    *snapshot.Keeper // nil where none could be made
	noted     bool             // replica-started is in the journal
}

// Run serves until ctx ends or something fatal happens, and then shuts down in order. Errors: ErrUnsafe, those of
// store.Open, the listeners', and whatever stopped the journal. Where another replica has accepted a loss of what was
// folded here, it restores anew and goes on.
func Run(ctx context.Context, c Config) error {
	hup := make(chan os.Signal, 1) // before anything else: unheard, a SIGHUP ends the process
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if err := c.complete(); err != nil {
		return err
	}
	for {
		err := run(ctx, c, hup)
		if !errors.Is(err, errLossElsewhere) || ctx.Err() != nil {
			return err
		}
		c.Logger.Warn().Err(err).Msg("restoring anew, without what another replica accepted as lost")
	}
}

// run is one life of a daemon.
func run(ctx context.Context, c Config, hup <-chan os.Signal) error {
	d := &daemon{c: c, log: c.Logger, phase: newPhase(), metrics: metrics.New(c.Version), fatal: make(chan error, 1), newKeys: make(chan struct{}, 1), hup: hup}
	d.clients, d.servers = servers{log: c.Logger, fail: d.fail}, servers{log: c.Logger, fail: d.fail}
	d.forwards = servers{log: c.Logger, fail: d.fail}
	d.c.Store.Seen = d.seen
	d.c.Store.Observer = committing{d.metrics, d.fail}
	d.c.Store.Progress = d.progress
	d.c.Store.Replica, d.c.Store.KeysFound = c.Replica, d.keysFound
	d.backend = d.newBackend()
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.closeAccess()
	defer d.closeUpstream()
	d.watch()
	if err := d.open(ctx); err != nil {
		return err
	}
	err := d.start(ctx)
	if err == nil {
		err = d.wait(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // asked to stop while starting
	}
	return errors.Join(err, d.shutdown(context.WithoutCancel(ctx)))
}

// fail makes wait return err. Later ones are dropped: they follow from the first.
func (d *daemon) fail(err error) {
	select {
	case d.fatal <- err:
	default:
	}
}

// open opens the listeners and serves on them.
func (d *daemon) open(ctx context.Context) (err error) {
	// Before the ports: "address already in use" would hide the real reason.
	if err := store.Claimable(d.c.Store.Dir); err != nil {
		return err
	}
	var lc net.ListenConfig
	if d.listen, err = lc.Listen(ctx, "tcp", d.c.Listen); err != nil {
		return fmt.Errorf("--listen %s: %w", d.c.Listen, err)
	}
	if err := d.openPeers(ctx); err != nil {
		_ = d.listen.Close()
		return err
	}
	d.clients.serve(d.listen, d.public())
	admin := "off"
	if d.c.AdminListen != "" {
		if d.adminListen, err = lc.Listen(ctx, "tcp", d.c.AdminListen); err != nil {
			if d.peerListen != nil {
				_ = d.peerListen.Close() // nothing was served on it
			}
			d.clients.close(ctx)
			return fmt.Errorf("--admin-listen %s: %w", d.c.AdminListen, err)
		}
		d.servers.serve(d.adminListen, d.admin())
		admin = "http://" + d.adminListen.Addr().String()
		if !IsLoopback(d.c.AdminListen) {
			d.log.Warn().Str("address", d.c.AdminListen).Msg("the admin listener is reachable from other machines; /metrics needs no token")
		}
	}
	d.log.Info().Str("mcp", d.endpoint()).Str("admin", admin).Int("pid", os.Getpid()).Str("version", d.c.Version).Msg("listening; not ready yet")
	return nil
}

func (d *daemon) endpoint() string { return "http://" + d.listen.Addr().String() + "/mcp" }

// start brings everything up behind the open listeners.
func (d *daemon) start(ctx context.Context) error {
	if err := d.openStore(ctx); err != nil {
		return err
	}
	if err := d.store.Keyring().Complete(); err != nil {
		return err
	}
	d.tellStore()
	if err := d.openControl(ctx); err != nil {
		return err
	}
	token, path, err := d.adminToken()
	if err != nil {
		return err
	}
	d.token.Store(&token)
	d.phase.enter(phaseRestoring)
	if err := d.store.Restore(ctx); err != nil {
		return err
	}
	if err := d.checkKeys(ctx); err != nil {
		return err
	}
	d.tellRestored()
	d.tellAcceptance()
	if err := d.joinReplicas(ctx); err != nil {
		return err
	}
	if err := d.wire(); err != nil { //nolint:contextcheck // what it makes outlives the start
		return err
	}
	if err := d.noteStart(ctx); err != nil {
		return err
	}
	d.noted = true
	if err := d.keepSnapshots(ctx); err != nil {
		return err
	}
	d.phase.open(d.gateway)
	d.tellReady(path)
	return nil
}

// openStore opens the store. A NATS of the operator's may start later than this replica, or be in an election: it is
// waited for, for ever, because whoever restarts this process instead could do no better.
func (d *daemon) openStore(ctx context.Context) error {
	const most = 5 * time.Second
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, most) {
		opened, err := store.Open(ctx, d.c.Store)
		if err == nil {
			d.store = opened
			return nil
		}
		if d.c.Store.NATSURL == "" || !errors.Is(err, journal.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		d.log.Warn().Err(err).Dur("again_in_ms", wait).Msg("NATS cannot be reached, or is not ready yet; waiting for it")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// noteStart appends that this replica started. Where the journal takes nothing now, as on a full disk, that follows
// later: no session is lost to its client by that, and a replica that ended would not go on by itself.
func (d *daemon) noteStart(ctx context.Context) error {
	err := d.note(ctx, journal.KindReplicaStarted)
	if !errors.Is(err, journal.ErrUnavailable) {
		return err
	}
	d.log.Error().Err(err).Msg("nothing can be stored now: until it can, requests that need it are refused, new sessions above all")
	d.store.Committer.Post(d.event(journal.KindReplicaStarted))
	return nil
}

// note appends an event for the record about this replica.
func (d *daemon) note(ctx context.Context, k journal.Kind) error {
	if _, err := d.store.Committer.Append(ctx, d.event(k)); err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	return nil
}

func (d *daemon) event(k journal.Kind) journal.Event {
	n := &journal.Note{Replica: d.c.Replica}
	if k == journal.KindReplicaStarted {
		n.Version, n.Kinds = d.c.Version, journal.LastKind
	}
	return journal.Event{Kind: k, At: journal.InstantOf(time.Now()), Note: n}
}

// reload reads the key file and the token file again at every SIGHUP, one of the start's included, until ctx ends.
func (d *daemon) reload(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hup:
		}
		d.reloadKeys(ctx)
		d.reloadTokens()
	}
}

// wait returns when the daemon is to stop, and why if it was not asked to.
func (d *daemon) wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.reload(ctx) })
	wg.Go(func() { d.watchTokens(ctx) })
	wg.Go(func() { d.runSnapshots(ctx) })
	wg.Go(func() { d.tendKeys(ctx) })
	wg.Go(func() { d.keepPresent(ctx) })
	defer wg.Wait()
	defer cancel()
	select {
	case <-ctx.Done():
		d.log.Info().Msg("asked to stop; a second signal stops at once (sessions are safe either way)")
		return nil
	case err := <-d.fatal:
		return err
	case <-d.store.Follower.Done():
		err := d.store.Follower.Err()
		if errors.Is(err, journal.ErrDamaged) && d.store.LossElsewhere(ctx) {
			d.noted = false // whatever is written now would tell of a history that no longer counts
			return fmt.Errorf("%w: %w", errLossElsewhere, err)
		}
		return fmt.Errorf("the journal can no longer be read: %w", err)
	}
}

// errLossElsewhere says that another replica has accepted a loss of what was folded here.
var errLossElsewhere = errors.New("another replica has accepted a loss")

// serving reports whether the sessions are there to be asked for.
func (d *daemon) serving() bool { return d.phase.is(phaseReady) }

func (d *daemon) progress(p replay.Progress) {
	d.phase.note(p)
	d.tellProgress(p)
}

// committing ends the daemon when the committer can do no more.
type committing struct {
	*metrics.Metrics
	fail func(error)
}

// AttemptFailed implements commit.Observer.
func (c committing) AttemptFailed(err error) {
	c.Metrics.AttemptFailed(err)
	if errors.Is(err, journal.ErrForeignBatch) || errors.Is(err, journal.ErrDamaged) {
		c.fail(fmt.Errorf("the journal can no longer be written: %w", err))
	}
}
