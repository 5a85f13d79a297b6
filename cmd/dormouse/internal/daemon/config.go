// Package daemon is `dormouse serve`: it brings the rooms together behind two listeners and a control socket, and
// takes them down in order.
//
// # Start
//
// The listeners open at once: /healthz answers 200, /readyz 503 with the progress; requests to /mcp wait for two
// seconds (those for a stream longer) and are then answered 503 with Retry-After. Then
// the folder is locked, the keyring loaded, the journal opened and folded. Then the sessions are there, dormant,
// /readyz turns 200 and /mcp serves.
//
// # Shutdown
//
// In this order, each step after the one before has ended or its time is up:
//
//  1. /readyz turns 503, and for --drain-time everything is still served; then the other replicas are told to take over
//  2. the listeners for clients and for other replicas close; streams are cut
//  3. requests under way are waited for, two thirds of the time at most; runtimes are closed
//  4. the event replica-stopped is stored, and what waits in the committer with it
//  5. follower, connection and embedded server stop; the folder's lock is given back
//  6. the admin listener and the control socket close
//
// None of it is needed to keep the sessions: kill -9 at any point loses none.
package daemon

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// ErrConfig says that the configuration contradicts itself or names files or URLs that cannot be used. Nothing was
// started.
var ErrConfig = errors.New("configuration")

// ErrUnsafe says that the configuration would let strangers in. Nothing was started.
var ErrUnsafe = errors.New("refusing to listen beyond loopback without authentication")

// Config is what a daemon runs with. Limits of zero are the engine's defaults.
type Config struct {
	Store   store.Options
	Version string
	Replica journal.ReplicaID

	Listen      string // host:port of the clients' listener
	AdminListen string // of the operator's; empty = none

	Upstream             string        // URL of a streamable-HTTP MCP server; empty = the built-in n8n tools
	UpstreamTokenFile    string        // bearer token for it; empty = none
	AnswerWait           time.Duration // how long it may be silent while a call waits; 0 = the gateway's default
	ForwardAuthorization bool          // pass the client's Authorization on although it was checked here
	URLPolicy            n8n.Policy

	Children stdio.Options // of an upstream that is a child process for each session; without a Command: none

	AuthTokenFile  string              // who may come in; empty = see Passthrough
	Passthrough    bool                // the upstream checks credentials
	JWT            *gateway.JWTOptions // who may come in with a JWT; nil = nobody
	Limits         gateway.Limits
	ForwardedFor   gateway.ForwardedFor // what the upstream learns of clients' addresses
	AllowedOrigins []string             // of browsers; empty = none
	AllowedHosts   []string             // names under which clients reach it; empty = the gateway's default
	ExportKeyFile  string               // of the encrypted export; empty = none
	AdminTokenFile string               // empty = <data>/admin.token, made at first start

	SessionTimeout  time.Duration
	HibernateAfter  time.Duration
	ShutdownTimeout time.Duration // of all of it; 0 = 15 seconds
	MaxSessions     int
	MaxPerTenant    int
	MaxPerPrincipal int
	MaxLive         int

	Snapshots Snapshots
	Replicas  Replicas

	Logger   zerolog.Logger
	Progress func(replay.Progress) // of the restore, with Ready at its end; nil = a long one is in the log about once a second
}

func (c *Config) complete() error {
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 15 * time.Second
	}
	if c.Replicas.Presence == 0 {
		c.Replicas.Presence = 24 * time.Hour
	}
	if err := errors.Join(c.checkAccess(), c.checkChildren()); err != nil {
		return err
	}
	if c.URLPolicy == 0 {
		c.URLPolicy = n8n.Strict
		if IsLoopback(c.Listen) {
			c.URLPolicy = n8n.Moderate
		}
	}
	return nil
}

// IsLoopback reports whether an address to listen on can be reached from this machine alone.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
