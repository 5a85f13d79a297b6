package console

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	barEvery   = 100 * time.Millisecond
	noGuess    = time.Second // so long nothing is said of the time left: nobody knows how fast it goes
	barWidth   = 24          // in columns, where there is room
	barRest    = 34          // columns for percentage, brackets, the time it took and the time left
	someText   = 10          // columns below which a text is not begun
	clearLine  = "\r\x1b[2K"
	usualWidth = 80
)

// Bar shows on the last line of a terminal how far something is, with the time that it took and the time left. Whatever
// else is written to Streams.Err meanwhile gets lines of its own above it. Without a terminal it shows nothing.
// Safe for concurrent use.
type Bar struct {
	screen *screen // nil: nothing is shown
	what   string
	colors bool

	bar   *progressbar.ProgressBar // nil: nothing was shown yet
	known bool                     // its end is
	from  int64
	began time.Time
	drawn time.Time
}

// Bar returns a bar for what is being done, in a word. Nothing is seen of it before Show. NO_COLOR leaves it without
// color; a terminal that obeys no control sequences (TERM=dumb) has none.
func (s Streams) Bar(what string) *Bar {
	b := &Bar{what: what, colors: os.Getenv("NO_COLOR") == ""}
	if !s.ErrTTY || os.Getenv("TERM") == "dumb" {
		return b
	}
	var ok bool
	if b.screen, ok = s.Err.(*screen); !ok {
		b.screen = newScreen(s.Err)
	}
	return b
}

// Visible reports whether anything is ever seen of the bar.
func (b *Bar) Visible() bool { return b.screen != nil }

// Show says how far it is: n of so many, counted from the first n on, and zero if nobody knows how many there will be.
// Text stands before the bar. It draws ten times a second at most, so call it as often as you like.
func (b *Bar) Show(n, of int64, text string) {
	if b.screen == nil {
		return
	}
	b.screen.mu.Lock()
	defer b.screen.mu.Unlock()
	if now := time.Now(); now.Sub(b.drawn) >= barEvery && !b.screen.midline {
		b.drawn = now
		b.screen.bar = b
		b.draw(n, of, text)
	}
}

// Done takes the bar off the screen. A later Show brings it back.
func (b *Bar) Done() {
	if b.screen == nil {
		return
	}
	b.screen.mu.Lock()
	defer b.screen.mu.Unlock()
	if b.screen.bar == b {
		b.screen.bar = nil
		_, _ = io.WriteString(b.screen.out, clearLine)
	}
	b.bar, b.drawn = nil, time.Time{}
}

func (b *Bar) draw(n, of int64, text string) {
	if b.bar == nil || b.known != (of > 0) {
		if b.bar != nil {
			_, _ = io.WriteString(b.screen.out, clearLine)
		}
		b.begin(n, of)
	}
	progressbar.OptionSetDescription(b.describe(text))(b.bar)
	progressbar.OptionSetPredictTime(b.drawn.Sub(b.began) >= noGuess)(b.bar)
	if b.known {
		total := max(of-b.from, 1)
		if b.bar.GetMax64() != total {
			b.bar.ChangeMax64(total)
		}
		_ = b.bar.Set64(min(n-b.from, total-1)) // one that has reached its end draws itself no more
	}
	_ = b.bar.RenderBlank() // the text may be new though the bar is not
}

// begin makes a bar that counts from n, since a rate that counts what was there before would promise too much.
func (b *Bar) begin(n, of int64) {
	b.known, b.from, b.began = of > 0, n, b.drawn
	if n >= of {
		b.from = 0
	}
	total := int64(-1)
	if b.known {
		total = of - b.from
	}
	b.bar = progressbar.NewOptions64(
		total,
		progressbar.OptionSetWriter(b.screen.out), progressbar.OptionUseANSICodes(true), progressbar.OptionSetWidth(barWidth),
		progressbar.OptionEnableColorCodes(b.colors), progressbar.OptionSetSpinnerChangeInterval(0),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
	)
}

func (b *Bar) describe(text string) string {
	what := b.what
	if b.colors {
		what = "[cyan]" + what + "[reset]"
	}
	room := b.screen.width() - barRest - len(b.what)
	if room < someText || text == "" {
		return what
	}
	return fmt.Sprintf("%s %.*s", what, room-1, text)
}

// screen is a terminal that lines and one bar share.
type screen struct {
	mu      sync.Mutex
	out     io.Writer
	bar     *Bar // the one that is to be seen
	midline bool // what was written last has not ended its line
}

// Screen returns a writer to a terminal that lines share with the Bar of Streams that have it as their Err.
func Screen(terminal io.Writer) io.Writer { return newScreen(terminal) }

func newScreen(terminal io.Writer) *screen { return &screen{out: terminal} }

// Write writes lines above the bar.
func (s *screen) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil && !s.midline {
		_, _ = io.WriteString(s.out, clearLine)
	}
	n, err = s.out.Write(p)
	if n > 0 {
		s.midline = p[n-1] != '\n'
	}
	if s.bar != nil && !s.midline {
		_ = s.bar.bar.RenderBlank()
	}
	return n, err
}

// width is in columns.
func (s *screen) width() int {
	if f, ok := s.out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return usualWidth
}
