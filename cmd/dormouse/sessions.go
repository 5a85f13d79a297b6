package main

import (
	"context"
	"fmt"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
)

type sessionsCmd struct {
	Ls    sessionsLsCmd    `cmd:"" help:"List sessions, the last accessed first."`
	Show  sessionsShowCmd  `cmd:"" help:"Show one session with its last events."`
	Close sessionsCloseCmd `cmd:"" help:"End sessions. Their clients get 404 and must start anew."`
}

type sessionsLsCmd struct {
	storeFlags
	jsonFlag
}

// Help implements kong.HelpProvider.
func (*sessionsLsCmd) Help() string {
	return `Works beside a running daemon as well as on a stopped one's folder. A ref names a session without giving it away: the session ID itself is never shown.

Examples:

    dormouse sessions ls
    dormouse sessions ls --json | jq -r '.[] | select(.state == "live") | .ref'`
}

// Run lists the sessions.
func (c *sessionsLsCmd) Run(ctx context.Context, s console.Streams) error {
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	sessions, err := client.Sessions(ctx)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, sessions)
	}
	views.Sessions(s, sessions)
	return nil
}

type sessionsShowCmd struct {
	storeFlags
	jsonFlag
	Ref    string `arg:"" help:"Session ref; it may be abbreviated while it is unique."`
	Events int    `help:"How many of its last events to show." default:"10" short:"n"`
}

// Help implements kong.HelpProvider.
func (*sessionsShowCmd) Help() string {
	return `An ended session is shown as far as the history goes.

Example:

    dormouse sessions show 3f9c12ab`
}

// Run shows a session.
func (c *sessionsShowCmd) Run(ctx context.Context, s console.Streams) error {
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	d, err := client.Session(ctx, c.Ref, c.Events)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, d)
	}
	views.Detail(s, d)
	return nil
}

type sessionsCloseCmd struct {
	storeFlags
	Ref []string `arg:"" help:"Session refs; they may be abbreviated while they are unique."`
}

// Help implements kong.HelpProvider.
func (*sessionsCloseCmd) Help() string {
	return `The end of a session is an event in the journal like any other (closed, reason admin).

Example:

    dormouse sessions close 3f9c12ab`
}

// Run closes the sessions. It goes on after a failure and reports the first.
func (c *sessionsCloseCmd) Run(ctx context.Context, s console.Streams) error {
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	var failed error
	for _, text := range c.Ref {
		ref, err := client.CloseSession(ctx, text)
		if err == nil {
			fmt.Fprintf(s.Out, "closed %s\n", ref)
			continue
		}
		if failed != nil {
			fmt.Fprintf(s.Err, "dormouse: %v\n", failed)
		}
		failed = answered(err)
	}
	return failed
}
