package demo

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
)

// verdict is what became of one client.
type verdict struct {
	before, failed, after int
	gap                   time.Duration // the longest time from a kill to its next answer
	foreign               int
	on                    bool // it had an answer after every kill, on the same session
}

func (s *story) judge(c *client) verdict {
	v := verdict{on: true}
	first, last := s.crashes[0].killed, s.crashes[len(s.crashes)-1].killed
	for _, x := range c.all() {
		switch {
		case x.err != nil:
			v.failed++
		case x.ended.Before(first):
			v.before++
		default:
			v.after++
		}
		if x.foreign {
			v.foreign++
		}
	}
	for _, crash := range s.crashes {
		at, ok := c.answeredSince(crash.killed)
		v.on = v.on && ok
		if ok {
			v.gap = max(v.gap, at.Sub(crash.killed))
		}
	}
	// The last call must have gone well too: a client that broke later has not gone on.
	calls := c.all()
	v.on = v.on && calls[len(calls)-1].err == nil && calls[len(calls)-1].ended.After(last)
	return v
}

// report shows what the clients saw and what the journal recorded.
func (s *story) report(ctx context.Context) error {
	s.t.heading("What the clients saw")
	lost, foreign := s.clientTable()
	s.failures()
	if err := s.journal(ctx); err != nil {
		return err
	}
	s.t.heading("Result")
	out := s.o.Streams.Out
	switch {
	case foreign > 0:
		fmt.Fprintf(out, "WRONG: %s belonged to another tenant.\n\n", count(foreign, "answer"))
		return ErrNotOn
	case lost > 0:
		fmt.Fprintf(out, "%d of %s did not go on.\n\n", lost, count(len(s.clients), "client"))
		return ErrNotOn
	}
	fmt.Fprintf(out, "All %s went on with their sessions after %s. Nobody reconnected, nobody\ninitialized again, and every answer was the right tenant's.\n\n",
		count(len(s.clients), "client"), count(len(s.crashes), "kill -9"))
	return nil
}

func (s *story) clientTable() (lost, foreign int) {
	var rows [][]string
	for _, c := range s.clients {
		v := s.judge(c)
		on := "yes"
		if !v.on {
			on = "NO"
			lost++
		}
		foreign += v.foreign
		rows = append(rows, []string{
			c.name, c.tenant.Name, c.ref.String()[:8], strconv.Itoa(v.before), strconv.Itoa(v.failed), strconv.Itoa(v.after), ms(v.gap), on,
		})
	}
	console.Table(s.o.Streams.Out, []string{"client", "tenant", "session", "answered before", "failed", "answered after", "longest gap", "went on"}, rows, 4, 5, 6, 7)
	return lost, foreign
}

// failures tells how calls failed; they are not hidden by retries.
func (s *story) failures() {
	kinds := map[string]int{}
	for _, c := range s.clients {
		for _, x := range c.all() {
			if x.err != nil {
				kinds[plainError(x.err)]++
			}
		}
	}
	out := s.o.Streams.Out
	if len(kinds) == 0 {
		fmt.Fprintln(out, "\nNo call failed: none happened to be under way while the gateway was gone.")
		return
	}
	fmt.Fprint(out, "\nCalls that failed while the gateway was gone, as the clients saw it (the demo retries nothing by itself;\neach client's next call went through on the same session):\n")
	for _, text := range slices.SortedFunc(maps.Keys(kinds), func(a, b string) int { return cmp.Or(kinds[b]-kinds[a], strings.Compare(a, b)) }) {
		fmt.Fprintf(out, "%6d × %s\n", kinds[text], text)
	}
}

// plainError drops what differs from call to call: addresses and the client's own port.
func plainError(err error) string {
	text := err.Error()
	for _, known := range []string{"connection refused", "connection reset by peer", "EOF", "Service Unavailable", "request terminated without response"} {
		if strings.Contains(text, known) {
			return known
		}
	}
	// The SDK puts session IDs into its errors: they are secrets.
	return console.Clean(secretID().ReplaceAllString(text, "(session ID: …)"))
}

func secretID() *regexp.Regexp { return regexp.MustCompile(`\(session ID: [^)]*\)`) }

// journal shows what the running gateway's journal holds.
func (s *story) journal(ctx context.Context) error {
	client, err := control.Connect(ctx, s.gateway.data)
	if err != nil {
		return err
	}
	var events []control.Event
	if _, err := client.Log(ctx, control.LogQuery{Verdicts: true}, func(e control.Event) error { events = append(events, e); return nil }); err != nil {
		return err
	}
	s.t.heading("What the journal recorded")
	s.kindTable(events)
	s.around(events)
	return nil
}

func (s *story) kindTable(events []control.Event) {
	kinds := map[string]int{}
	refused := map[string]int{}
	for i := range events {
		kinds[events[i].Kind]++
		if events[i].Refused != "" {
			refused[events[i].Kind]++
		}
	}
	var rows [][]string
	for _, kind := range slices.SortedFunc(maps.Keys(kinds), func(a, b string) int { return cmp.Or(kinds[b]-kinds[a], strings.Compare(a, b)) }) {
		rows = append(rows, []string{kind, strconv.Itoa(kinds[kind]), strconv.Itoa(refused[kind]), meanings(kind)})
	}
	console.Table(s.o.Streams.Out, []string{"event", "count", "refused", "meaning"}, rows, 2, 3)
}

func meanings(kind string) string {
	switch kind {
	case "created":
		return "a client initialized; durable before it got its answer"
	case "opened":
		return "a request came in"
	case "accessed":
		return "a request was answered"
	case "bound":
		return "a replica took the session over, or recorded the upstream's session"
	case "replica-started":
		return "a gateway process came up"
	case "replica-stopped":
		return "a gateway process went down in order (kill -9 leaves none)"
	default:
		return ""
	}
}

// around shows one session's events across the last crash.
func (s *story) around(events []control.Event) {
	ref := s.clients[0].ref.String()
	at := -1
	for i := range events {
		if events[i].Kind == "replica-started" {
			at = i
		}
	}
	if at < 0 {
		return
	}
	own := func(e control.Event) bool { return e.Ref == ref }
	before := last(filter(events[:at], own), 5)
	after := first(filter(events[at+1:], own), 5)
	fmt.Fprintf(s.o.Streams.Out, "\n%s's session %s across the last crash:\n", s.clients[0].name, ref[:8])
	write := views.EventLines(s.o.Streams.Out)
	for _, e := range slices.Concat(before, events[at:at+1], after) {
		_ = write(e)
	}
}

func filter(events []control.Event, keep func(control.Event) bool) (out []control.Event) {
	for i := range events {
		if keep(events[i]) {
			out = append(out, events[i])
		}
	}
	return out
}

func last(events []control.Event, n int) []control.Event  { return events[max(0, len(events)-n):] }
func first(events []control.Event, n int) []control.Event { return events[:min(n, len(events))] }

func count(n int, noun string) string {
	if n == 1 || noun == "kill -9" {
		return strconv.Itoa(n) + " " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func ordinal(i, n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(" (%d of %d)", i+1, n)
}
