package console

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// Streams is where a command writes, Out for results alone, and where it reads answers.
type Streams struct {
	Out, Err       io.Writer
	OutTTY, ErrTTY bool
	In             io.Reader
	InTTY          bool // somebody can be asked
}

// Standard returns the process's own streams.
func Standard() Streams {
	s := Streams{
		Out: os.Stdout, OutTTY: isTerminal(os.Stdout),
		Err: os.Stderr, ErrTTY: isTerminal(os.Stderr),
		In: os.Stdin, InTTY: isTerminal(os.Stdin),
	}
	if s.ErrTTY {
		s.Err = Screen(os.Stderr)
	}
	return s
}

func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()) }

// The forms in which a daemon logs.
const (
	LogAuto    = "auto" // console when standard error is a terminal, else JSON
	LogConsole = "console"
	LogJSON    = "json"
)

// Logger returns a logger on s.Err. Level is one of zerolog's names.
func (s Streams) Logger(format, level string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), Usage(err, "levels: trace, debug, info, warn, error")
	}
	w := zerolog.SyncWriter(s.Err)
	if format == LogConsole || format == LogAuto && s.ErrTTY {
		w = zerolog.ConsoleWriter{Out: s.Err, TimeFormat: time.TimeOnly, NoColor: !s.ErrTTY || os.Getenv("NO_COLOR") != ""}
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger(), nil
}
