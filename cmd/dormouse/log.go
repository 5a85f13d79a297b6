package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/journal"
)

type logCmd struct {
	storeFlags
	Follow   bool     `help:"Go on with new events as they come; needs a running daemon." short:"f"`
	Session  string   `help:"Only this session's events; the ref may be abbreviated." placeholder:"REF"`
	Since    string   `help:"Only events since then: RFC 3339, 14:05, or how long ago: 10m." placeholder:"TIME"`
	Until    string   `help:"Only events until then." placeholder:"TIME"`
	Kind     []string `help:"Only these kinds, such as created,closed; see dormouse version." placeholder:"KIND"`
	Limit    *int     `help:"Only the newest so many; 0 = all. 100 when a person reads, all with --json." short:"n" placeholder:"N"`
	Verdicts bool     `help:"Say which events the fold refused, and why. Reads the whole journal."`
	JSON     bool     `help:"Write JSON lines, one an event, for programs." name:"json"`
}

// Help implements kong.HelpProvider.
func (*logCmd) Help() string {
	return `Each event says what happened to one session, or to the service. Nothing shown is a secret: no session ID, no credential. Where the beginning of the history was trimmed, standard error says where it begins now.

Examples:

    dormouse log --follow
    dormouse log --session 3f9c12ab --since 14:05
    dormouse log --kind created,closed,expired --since 24h
    dormouse log --json --since 10m | jq -r 'select(.call.outcome == "tool-error") | .call.tool'`
}

// Run shows events.
func (c *logCmd) Run(ctx context.Context, s console.Streams) error {
	q, err := c.query(time.Now())
	if err != nil {
		return err
	}
	client, err := c.client(ctx, s)
	if err != nil {
		return err
	}
	defer client.done()
	write := c.writer(s)
	shown := 0
	begins := "" // of a history that was trimmed
	q.Begins = func(seq journal.Seq, stored time.Time) {
		if q.Since.IsZero() || q.Since.Before(stored) {
			begins = fmt.Sprintf("history begins at message %d, %s: older batches were trimmed after --retention", seq, console.Stamp(stored, time.Now()))
		}
	}
	omitted, err := client.Log(ctx, q, func(e control.Event) error { shown++; return write(e) })
	if err != nil {
		return answered(err)
	}
	if omitted > 0 && !c.JSON {
		fmt.Fprintf(s.Err, "the newest %d of %d; -n 0 shows all\n", shown, shown+omitted)
	}
	if omitted == 0 && begins != "" {
		fmt.Fprintln(s.Err, begins)
	}
	if shown == 0 && !c.JSON {
		fmt.Fprintln(s.Err, "no such events")
	}
	return nil
}

type connected struct {
	*control.Client
	done func()
}

func (c *logCmd) client(ctx context.Context, s console.Streams) (connected, error) {
	if c.Follow {
		client, err := control.Connect(ctx, c.Data)
		if err != nil {
			return connected{}, console.Failed(err, "--follow needs one: start `dormouse serve`, or leave --follow out")
		}
		return connected{client, func() {}}, nil
	}
	client, done, err := c.connect(ctx, s)
	return connected{client, done}, err
}

func (c *logCmd) writer(s console.Streams) func(control.Event) error {
	if c.JSON {
		e := json.NewEncoder(s.Out)
		e.SetEscapeHTML(false)
		return func(ev control.Event) error { return e.Encode(ev) }
	}
	return views.EventLines(s.Out)
}

func (c *logCmd) query(now time.Time) (q control.LogQuery, err error) {
	q = control.LogQuery{Session: c.Session, Follow: c.Follow, Verdicts: c.Verdicts, Limit: 100}
	if c.JSON {
		q.Limit = 0
	}
	if c.Limit != nil {
		q.Limit = max(*c.Limit, 0)
	}
	if c.Since != "" {
		if q.Since, err = config.ParseTime(c.Since, now); err != nil {
			return q, console.Usage(fmt.Errorf("--since: %w", err), "")
		}
	}
	if c.Until != "" {
		if q.Until, err = config.ParseTime(c.Until, now); err != nil {
			return q, console.Usage(fmt.Errorf("--until: %w", err), "")
		}
	}
	for _, name := range c.Kind {
		k, err := journal.ParseKind(name)
		if err != nil {
			return q, console.Usage(err, "`dormouse version` names the kinds")
		}
		q.Kinds = append(q.Kinds, k)
	}
	return q, nil
}
