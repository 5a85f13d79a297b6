package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

type restoreCmd struct {
	storeFlags
	jsonFlag
	exportKeyFlag
	File string `arg:"" help:"What 'dormouse export', the admin API or n8n-mcp's exportSessionState gave; - for standard input."`

	SessionTimeout       config.Duration `help:"On a stopped folder: sessions that were not used for so long are not taken. A running daemon has its own." default:"30m" group:"limits"`
	MaxSessions          int             `help:"On a stopped folder: most sessions in all." default:"10000" group:"limits"`
	MaxSessionsPerTenant int             `help:"On a stopped folder: most sessions of one tenant; 0 = no limit of its own." default:"0" group:"limits"`
	URLPolicy            string          `help:"On a stopped folder: which addresses tenants may point at. auto is moderate here." enum:"auto,strict,moderate,permissive" default:"auto" name:"url-policy" group:"upstream"`
}

// Help implements kong.HelpProvider.
func (*restoreCmd) Help() string {
	return `The format is found out: a JSON array, bare or as the admin API answers an export, or the encrypted or snapshot form, which need their key. The file is checked to its end before anything is stored: one that is cut off, was tampered with, or is none, changes nothing.

Each session is then taken or skipped, and counted by the reason: it timed out (the time while nothing ran included), is there already, has ended here before, is invalid, or is beyond a limit. Restoring twice is restoring once. What was taken answers the next request of whoever presents its full instance context.

It works beside a running daemon as well as on a stopped one's folder. Its log lines begin with [SECURITY]; a running daemon has them in its own log.

Examples:

    dormouse restore sessions.enc --export-key-file export.key
    dormouse restore n8n-mcp-sessions.json
    redis-cli get mcp:sessions | dormouse restore -`
}

// restoredView is the JSON summary.
type restoredView struct {
	Format  string `json:"format"`
	Entries int    `json:"entries"`
	engine.RestoreResult
}

// Run restores.
func (c *restoreCmd) Run(ctx context.Context, root *cli, s console.Streams) error {
	ef, err := c.flags(root, s)
	if err != nil {
		return err
	}
	file, err := openStates(c.File, c.Data, s, c.key)
	if err != nil {
		return err
	}
	defer file.close()
	client, done, err := c.connectTransfer(ctx, s, ef)
	if err != nil {
		return err
	}
	defer done()
	p := newByteCounter(s, "restoring", file.size, file.entries)
	result, err := client.Restore(ctx, io.TeeReader(file, p))
	p.Done()
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, restoredView{Format: file.form, Entries: file.entries, RestoreResult: result})
	}
	writeRestored(s, file, &result)
	return nil
}

func (c *restoreCmd) flags(root *cli, s console.Streams) (ef engineFlags, err error) {
	if err := positive("session-timeout", c.SessionTimeout); err != nil {
		return ef, err
	}
	ef = engineFlags{timeout: c.SessionTimeout.Std(), maxSessions: c.MaxSessions, perEach: c.MaxSessionsPerTenant, policy: n8n.Moderate}
	if p, err := n8n.ParsePolicy(c.URLPolicy); err == nil {
		ef.policy = p
	}
	ef.log, err = s.Logger(root.LogFormat, root.LogLevel)
	if s.ErrTTY { // a line for each session would push the summary away
		ef.log = ef.log.Level(zerolog.ErrorLevel)
	}
	return ef, err
}

func writeRestored(s console.Streams, f *states, r *engine.RestoreResult) {
	k := &r.Skipped
	rows := [][]string{{"restored", strconv.Itoa(r.Restored), "dormant until their next request"}}
	for _, x := range []struct {
		name string
		n    int
		why  string
	}{
		{"duplicate", k.Duplicate, "here already, or twice in the file"},
		{"expired", k.Expired, "not used for longer than the session timeout"},
		{"ended", k.Ended, "closed or expired here before: nothing is resurrected"},
		{"limit", k.Limit, "beyond a limit on sessions"},
		{"invalid", k.Invalid, "without a complete and allowed context, or not of the right form"},
	} {
		if x.n > 0 {
			rows = append(rows, []string{x.name, strconv.Itoa(x.n), "skipped: " + x.why})
		}
	}
	console.Table(s.Out, []string{"result", "sessions", ""}, rows, 2)
	fmt.Fprintf(s.Err, "%s: %s in %s form\n", f.name, views.Plural(f.entries, "session"), f.form)
}
