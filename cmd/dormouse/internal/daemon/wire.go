package daemon

import (
	"fmt"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/durable"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/metrics"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// makeUpstream makes what answers MCP requests.
func (d *daemon) makeUpstream() (gateway.Upstream, error) {
	if d.c.Upstream != "" {
		return d.httpUpstream()
	}
	if len(d.c.Children.Command) > 0 {
		return d.childUpstream()
	}
	client, err := n8n.NewClient(n8n.ClientOptions{
		Policy: d.c.URLPolicy, UserAgent: "dormouse/" + d.c.Version, Logger: d.log,
	})
	if err != nil {
		return nil, err
	}
	return gateway.NewInProcess(func(ic engine.InstanceContext) (*mcp.Server, error) {
		return n8n.NewServer(ic, n8n.ServerOptions{Client: client, Version: d.c.Version})
	}), nil
}

func (d *daemon) httpUpstream() (gateway.Upstream, error) {
	o := gateway.HTTPUpstreamOptions{
		// A token that was checked here is nobody else's business.
		StripAuthorization: d.c.checksTokens() && !d.c.ForwardAuthorization,
		ForwardedFor:       d.c.ForwardedFor,
	}
	if d.c.UpstreamTokenFile != "" {
		token, err := gateway.ReadToken(d.c.UpstreamTokenFile)
		if err != nil {
			return nil, err
		}
		o.Token = token
	}
	return gateway.NewHTTPUpstream(d.c.Upstream, o)
}

// prepare reads what needs no journal, so that a mistake is told before anything is started or made.
func (d *daemon) prepare() (err error) {
	if d.upstream, err = d.makeUpstream(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if d.exportKey, err = exportKey(d.c.ExportKeyFile); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return d.openAccess()
}

// authenticator checks who calls; nil where nobody is checked, on loopback.
func (d *daemon) authenticator() gateway.Authenticator {
	switch {
	case d.tokens != nil:
		return d.tokens
	case d.jwt != nil:
		return d.jwt
	case d.c.Passthrough:
		return gateway.Passthrough{Name: d.store.Keyring().Name}
	default:
		return nil
	}
}

func (d *daemon) identifier() *gateway.Identifier {
	return &gateway.Identifier{
		Auth: d.authenticator(), Name: d.store.Keyring().Name, CanonicalURL: n8n.CanonicalURL, Context: d.context,
	}
}

// context reads the instance context of a request and judges its address.
func (d *daemon) context(h http.Header) (*engine.InstanceContext, error) {
	ic, err := n8n.ParseContext(h)
	if err != nil || ic == nil {
		return ic, err
	}
	return ic, d.c.URLPolicy.Validate(*ic)
}

// watch lets the metrics see the state.
func (d *daemon) watch() {
	d.metrics.Watch(metrics.Sources{
		Ready:    d.serving,
		Sessions: func() engine.SessionInfo { return d.engine.SessionInfo() },
		Fold: func() (stats replay.Stats, seq journal.Seq) {
			d.store.Follower.View(func(st *replay.State) { stats, seq = st.Stats(), st.Seq() })
			return stats, seq
		},
		Restore: func() float64 { return d.phase.now().ElapsedMS / 1000 },
	})
}

// wire puts engine and gateway on the restored store.
func (d *daemon) wire() error {
	name := d.store.Keyring().Name
	a, err := durable.Assemble(durable.Parts{
		Replica: d.c.Replica, Appender: d.store.Committer, Table: d.store.Follower, Vault: d.store.Vault, Name: name,
	}, durable.Wiring{
		Waker: gateway.WakerOptions{
			Upstream: d.upstream, Replicas: d.directory, AnswerWait: d.c.AnswerWait, Observer: d.metrics, Logger: d.log,
		},
		Engine: engine.Options{
			SessionTimeout: d.c.SessionTimeout, MaxSessions: d.c.MaxSessions, MaxPerTenant: d.c.MaxPerTenant, MaxPerPrincipal: d.c.MaxPerPrincipal, MaxLive: d.c.MaxLive,
			HibernateAfter: d.c.HibernateAfter, Logger: d.log, Observer: d.metrics,
			ValidateContext: d.c.URLPolicy.Validate,
		},
		Gateway: gateway.Options{
			Identify: d.identifier().Identify, AllowedOrigins: d.c.AllowedOrigins, AllowedHosts: d.c.AllowedHosts,
			Limits: d.c.Limits, Peers: d.peers, Observer: d.metrics, Logger: d.log,
		},
	})
	if d.upstream.Shared() {
		d.metrics.WatchUpstream()
	}
	d.waker, d.engine, d.gateway = a.Waker, a.Engine, a.Gateway // shutdown ends what there is
	if err == nil {
		d.listening.Store(d.waker)
	}
	return err
}
