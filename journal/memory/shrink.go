package memory

import "github.com/dormouse-mcp/dormouse/journal"

// Shrink takes away all messages behind last, and their sequences with them, as an older copy of the stream's
// files does.
func (j *Journal) Shrink(last journal.Seq) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if last >= j.last {
		return
	}
	for i := len(j.messages) - 1; i >= 0 && j.messages[i].Seq > last; i-- {
		m := j.messages[i]
		j.messages = j.messages[:i:i]
		j.forget(m)
	}
	j.last = last
	j.notify()
}
