package jetstream

import (
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// soloPause is how many publishes go by after the guess was wrong until it is made again.
const soloPause = 64

// solo guesses whether the stream's last message is the one that was published here last. As long as nobody else
// writes, it is. A publish may then expect that sequence of the stream instead of the subject, which means the same
// and saves the server from reading the subject's last message, as large as a batch, to learn its sequence: a
// fifth of the time of a large publish. A wrong guess is refused, costs a round trip, and nothing is stored.
//
// On a replicated stream the leader judges by what it has proposed and not by what is stored, so nothing is
// guessed there.
type solo struct {
	off bool // a replicated stream

	mu     sync.Mutex
	writer journal.WriterID // whose message it was
	last   journal.Seq
	pause  int
}

// try reports whether w's publish that expects that sequence should take it for the stream's last.
func (s *solo) try(w journal.WriterID, expected journal.Seq) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off || expected == 0 || s.last != expected || s.writer != w {
		return false
	}
	if s.pause > 0 {
		s.pause--
		return false
	}
	return true
}

// stored notes the sequence that w's publish got; zero if it failed.
func (s *solo) stored(w journal.WriterID, seq journal.Seq) {
	if seq == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writer, s.last = w, seq
}

// missed notes a wrong guess.
func (s *solo) missed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pause = soloPause
}
