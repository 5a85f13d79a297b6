package journal

import "time"

// Doubt holds back what a stream says against what is known of it: that it ends before a message that was acknowledged,
// above all. Of a replicated stream that may be the word of a leader that was deposed and has not noticed, or of one
// that does not know everything yet. It is believed once it was said again and again for as long as such a leader can
// last, and never for having been said once. The zero value is ready. Not safe for concurrent use.
type Doubt struct {
	since, latest time.Time // the first and the latest answer that said so; zero: none
}

// doubtGap is the least time without any answer after which an old contradiction no longer counts.
const doubtGap = 5 * time.Second

// Ripe notes an answer, given now, that contradicts what is known, and reports whether it is to be believed: whether
// such answers have come for patience. It begins anew when more than that, or five seconds, went by without a question:
// what is said then may be another leader's. Patience zero believes at once; that is for a stream on one server.
func (d *Doubt) Ripe(now time.Time, patience time.Duration) bool {
	if d.since.IsZero() || now.Sub(d.latest) > max(patience, doubtGap) {
		d.since = now
	}
	d.latest = now
	return now.Sub(d.since) >= patience
}

// Settle notes an answer that contradicts nothing.
func (d *Doubt) Settle() { *d = Doubt{} }
