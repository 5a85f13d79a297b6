package commit

import "github.com/dormouse-mcp/dormouse/journal"

// Stats counts what a committer did since New.
type Stats struct {
	Batches, Events, Bytes uint64      // committed; Bytes as stored
	Number                 uint64      // of the batch committed last
	Last                   journal.Seq // its sequence
	Attempts               uint64      // publishes, repeated ones included
	Conflicts              uint64      // publishes that met another last sequence than expected

	Waiting  int // calls of Append and Flush not yet in a batch
	Buffered int // posted accesses not yet in a batch

	Superseded uint64 // posted accesses dropped for a newer one of their session
	Lost       uint64 // posted accesses dropped for want of room, or refused
	Unsaved    int    // posted accesses that Close had to leave

	Down error // why the stream does not answer; nil while it does
}

// Stats returns the present counts.
func (c *Committer) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Waiting, s.Buffered = c.queue.calls, c.accesses.len()
	s.Down = c.down
	return s
}
