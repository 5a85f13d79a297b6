package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/doctor"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

type doctorCmd struct {
	storeFlags
	jsonFlag
	Upstream string `help:"Also ask whether this upstream answers; a running daemon's is known." placeholder:"URL" group:"upstream"`
	Command  string `help:"Also start this upstream command once, and see whether it answers initialize; a running daemon's is known." placeholder:"COMMAND" name:"upstream-command" group:"upstream"`
	NoCopy   bool   `help:"Do not open a copy of a stopped store; then its contents are not checked."`
}

// Help implements kong.HelpProvider.
func (*doctorCmd) Help() string {
	return `Changes nothing. Beside a running daemon it takes the daemon's word for the journal; a stopped store is copied, and the copy opened and read to its end. The exit code is 1 if a check failed; warnings do not count.

Example:

    dormouse doctor --data /var/lib/dormouse --upstream http://127.0.0.1:3000/mcp`
}

// Run examines.
func (c *doctorCmd) Run(ctx context.Context, s console.Streams) error {
	o := doctor.Options{Store: c.options(), Upstream: c.Upstream, NoCopy: c.NoCopy}
	if c.Command != "" {
		words, err := stdio.ParseCommand(c.Command)
		if err != nil {
			return console.Usage(err, "write it as for dormouse serve")
		}
		o.Command = words
	}
	findings := doctor.Examine(ctx, o)
	worst := doctor.Worst(findings)
	if c.JSON {
		if err := console.JSON(s.Out, findings); err != nil {
			return err
		}
	} else {
		writeFindings(s, findings)
	}
	if worst == doctor.Fail {
		return console.Failed(errors.New("not everything is well"), "")
	}
	return nil
}

func writeFindings(s console.Streams, findings []doctor.Finding) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Check))
	}
	for _, f := range findings {
		fmt.Fprintf(s.Out, "%s  %-*s  %s\n", paint(s, f.State), width, f.Check, console.Clean(oneLine(f.Detail)))
		if f.Hint != "" {
			fmt.Fprintf(s.Out, "%s→ %s\n", strings.Repeat(" ", width+8), f.Hint)
		}
	}
}

// paint gives the verdict its color on a terminal.
func paint(s console.Streams, state string) string {
	text := fmt.Sprintf("%-4s", state)
	color := map[string]string{doctor.OK: "32", doctor.Warn: "33", doctor.Fail: "31"}[state]
	if !s.OutTTY || os.Getenv("NO_COLOR") != "" || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
