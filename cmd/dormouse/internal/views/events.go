package views

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
)

const eventLine = "%-23s  %-15s  %-8s  %s"

// EventLines returns a function that writes events as lines under a header, one after the other, so that a log
// can be followed.
func EventLines(w io.Writer) func(control.Event) error {
	header := false
	return func(e control.Event) error {
		if !header {
			header = true
			fmt.Fprintf(w, eventLine+"\n", "TIME", "EVENT", "SESSION", "WHAT")
		}
		line := fmt.Sprintf(eventLine, e.At.Local().Format("2006-01-02 15:04:05.000"), e.Kind, orDash(e.Ref[:min(8, len(e.Ref))]), What(&e))
		_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
		return err
	}
}

// What says in a few words what an event tells beyond its kind.
func What(e *control.Event) string {
	var parts []string
	switch {
	case e.Call != nil:
		parts = append(parts, call(e.Call))
	case e.Created != nil:
		parts = append(parts, created(e.Created))
	case len(e.Changed) > 0:
		parts = append(parts, strings.Join(e.Changed, ", "))
	case e.Bound != nil:
		parts = append(parts, boundTo(e))
	case e.Basis != "":
		parts = append(parts, "unused since "+e.Basis)
	case e.Reason != "":
		parts = append(parts, "by "+e.Reason)
	case e.Note != nil:
		parts = append(parts, note(e.Note))
	}
	if e.Refused != "" {
		parts = append(parts, "[refused: "+e.Refused+"]")
	}
	return console.Clean(strings.Join(parts, "  "))
}

func call(c *control.Call) string {
	s := c.Method
	if c.Tool != "" {
		s += " " + c.Tool
	}
	if c.Outcome != "" {
		d := time.Duration(c.DurationMS * float64(time.Millisecond))
		s += "  " + c.Outcome + " in " + console.Short(d)
	}
	return s
}

func created(c *control.Created) string {
	s := "tenant " + Tenant(c.Label, c.Tenant)
	if c.Principal != "" {
		s += ", " + Principal(c.Principal)
	}
	if c.Protocol != "" {
		s += ", MCP " + c.Protocol
	}
	if c.Source != "client" {
		s += ", by " + c.Source
	}
	return s
}

func boundTo(e *control.Event) string {
	if e.Bound.Upstream {
		return fmt.Sprintf("epoch %d, upstream session recorded", e.Epoch)
	}
	return fmt.Sprintf("epoch %d, replica %s", e.Epoch, orDash(e.Bound.Replica))
}

func note(n *control.Note) string {
	var parts []string
	add := func(format string, set bool, args ...any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add("%s", n.Replica != "", n.Replica)
	add("version %s", n.Version != "", n.Version)
	add("knows events up to %s", n.Kinds != "", n.Kinds)
	add("count %d", n.Count > 0, n.Count)
	add("tenant %s", n.Tenant != "", Tenant("", n.Tenant))
	add("keys %s", len(n.Keys) > 0, strings.Join(n.Keys, " "))
	add("batches %d to %d", n.From > 0, n.From, n.To)
	add("by %s", n.Who != "", n.Who)
	add("%s", n.Text != "", n.Text)
	return strings.Join(parts, ", ")
}
