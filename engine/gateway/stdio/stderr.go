package stdio

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

const (
	maxStderrLine = 2 << 10 // bytes of a line that are kept
	keptLines     = 8       // for the account of a child's death
	linesPerSec   = 10
	linesAtOnce   = 100
)

// lastWords carries a child's stderr into the log: lines of bounded length, not too many a second, without the
// tenant's key.
type lastWords struct {
	log    zerolog.Logger
	hide   *strings.Replacer
	tokens *rate.Limiter

	mu      sync.Mutex
	kept    []string
	dropped int
}

func newLastWords(log zerolog.Logger, secrets []string) *lastWords {
	var pairs []string
	for _, s := range secrets {
		if s != "" {
			pairs = append(pairs, s, "[hidden]")
		}
	}
	return &lastWords{log: log, hide: strings.NewReplacer(pairs...), tokens: rate.NewLimiter(linesPerSec, linesAtOnce)}
}

// read logs r's lines to its end.
func (l *lastWords) read(r io.Reader) {
	lines := bufio.NewReaderSize(r, maxStderrLine)
	for whole := true; ; {
		part, err := lines.ReadSlice('\n')
		if whole && len(part) > 0 {
			l.say(string(part))
		}
		if whole = !errors.Is(err, bufio.ErrBufferFull); whole && err != nil {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note()
}

// say logs one line, or the beginning of one that is too long.
func (l *lastWords) say(line string) {
	line = strings.ToValidUTF8(strings.TrimRight(l.hide.Replace(line), "\r\n"), "�")
	if strings.TrimSpace(line) == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept = append(l.kept, line); len(l.kept) > keptLines {
		l.kept = l.kept[1:]
	}
	if !l.tokens.Allow() {
		l.dropped++
		return
	}
	l.note()
	l.log.Info().Str("stderr", line).Msg("child says")
}

// note says how much was dropped. l.mu is held.
func (l *lastWords) note() {
	if l.dropped > 0 {
		l.log.Info().Int("lines", l.dropped).Msg("child says too much: lines dropped")
		l.dropped = 0
	}
}

// last returns the newest lines.
func (l *lastWords) last() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.kept...)
}
