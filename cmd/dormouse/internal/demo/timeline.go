package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// timeline prints what happens, each line with the seconds since the beginning. Safe for concurrent use.
type timeline struct {
	mu    sync.Mutex
	w     io.Writer
	began time.Time
	color bool
}

func newTimeline(w io.Writer, tty bool) *timeline {
	return &timeline{w: w, began: time.Now(), color: tty && os.Getenv("NO_COLOR") == ""}
}

// The colors of a line's subject.
const (
	plain = ""
	green = "32"
	red   = "31"
)

func (t *timeline) say(subject, format string, args ...any) { t.paint(plain, subject, format, args...) }

func (t *timeline) paint(color, subject, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := fmt.Sprintf("%-10s", subject)
	if t.color && color != plain {
		name = "\x1b[1;" + color + "m" + name + "\x1b[0m"
	}
	fmt.Fprintf(t.w, "%7.3fs  %s  %s\n", time.Since(t.began).Seconds(), name, fmt.Sprintf(format, args...))
}

func (t *timeline) heading(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "\n%s\n%s\n", text, strings.Repeat("─", len([]rune(text))))
}

// ms writes a duration as people say it of a gap.
func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
