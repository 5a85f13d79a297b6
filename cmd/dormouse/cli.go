package main

import (
	"context"
	"errors"

	"github.com/alecthomas/kong"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

const description = `
Dormouse keeps MCP sessions alive across crashes, deploys and replicas.

It stands in front of an MCP server and journals every session to an embedded NATS JetStream.
After a crash, kill -9 included, it restores the sessions and each wakes on its next request.

  dormouse demo                                see it happen: real clients, kill -9, nobody reconnects
  dormouse serve                               run the gateway with the built-in n8n tools
  dormouse serve --upstream http://…/mcp       run it in front of any streamable-HTTP MCP server
  dormouse sessions ls                         who is connected
  dormouse log --follow                        what they do

Every flag has an environment form (DORMOUSE_SESSION_TIMEOUT) and a line in an optional YAML file
(--config; keys are flag names); flags win over the environment, which wins over the file.
Results go to standard output, everything else to standard error.

Exit codes: 0 done, 1 failed or the answer is no, 2 wrong usage, 3 refused because it would be unsafe
(the folder is in use, no authentication beyond loopback, the journal is not the one that was here).`

type cli struct {
	Config    string `help:"YAML file with flags' values: a line 'session-timeout: 30m' for --session-timeout." placeholder:"FILE" group:"general"`
	LogFormat string `help:"How to log: console, json, or auto (console on a terminal)." enum:"auto,console,json" default:"auto" group:"general"`
	LogLevel  string `help:"Least level to log: trace, debug, info, warn, error." enum:"trace,debug,info,warn,error" default:"info" group:"general"`

	Serve    serveCmd    `cmd:"" help:"Run the gateway."`
	Demo     demoCmd     `cmd:"" help:"The story in one command: real clients, kill -9, restart, the same clients go on."`
	Sessions sessionsCmd `cmd:"" help:"List, show or close sessions."`
	Log      logCmd      `cmd:"" help:"Show the journal's events, newest last."`
	Keys     keysCmd     `cmd:"" help:"List, rotate or export the keys of the journal."`
	Tenants  tenantsCmd  `cmd:"" help:"List tenants, or erase one for ever."`
	Export   exportCmd   `cmd:"" help:"Write all sessions to a file, for another Dormouse or n8n-mcp."`
	Restore  restoreCmd  `cmd:"" help:"Bring in sessions from a file that export, the admin API or n8n-mcp wrote."`
	Replay   replayCmd   `cmd:"" help:"Show the sessions as they were at a time or after a batch."`
	Snapshot snapshotCmd `cmd:"" help:"Compact the journal's state now, so that the next start is quick."`
	Verify   verifyCmd   `cmd:"" help:"Is the history whole? Every place where it is not."`
	Bench    benchCmd    `cmd:"" help:"Measure Dormouse beside its naive rivals."`
	Doctor   doctorCmd   `cmd:"" help:"Check data folder, keys, journal, clock and upstream."`
	Version  versionCmd  `cmd:"" help:"Show version, protocol versions and event kinds."`
}

func groups() []kong.Group {
	return []kong.Group{
		{Key: "listen", Title: "Listening:"},
		{Key: "upstream", Title: "Upstream:"},
		{Key: "access", Title: "Who may come in:"},
		{Key: "limits", Title: "Limits:"},
		{Key: "storage", Title: "Storage:"},
		{Key: "nats", Title: "A NATS of your own, in place of the embedded one:"},
		{Key: "replicas", Title: "Replicas:"},
		{Key: "general", Title: "General:"},
	}
}

// storeFlags say where the store is. Every command that looks at one has them.
type storeFlags struct {
	Data    string `help:"Data folder." default:"${data}" group:"storage"`
	KeyFile string `help:"Keyring file, instead of <data>/keys. The environment's DORMOUSE_KEYS may hold the keys themselves." placeholder:"FILE" group:"storage"`
	natsFlags
}

// natsFlags lead to a NATS of the operator's.
type natsFlags struct {
	NATSURL     string   `help:"Keep the journal in this NATS with JetStream: URLs, separated by commas." placeholder:"URL" name:"nats-url" group:"nats"`
	NATSPrefix  string   `help:"What the names of its streams and subjects begin with: several deployments may share a NATS." placeholder:"NAME" name:"nats-prefix" group:"nats"`
	NATSCreds   string   `help:"Credentials file for it." placeholder:"FILE" name:"nats-creds" group:"nats"`
	NATSNKey    string   `help:"File with the seed of an nkey." placeholder:"FILE" name:"nats-nkey" group:"nats"`
	NATSTLSCA   string   `help:"Authorities that signed the servers' certificates, instead of the system's." placeholder:"FILE" name:"nats-tls-ca" group:"nats"`
	NATSTLSCert string   `help:"Client certificate." placeholder:"FILE" name:"nats-tls-cert" group:"nats"`
	NATSTLSKey  string   `help:"Its key." placeholder:"FILE" name:"nats-tls-key" group:"nats"`
	NATSMonitor []string `help:"URLs of the servers' monitoring ports (http://HOST:8222), comma-separated: what the servers guarantee can then be checked." placeholder:"URL" name:"nats-monitor" group:"nats"`
}

func (f *natsFlags) fill(o *store.Options) {
	o.NATSURL, o.Prefix, o.NATSMonitors = f.NATSURL, f.NATSPrefix, f.NATSMonitor
	o.NATSCreds, o.NATSNKey = f.NATSCreds, f.NATSNKey
	o.NATSCA, o.NATSCert, o.NATSCertKey = f.NATSTLSCA, f.NATSTLSCert, f.NATSTLSKey
}

type jsonFlag struct {
	JSON bool `help:"Write JSON for programs instead of a table." name:"json"`
}

// connect returns a client of the folder's daemon or, when none runs, of the store opened here; done closes it.
func (f *storeFlags) connect(ctx context.Context, s console.Streams) (c *control.Client, done func(), err error) {
	c, err = control.Connect(ctx, f.Data)
	if err == nil {
		return c, func() {}, nil
	}
	if !errors.Is(err, control.ErrNoDaemon) {
		return nil, nil, err
	}
	return openStopped(ctx, f, s)
}

// positive refuses an explicit zero where it would switch something off by accident.
func positive(name string, d config.Duration) error {
	if d == 0 {
		return console.Usage(errors.New("--"+name+" is zero"), "write a duration such as 30m, or leave it out")
	}
	return nil
}
