package main

import (
	"errors"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// childFlags are for an upstream that speaks over stdin and stdout.
type childFlags struct {
	UpstreamCommand      string          `help:"Command of an MCP server that speaks over stdin and stdout, instead of --upstream: one child process a live session, with the tenant's N8N_API_URL and N8N_API_KEY in its environment. No shell: quotes and backslashes work, nothing else." placeholder:"COMMAND" group:"upstream"`
	UpstreamEnv          []string        `help:"With --upstream-command: what a child's environment has besides PATH, HOME, LANG, LC_ALL, TMPDIR, TZ and the tenant's context: NAME to pass on, NAME=VALUE to set; comma-separated." placeholder:"NAME" group:"upstream"`
	UpstreamMaxChildren  int             `help:"With --upstream-command: most children at a time. One that has nothing to do makes way; where all are at work, a session waits for its child." default:"100" group:"upstream"`
	UpstreamMaxStarting  int             `help:"With --upstream-command: most children that start at a time; 0 = twice the processors." default:"0" group:"upstream"`
	UpstreamStartTimeout config.Duration `help:"With --upstream-command: a child that has not answered initialize by then is killed." default:"1m" group:"upstream"`
	UpstreamMemory       config.Size     `help:"With --upstream-command: a child that has more memory of its own, with all that it has started, is killed; looked at every second. 0 = no limit." placeholder:"SIZE" default:"0" group:"upstream"`
}

// children turns the flags into configuration.
func (f *childFlags) children(c *daemon.Config) error {
	if f.UpstreamCommand == "" {
		return nil
	}
	words, err := stdio.ParseCommand(f.UpstreamCommand)
	if err != nil {
		return console.Usage(err, "quote what holds spaces, or name a script: --upstream-command '/bin/sh -c \"...\"'")
	}
	if f.UpstreamMaxChildren < 1 || f.UpstreamMaxStarting < 0 {
		return console.Usage(errors.New("--upstream-max-children or --upstream-max-starting is too small"), "leave it out for the default")
	}
	c.Children = stdio.Options{
		Command: words, Env: f.UpstreamEnv, MaxChildren: f.UpstreamMaxChildren, MaxStarting: f.UpstreamMaxStarting,
		StartTimeout: f.UpstreamStartTimeout.Std(), MaxMemory: f.UpstreamMemory.Bytes(),
	}
	return positive("upstream-start-timeout", f.UpstreamStartTimeout)
}
