package console_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
)

// emulator is a terminal, as far as bars need one: it knows its width, CR, LF and how to clear a line.
type emulator struct {
	sent       bytes.Buffer
	columns, x int
	lines      [][]rune
}

func (e *emulator) Write(p []byte) (int, error) {
	code := regexp.MustCompile(`^\x1b\[([0-9;]*)([A-Za-z])`)
	for text := string(p); text != ""; {
		if c := code.FindStringSubmatch(text); strings.HasPrefix(text, "\x1b") && c != nil {
			text = text[len(c[0]):]
			e.obey(c[2] + c[1])
			continue
		}
		r := []rune(text[:min(4, len(text))])[0]
		text = text[len(string(r)):]
		e.put(r)
	}
	return e.sent.Write(p)
}

func (e *emulator) obey(code string) {
	y := len(e.lines) - 1
	switch code {
	case "K", "K0":
		e.lines[y] = e.lines[y][:min(e.x, len(e.lines[y]))]
	case "K2":
		e.lines[y] = nil
	}
}

func (e *emulator) put(r rune) {
	if r == '\r' {
		e.x = 0
		return
	}
	if r == '\n' || e.x == e.columns {
		e.lines, e.x = append(e.lines, nil), 0
	}
	if r == '\n' {
		return
	}
	l := &e.lines[len(e.lines)-1]
	for len(*l) <= e.x {
		*l = append(*l, ' ')
	}
	(*l)[e.x] = r
	e.x++
}

// shows returns its lines, without color.
func (e *emulator) shows() []string {
	shown := make([]string, len(e.lines))
	for i, l := range e.lines {
		shown[i] = strings.TrimRight(string(l), " ")
	}
	return shown
}

func newEmulator(columns int) *emulator { return &emulator{columns: columns, lines: [][]rune{nil}} }

// The bar is the last line, whatever is written in between stands above it as it is, and in the end the bar is gone.
func TestBarAndLinesShareATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	for name, of := range map[string]int64{"known": 300, "unknown": 0, "known only later": -1} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { share(t, of) }) })
	}
}

func share(t *testing.T, of int64) {
	t.Helper()
	out := newEmulator(80)
	s := console.Streams{Err: console.Screen(out), ErrTTY: true}
	b := s.Bar("restoring")
	var said []string
	for i := range int64(300) {
		total := of
		if of < 0 && i > 100 {
			total = 300
		}
		b.Show(i, total, fmt.Sprintf("%d/300 messages", i))
		if i%7 == 3 {
			line := fmt.Sprintf("line %d", i)
			fmt.Fprintln(s.Err, line)
			said = append(said, line)
		}
		got := out.shows()
		if last := got[len(got)-1]; !strings.Contains(last, "restoring") || !strings.Contains(last, "/300 messages") {
			t.Fatalf("the last line is %q", last)
		}
		if !slices.Equal(got[:len(got)-1], said) {
			t.Fatalf("%q\nwant %q", got, said)
		}
		if guess := strings.Contains(got[len(got)-1], "s]"); of == 300 && guess != (i >= 36) {
			t.Fatalf("at %d: %q", i, got[len(got)-1])
		}
		time.Sleep(30 * time.Millisecond)
	}
	if of == 300 && !regexp.MustCompile(`restoring 296/300 messages +98% \[=+> *\] +\[8s:0s\]`).MatchString(strings.Join(out.shows(), "\n")) {
		t.Errorf("it ends as %q", out.shows()[len(said):])
	}
	b.Done()
	b.Done()
	fmt.Fprintln(s.Err, "done")
	if got := out.shows(); !slices.Equal(got, append(said, "done", "")) {
		t.Errorf("in the end: %q", got)
	}
}

// A line that has not ended is left alone.
func TestBarWaitsForTheEndOfALine(t *testing.T) {
	t.Setenv("TERM", "xterm")
	out := newEmulator(80)
	s := console.Streams{Err: console.Screen(out), ErrTTY: true}
	b := s.Bar("restoring")
	fmt.Fprint(s.Err, "sure? ")
	b.Show(1, 2, "one")
	fmt.Fprintln(s.Err, "yes")
	b.Show(1, 2, "one")
	b.Done()
	if got := out.shows(); !slices.Equal(got, []string{"sure? yes", ""}) || !strings.Contains(out.sent.String(), "one") {
		t.Errorf("%q", got)
	}
}

func TestNoBar(t *testing.T) {
	t.Setenv("TERM", "xterm")
	var out bytes.Buffer
	show := func(s console.Streams) bool {
		b := s.Bar("restoring")
		b.Show(1, 2, "text")
		b.Show(1, 0, "text")
		b.Done()
		return b.Visible()
	}
	if show(console.Streams{Err: &out}) || out.Len() > 0 {
		t.Errorf("no terminal: %q", &out)
	}
	t.Setenv("NO_COLOR", "1")
	if !show(console.Streams{Err: &out, ErrTTY: true}) || regexp.MustCompile(`\x1b\[[0-9;]*m`).Match(out.Bytes()) {
		t.Errorf("in color: %q", &out)
	}
	t.Setenv("NO_COLOR", "")
	out.Reset()
	if !show(console.Streams{Err: &out, ErrTTY: true}) || !strings.Contains(out.String(), "\x1b[36mrestoring\x1b[0m") {
		t.Errorf("without color: %q", &out)
	}
	t.Setenv("TERM", "dumb")
	out.Reset()
	if show(console.Streams{Err: &out, ErrTTY: true}) || out.Len() > 0 {
		t.Errorf("TERM=dumb: %q", &out)
	}
}

// On a real terminal of any width the bar stays within its line.
func TestBarFitsItsTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, columns := range []uint16{200, 80, 60, 45} {
		master, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: columns}); err != nil {
			t.Fatal(err)
		}
		var shown []byte
		var reading sync.WaitGroup
		reading.Go(func() { shown = readTerminal(master) })
		s := console.Streams{Err: console.Screen(tty), ErrTTY: true}
		for i := range int64(20) {
			b := s.Bar("restoring")
			b.Show(500_000, 1_000_000, "500000/1000000 messages, 1000000 sessions")
			b.Show(500_000+i*25_000, 1_000_000, fmt.Sprint(i))
			fmt.Fprintln(s.Err, "a line")
			b.Done()
		}
		_ = tty.Close()
		reading.Wait()
		_ = master.Close()
		screen := newEmulator(int(columns))
		_, _ = screen.Write(shown)
		got := screen.shows()
		if len(got) != 21 || got[20] != "" || slices.ContainsFunc(got[:20], func(l string) bool { return l != "a line" }) {
			t.Errorf("%d columns: %d lines: %q", columns, len(got), got)
		}
		if !bytes.Contains(shown, []byte("restoring")) {
			t.Errorf("%d columns: no bar in %q", columns, shown)
		}
	}
}

// readTerminal reads until the other side is closed, which Linux tells as an input/output error.
func readTerminal(master io.Reader) []byte {
	var b bytes.Buffer
	if _, err := io.Copy(&b, master); err != nil && !errors.Is(err, syscall.EIO) {
		b.WriteString(err.Error())
	}
	return b.Bytes()
}
