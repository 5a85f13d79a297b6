package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// Past is what a backend knows of snapshots and of former states.
type Past struct {
	// Snapshot takes a snapshot now.
	Snapshot func(context.Context) (snapshot.Report, error)
	// At returns the state as it was.
	At func(context.Context, audit.Point) (*replay.State, error)
}

// Snapshot is the JSON form of a snapshot just taken.
type Snapshot struct {
	ID         string      `json:"id"`
	Seq        journal.Seq `json:"seq"`
	Time       time.Time   `json:"time"` // journal time there
	Sessions   int         `json:"sessions"`
	Bytes      int64       `json:"bytes"`
	Chunks     int         `json:"chunks"`
	FrozeMS    float64     `json:"frozeMs"`    // how long nothing else could be folded
	WroteMS    float64     `json:"wroteMs"`    // until it was durable
	VerifiedMS float64     `json:"verifiedMs"` // until it was read again and found right
}

// Then is the JSON form of a former state.
type Then struct {
	Seq      journal.Seq `json:"seq"`
	Time     time.Time   `json:"time"` // journal time there
	Digest   string      `json:"digest"`
	Sessions []Session   `json:"sessions"`
}

func (b *Backend) past(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/snapshot", b.when(b.snapshot))
	mux.HandleFunc("GET /v1/replay", b.when(b.replay))
}

func (b *Backend) snapshot(w http.ResponseWriter, r *http.Request) error {
	s, err := b.Snapshot(r.Context())
	if err != nil {
		return err
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	writeJSON(w, http.StatusOK, Snapshot{
		ID: s.ID.String(), Seq: s.Seq, Time: s.Now.Time(), Sessions: s.Sessions, Bytes: s.Bytes, Chunks: s.Chunks,
		FrozeMS: ms(s.Froze), WroteMS: ms(s.Wrote), VerifiedMS: ms(s.Verified),
	})
	return nil
}

func (b *Backend) replay(w http.ResponseWriter, r *http.Request) error {
	seq, err := strconv.ParseUint(r.FormValue("seq"), 10, 64)
	at, err2 := strconv.ParseInt(r.FormValue("at"), 10, 64)
	if (err == nil) == (err2 == nil) {
		return &problem{http.StatusBadRequest, "want either a sequence or a time"}
	}
	st, err := b.At(r.Context(), audit.Point{Seq: journal.Seq(seq), Time: journal.Instant(at)})
	switch {
	case errors.Is(err, journal.ErrNoMessage):
		return &problem{http.StatusNotFound, err.Error()}
	case errors.Is(err, replay.ErrNeedsSnapshot):
		return &problem{http.StatusGone, fmt.Sprintf("%v; snapshots reach back no further", err)}
	case err != nil:
		return err
	}
	writeJSON(w, http.StatusOK, thenOf(st))
	return nil
}

func thenOf(st *replay.State) Then {
	digest := st.Digest()
	t := Then{Seq: st.Seq(), Time: st.Now().Time(), Digest: hexOf(digest[:]), Sessions: make([]Session, 0, st.Len())}
	for s := range st.All() {
		t.Sessions = append(t.Sessions, sessionOf(&s, false, st.Now()))
	}
	slices.SortStableFunc(t.Sessions, func(x, y Session) int { return y.LastAccess.Compare(x.LastAccess) })
	return t
}

// Snapshot takes a snapshot now.
func (c *Client) Snapshot(ctx context.Context) (s Snapshot, err error) {
	res, err := c.do(ctx, http.MethodPost, "/v1/snapshot")
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	return s, json.NewDecoder(res.Body).Decode(&s)
}

// At tells what the sessions were after a message or at a time; one of the two is zero.
func (c *Client) At(ctx context.Context, seq journal.Seq, at time.Time) (t Then, err error) {
	query := "seq=" + strconv.FormatUint(uint64(seq), 10)
	if seq == 0 {
		query = "at=" + strconv.FormatInt(int64(journal.InstantOf(at)), 10)
	}
	return t, c.get(ctx, "/v1/replay?"+query, &t)
}
