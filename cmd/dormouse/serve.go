package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

type serveCmd struct {
	storeFlags
	accessFlags
	childFlags
	Listen      string `help:"Where clients reach /mcp, /healthz and /readyz." default:"127.0.0.1:8808" group:"listen"`
	AdminListen string `help:"Where operators reach /metrics and /internal/; 'off' for none." default:"127.0.0.1:8809" group:"listen"`

	Upstream             string          `help:"URL of the MCP server to stand in front of (streamable HTTP). Without it: the built-in n8n tools." placeholder:"URL" group:"upstream"`
	UpstreamSilence      config.Duration `help:"How long the upstream may answer nobody, not even a ping, while a call waits for its answer. It is waited for while it answers anything." default:"5m" group:"upstream"`
	UpstreamTokenFile    string          `help:"File with a bearer token for the upstream, sent instead of the client's." placeholder:"FILE" group:"upstream"`
	ForwardAuthorization bool            `help:"Pass the clients' Authorization header to the upstream even where --auth-token-file has checked it." group:"upstream"`
	URLPolicy            string          `help:"Which addresses tenants may point at with x-n8n-url: strict (public ones), moderate (and loopback), permissive (and private networks). auto is moderate when listening on loopback, else strict." enum:"auto,strict,moderate,permissive" default:"auto" name:"url-policy" group:"upstream"`

	AuthTokenFile  string   `help:"File of bearer tokens, a line each: NAME:TOKEN, or NAME TENANT TOKEN." placeholder:"FILE" group:"access"`
	Auth           string   `help:"'passthrough' leaves checking credentials to the upstream; 'jwt' checks tokens of one issuer." enum:"none,passthrough,jwt" default:"none" group:"access"`
	AllowedOrigins []string `help:"Origins of browser clients to let in, comma-separated." placeholder:"ORIGIN" group:"access"`
	AllowedHosts   []string `help:"Host names under which clients reach the gateway, comma-separated; loopback names always work on loopback." placeholder:"HOST" group:"access"`
	AdminTokenFile string   `help:"File with the admin listener's bearer token, instead of <data>/admin.token." placeholder:"FILE" group:"access"`

	ExportKeyFile string `help:"Key of the encrypted session export: 64 hexadecimal digits." placeholder:"FILE" group:"access"`

	SessionTimeout       config.Duration `help:"A session that is not used for so long expires." default:"30m" group:"limits"`
	MaxSessions          int             `help:"Most sessions in all; beyond it initialize is answered 429." default:"10000" group:"limits"`
	MaxSessionsPerTenant int             `help:"Most sessions of one tenant; 0 = no limit of its own." default:"0" group:"limits"`
	MaxLive              int             `help:"Most sessions with a runtime at a time; the least recently used hibernate." default:"1000" group:"limits"`
	HibernateAfter       config.Duration `help:"A live session that is not used for so long hibernates; its next request wakes it." default:"5m" group:"limits"`
	ShutdownTimeout      config.Duration `help:"Most time that a shutdown in order may take." default:"15s" group:"limits"`

	Retention       config.Duration `help:"How long the journal's batches are kept once snapshots hold what they led to: how far history and replay reach back. 0 = for ever." default:"720h" group:"storage"`
	SnapshotEvery   config.Duration `help:"Take a snapshot at least so often, if anything has changed." default:"10m" group:"storage"`
	SnapshotEvents  int             `help:"Take one after so many events." default:"100000" group:"storage"`
	SnapshotBatches int             `help:"Take one after so many batches." default:"20000" group:"storage"`

	MinFree config.Size `help:"Where the journal is on this machine's disk: leave so much of it free. Below that new sessions are refused, and nothing that was answered is lost. 0 = use all of it." default:"64MiB" group:"storage"`

	AcceptLoss bool `help:"Where the journal is damaged, go on without what is lost: that is recorded and journaled, and everything that can be proven good is kept. See 'dormouse verify' first." group:"storage"`

	NATSReplicas     int             `help:"Replicas of the streams, when they are made: 1, 3 or 5." enum:"1,3,5" default:"1" name:"nats-replicas" group:"replicas"`
	Cluster          string          `help:"Make the embedded servers of three or five replicas one JetStream cluster of this name. All need the same key file." placeholder:"NAME" group:"replicas"`
	ClusterListen    string          `help:"Where the cluster's other servers reach this one." placeholder:"HOST:PORT" group:"replicas"`
	ClusterPeers     []string        `help:"Where all servers of the cluster listen, comma-separated, the same on all of them." placeholder:"HOST:PORT" group:"replicas"`
	ReplicaListen    string          `help:"Where other replicas forward requests to whose sessions live in this process. Connections prove that they come from a replica with the same keyring." placeholder:"HOST:PORT" group:"replicas"`
	ReplicaAdvertise string          `help:"Under which address they reach it, if --replica-listen names none that they can use." placeholder:"https://HOST:PORT" group:"replicas"`
	FenceAfter       config.Duration `help:"A replica that has not heard from the stream for so long no longer serves sessions that live in its process: another one takes them over a little later. The same on all replicas." default:"10s" group:"replicas"`
	DrainTime        config.Duration `help:"At a shutdown, go on serving for so long with /readyz at 503, until balancers look elsewhere. Longer than they take to notice." default:"0s" group:"replicas"`
	ReplicaName      string          `help:"Name of this replica in the journal, another one than every other replica's; the host's name by default." placeholder:"NAME" group:"replicas"`
}

