package main

import (
	"fmt"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// The bars of what may take long. On anything but a terminal nothing is seen of them.

// foldingBar shows how far a store is restored, and goes when that is done.
func foldingBar(s console.Streams) (b *console.Bar, progress func(replay.Progress)) {
	b = s.Bar("restoring")
	return b, func(p replay.Progress) {
		switch {
		case p.Ready:
			b.Done()
		case p.Target > 0:
			b.Show(int64(p.Seq), int64(p.Target), fmt.Sprintf("%d/%d messages, %s", p.Seq, p.Target, views.Plural(p.Sessions, "session")))
		default: // out of a snapshot
			b.Show(int64(p.Sessions), 0, views.Plural(p.Sessions, "session"))
		}
	}
}

// verifyingBar shows how far a history is verified.
func verifyingBar(s console.Streams) (b *console.Bar, progress func(audit.VerifyProgress)) {
	b = s.Bar("verifying")
	return b, func(p audit.VerifyProgress) {
		b.Show(int64(p.Seq), int64(p.Last), fmt.Sprintf("message %d/%d, %s", p.Seq, p.Last, views.Plural(p.Faults, "fault")))
	}
}

// counter counts sessions, or bytes, on a bar.
type counter struct {
	*console.Bar
	n, of, said, step int64
	text              func(n int64) string
}

// newCounter counts sessions up to of, or without end if that is zero.
func newCounter(s console.Streams, what string, of int64) *counter {
	return &counter{Bar: s.Bar(what), of: of, step: 100, text: func(n int64) string {
		if of > 0 {
			return fmt.Sprintf("%d/%s", n, views.Plural(int(of), "session"))
		}
		return views.Plural(int(n), "session")
	}}
}

// newByteCounter counts the bytes of a file of so many sessions.
func newByteCounter(s console.Streams, what string, size int64, sessions int) *counter {
	text := views.Plural(sessions, "session")
	return &counter{Bar: s.Bar(what), of: size, step: 64 << 10, text: func(int64) string { return text }}
}

func (c *counter) add(n int) {
	c.n += int64(n)
	if !c.Visible() || c.said > 0 && c.n-c.said < c.step {
		return
	}
	c.said = c.n
	c.Show(c.n, c.of, c.text(c.n))
}

// Write counts bytes.
func (c *counter) Write(p []byte) (int, error) {
	c.add(len(p))
	return len(p), nil
}
