package journal

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Seq is the sequence of a message in the stream. The first is 1; zero means "before the first".
type Seq uint64

// Position names one event: the sequence of its batch and its index in the batch.
type Position struct {
	Seq   Seq
	Index uint32
}

// String returns "seq.index".
func (p Position) String() string { return fmt.Sprintf("%d.%d", p.Seq, p.Index) }

// IsZero reports whether p names no event.
func (p Position) IsZero() bool { return p == Position{} }

// Compare orders positions as the log does.
func (p Position) Compare(q Position) int {
	switch {
	case p.Seq < q.Seq, p.Seq == q.Seq && p.Index < q.Index:
		return -1
	case p == q:
		return 0
	default:
		return 1
	}
}

// ParsePosition reads what String wrote; a bare sequence means its first event. It fails with ErrMalformed.
func ParsePosition(s string) (Position, error) {
	seq, index, _ := strings.Cut(s, ".")
	if index == "" {
		index = "0"
	}
	a, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: %w: want SEQ or SEQ.INDEX", clip(s), ErrMalformed)
	}
	b, err := strconv.ParseUint(index, 10, 32)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: %w: want SEQ or SEQ.INDEX", clip(s), ErrMalformed)
	}
	return Position{Seq: Seq(a), Index: uint32(b)}, nil
}

// Instant is a point in time in milliseconds since the Unix epoch. Zero means "not set".
type Instant int64

// InstantOf truncates t to the millisecond; the zero time gives zero.
func InstantOf(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixMilli())
}

// Time returns i in UTC; zero gives the zero time.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(i)).UTC()
}

// Add returns i plus d, truncated to the millisecond.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Milliseconds()) }

// Sub returns the duration from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i-j) * time.Millisecond }

// String returns RFC 3339 in UTC with milliseconds, the form of JavaScript's Date.toISOString.
func (i Instant) String() string {
	if i == 0 {
		return "-"
	}
	return i.Time().Format("2006-01-02T15:04:05.000Z")
}
