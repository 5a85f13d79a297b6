package daemon

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// checkChildren says what is wrong with an upstream of child processes.
func (c *Config) checkChildren() error {
	if len(c.Children.Command) > 0 && (c.Upstream != "" || c.UpstreamTokenFile != "") {
		return fmt.Errorf("%w: --upstream-command excludes --upstream and --upstream-token-file", ErrConfig)
	}
	return nil
}

// childUpstream makes the upstream that starts a child for each live session.
func (d *daemon) childUpstream() (gateway.Upstream, error) {
	if err := shield(); err != nil {
		d.log.Warn().Err(err).Msg("child processes may be able to read this process's environment")
	}
	o := d.c.Children
	o.IdleAfter, o.Logger = d.c.HibernateAfter, d.log
	up, err := stdio.New(o)
	if err == nil {
		d.metrics.WatchChildren(up.Stats)
	}
	return up, err
}

// closeUpstream ends what the upstream has left when all runtimes are closed.
func (d *daemon) closeUpstream() {
	if c, ok := d.upstream.(io.Closer); ok {
		if err := c.Close(); err != nil {
			d.log.Warn().Err(err).Msg("closing the upstream")
		}
	}
}

// describeUpstream says what answers MCP requests. A command's arguments may hold secrets, and so may a
// URL's user and query.
func (c *Config) describeUpstream() string {
	switch {
	case c.Upstream != "":
		return gateway.ShownURL(c.Upstream)
	case len(c.Children.Command) > 0:
		return "child processes of " + filepath.Base(c.Children.Command[0])
	}
	return "built-in n8n tools; clients send x-n8n-url and x-n8n-key"
}
