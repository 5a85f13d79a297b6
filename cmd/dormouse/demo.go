package main

import (
	"context"
	"os"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/demo"
)

type demoCmd struct {
	Clients int             `help:"How many MCP clients." default:"6"`
	Kills   int             `help:"How often the gateway is killed." default:"1"`
	Traffic config.Duration `help:"Time of traffic between kills." default:"1s"`
	Keep    bool            `help:"Keep the demo's folder, to look into it afterwards."`
}

// Help implements kong.HelpProvider.
func (*demoCmd) Help() string {
	return `Starts a stand-in for n8n and a gateway as a child process, connects real clients (the official Go SDK's) as different tenants, lets them call tools, kills the gateway with SIGKILL in the middle of it, and starts it again. Then it shows what each client saw and what the journal recorded. Everything happens on loopback, in a folder of its own that is removed afterwards.

The exit code is 1 if any client did not go on with the session that it had.

Examples:

    dormouse demo
    dormouse demo --clients 50 --kills 5
    dormouse demo --keep`
}

// Run tells the story.
func (c *demoCmd) Run(ctx context.Context, s console.Streams) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := positive("traffic", c.Traffic); err != nil {
		return err
	}
	return demo.Run(ctx, demo.Options{
		Executable: exe, Clients: c.Clients, Kills: c.Kills, Traffic: c.Traffic.Std(), Keep: c.Keep, Streams: s,
	})
}