// Help implements kong.HelpProvider.
func (*serveCmd) Help() string {
	return `Sessions are journaled as they happen, so there is nothing to save at shutdown: after kill -9, start it again on the same data folder and clients go on with the sessions that they hold. The first start makes the data folder and in it a keyring: back that up.

Examples:

    dormouse serve
    dormouse serve --upstream http://127.0.0.1:3000/mcp
    dormouse serve --upstream-command 'npx -y n8n-mcp' --upstream-env MCP_MODE=stdio
    dormouse serve --listen 0.0.0.0:8808 --auth-token-file tokens --data /var/lib/dormouse
    DORMOUSE_SESSION_TIMEOUT=2h dormouse serve --config dormouse.yaml

Durations are written 30m, 1h30m, or as plain milliseconds: 1800000.`
}

// Run serves until it is told to stop.
func (c *serveCmd) Run(ctx context.Context, root *cli, s console.Streams) error {
	log, err := s.Logger(root.LogFormat, root.LogLevel)
	if err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	cfg := c.config()
	if err := c.children(&cfg); err != nil {
		return err
	}
	cfg.Logger, cfg.Store.Logger = log, log
	bar, progress := foldingBar(s)
	defer bar.Done()
	if bar.Visible() && root.LogFormat != console.LogJSON {
		cfg.Progress = progress
	}
	return hinted(daemon.Run(ctx, cfg), c.Data)
}

func (c *serveCmd) check() error {
	if c.Cluster != "" && c.NATSURL != "" {
		return console.Usage(errors.New("--cluster and --nats-url exclude each other"), "a cluster is of the embedded servers")
	}
	for name, n := range map[string]int{
		"max-sessions": c.MaxSessions - 1, "max-live": c.MaxLive - 1, "max-sessions-per-tenant": c.MaxSessionsPerTenant, "max-sessions-per-principal": c.MaxSessionsPerPrincipal,
		"snapshot-events": c.SnapshotEvents - 1, "snapshot-batches": c.SnapshotBatches - 1,
	} {
		if n < 0 {
			return console.Usage(errors.New("--"+name+" is too small"), "leave it out for the default")
		}
	}
	return errors.Join(
		positive("session-timeout", c.SessionTimeout), positive("hibernate-after", c.HibernateAfter),
		positive("shutdown-timeout", c.ShutdownTimeout), positive("snapshot-every", c.SnapshotEvery),
		positive("fence-after", c.FenceAfter), positive("upstream-silence", c.UpstreamSilence),
	)
}

func (c *serveCmd) config() daemon.Config {
	cfg := daemon.Config{
		Store: c.options(), Version: version().Version, Replica: journal.ReplicaID(c.replica()),
		Listen: c.Listen, AdminListen: c.AdminListen,
		Upstream: c.Upstream, UpstreamTokenFile: c.UpstreamTokenFile, AnswerWait: c.UpstreamSilence.Std(), ForwardAuthorization: c.ForwardAuthorization,
		AuthTokenFile: c.AuthTokenFile, Passthrough: c.Auth == "passthrough",
		AllowedOrigins: c.AllowedOrigins, AllowedHosts: c.AllowedHosts, AdminTokenFile: c.AdminTokenFile, ExportKeyFile: c.ExportKeyFile,
		SessionTimeout: c.SessionTimeout.Std(), HibernateAfter: c.HibernateAfter.Std(), ShutdownTimeout: c.ShutdownTimeout.Std(),
		MaxSessions: c.MaxSessions, MaxPerTenant: c.MaxSessionsPerTenant, MaxLive: c.MaxLive,
	}
	c.access(c.Auth, &cfg)
	if strings.EqualFold(c.AdminListen, "off") {
		cfg.AdminListen = ""
	}
	if p, err := n8n.ParsePolicy(c.URLPolicy); err == nil { // "auto" stays zero: it depends on where we listen
		cfg.URLPolicy = p
	}
	cfg.Snapshots = daemon.Snapshots{
		EveryEvents: c.SnapshotEvents, EveryMessages: c.SnapshotBatches, EveryTime: c.SnapshotEvery.Std(), Retention: c.Retention.Std(),
	}
	cfg.Replicas = daemon.Replicas{
		Listen: c.ReplicaListen, Advertise: c.ReplicaAdvertise, Fence: c.FenceAfter.Std(), Drain: c.DrainTime.Std(),
	}
	cfg.Store.Create, cfg.Store.AcceptLoss = true, c.AcceptLoss
	if cfg.Store.MinFree = c.MinFree.Bytes(); c.MinFree == 0 {
		cfg.Store.MinFree = -1
	}
	cfg.Store.Replicas = c.NATSReplicas
	if c.Cluster != "" {
		cfg.Store.Replicas = max(cfg.Store.Replicas, 3)
		cfg.Store.Cluster = jetstream.ClusterOptions{Name: c.Cluster, Listen: c.ClusterListen, Peers: c.ClusterPeers}
	}
	return cfg
}

func (c *serveCmd) replica() string {
	if c.ReplicaName != "" {
		return c.ReplicaName
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		return host
	}
	return "dormouse"
}
