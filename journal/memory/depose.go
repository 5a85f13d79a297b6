package memory

import (
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// SetPatience makes this a stream on several servers, of which one may answer with an old end for so long. See
// commit.Port.
func (j *Journal) SetPatience(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults.patience = d
}

// Depose makes Bounds, Last and Publish answer as a leader does that was cut off when last was the newest message: it
// knows none behind that, and stores nothing any more, but is silent. Read, which needs no leader, goes on.
func (j *Journal) Depose(last journal.Seq) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults.deposed, j.faults.knows = true, last
}

// Elect ends what Depose began.
func (j *Journal) Elect() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults.deposed = false
}

// end returns the last message that whoever answers knows. The lock is held.
func (j *Journal) end() journal.Seq {
	if j.faults.deposed {
		return max(min(j.last, j.faults.knows), j.first-1)
	}
	return j.last
}

// lastOf returns the last message on a writer's subject that whoever answers knows. The lock is held.
func (j *Journal) lastOf(w journal.WriterID) (journal.Seq, bool) {
	seq, ok := j.subjects[w]
	if !ok || seq <= j.end() {
		return seq, ok
	}
	for i := j.after(j.end()) - 1; i >= 0; i-- {
		if j.messages[i].writer == w {
			return j.messages[i].Seq, true
		}
	}
	return 0, false
}
