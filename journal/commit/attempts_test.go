package commit_test

import (
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
)

// attempts is an observer of the attempts that failed.
type attempts func(error)

func (a attempts) AttemptFailed(err error) { a(err) }

func (attempts) BatchCommitted(int, int, time.Duration) {}
func (attempts) AccessesDropped(int, int)               {}
func (attempts) ReachableChanged(bool)                  {}

// lostAckThen loses the next acknowledgement, and calls then, some time after that, when its batch is stored.
func lostAckThen(then func()) func(journal.WriterID) memory.Fault {
	lost := false
	return func(journal.WriterID) memory.Fault {
		if lost {
			return memory.Fault{}
		}
		lost = true
		time.AfterFunc(time.Second, then)
		return memory.Fault{Kind: memory.LostAck}
	}
}
