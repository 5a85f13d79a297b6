package replaytest

import (
	"context"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Stream is a replay.Source in memory. Safe for concurrent use.
type Stream struct {
	// OnBounds, if not nil, is called in every Bounds before it looks; its error is Bounds's.
	// Set it before the first use.
	OnBounds func(context.Context) error

	// Replicated is the stream's Patience. Set it before the first use.
	Replicated time.Duration

	mu       sync.Mutex
	first    journal.Seq // 0 means 1
	messages []journal.Message
	missing  map[journal.Seq]bool
	grown    chan struct{} // closed and replaced when a message is stored
}

// Put stores data as the next message and returns its sequence.
func (s *Stream) Put(at journal.Instant, data []byte) journal.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	seq := journal.Seq(len(s.messages) + 1)
	s.messages = append(s.messages, journal.Message{Seq: seq, Time: at, Data: data})
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	return seq
}

// Load stores messages as they are. Their sequences must go on from what is stored.
func (s *Stream) Load(messages ...journal.Message) {
	for _, m := range messages {
		s.Put(m.Time, m.Data)
	}
}

// Lose makes a message vanish, as a damaged block file does.
func (s *Stream) Lose(seq journal.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missing == nil {
		s.missing = make(map[journal.Seq]bool)
	}
	s.missing[seq] = true
}

// Shrink drops the messages behind last, as putting an older copy in place does.
func (s *Stream) Shrink(last journal.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = s.messages[:last:last]
}

// Trim makes first the first message.
func (s *Stream) Trim(first journal.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = first
}

// Bounds implements replay.Source.
func (s *Stream) Bounds(ctx context.Context) (journal.Bounds, error) {
	if s.OnBounds != nil {
		if err := s.OnBounds(ctx); err != nil {
			return journal.Bounds{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return journal.Bounds{First: max(s.first, 1), Last: journal.Seq(len(s.messages))}, nil
}

// Patience implements replay.Source.
func (s *Stream) Patience() time.Duration { return s.Replicated }

// Read implements replay.Source.
func (s *Stream) Read(ctx context.Context, after journal.Seq, fn func(journal.Message) error) error {
	for last := after; ; {
		m, grown := s.next(last)
		if grown != nil {
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if m.Seq != last+1 {
			return &journal.GapError{After: last, Next: m.Seq}
		}
		switch err := fn(m); {
		case err == journal.ErrStop: //nolint:errorlint // by the contract of Source
			return nil
		case err != nil:
			return err
		}
		last = m.Seq
	}
}

// next returns the first message behind after, or a channel that tells when there may be one.
func (s *Stream) next(after journal.Seq) (journal.Message, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for seq := max(after+1, s.first); int(seq) <= len(s.messages); seq++ {
		if !s.missing[seq] {
			return s.messages[seq-1], nil
		}
	}
	if s.grown == nil {
		s.grown = make(chan struct{})
	}
	return journal.Message{}, s.grown
}
