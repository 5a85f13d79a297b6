package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// log answers with the selected events as JSON lines.
func (b *Backend) log(w http.ResponseWriter, r *http.Request) error {
	q, err := b.query(r)
	if err != nil {
		return err
	}
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	out := &lines{w: w, encoder: json.NewEncoder(w)}
	if b.Begins != nil {
		seq, at, err := b.Begins(r.Context())
		if err != nil {
			return err
		}
		if seq > 0 {
			w.Header().Set(beginsHeader, fmt.Sprintf("%d %d", seq, at))
		}
	}
	if limit > 0 {
		q.After, err = b.logTail(r.Context(), out, q, limit)
	}
	if err == nil && (limit <= 0 || r.FormValue("follow") != "") {
		q.Follow = r.FormValue("follow") != ""
		// While following, the client must see at once that there is nothing yet.
		out.begin(0)
		err = b.History(r.Context(), q, func(en audit.Entry) error { return out.write(EventOf(&en)) })
	}
	out.begin(0)
	if err != nil && !errors.Is(err, context.Canceled) {
		return out.write(Event{Error: err.Error()})
	}
	return nil
}

// logTail writes the newest limit events and returns the position of the last one seen.
func (b *Backend) logTail(ctx context.Context, out *lines, q audit.Query, limit int) (journal.Position, error) {
	last := newTail[Event](limit)
	end := q.After
	err := b.History(ctx, q, func(en audit.Entry) error {
		end = en.Position
		last.add(EventOf(&en))
		return nil
	})
	if err != nil {
		return end, err
	}
	out.begin(last.dropped())
	for _, e := range last.items() {
		if err := out.write(e); err != nil {
			return end, err
		}
	}
	return end, nil
}

func (b *Backend) query(r *http.Request) (q audit.Query, err error) {
	if err := r.ParseForm(); err != nil {
		return q, &problem{http.StatusBadRequest, err.Error()}
	}
	q.Verdicts = r.Form.Has("verdicts")
	if text := r.Form.Get("session"); text != "" {
		ref, err := b.resolve(r.Context(), text)
		if err != nil {
			return q, err
		}
		q.Session = &ref
	}
	if q.Since, err = instant(r.Form.Get("since")); err != nil {
		return q, err
	}
	if q.Until, err = instant(r.Form.Get("until")); err != nil {
		return q, err
	}
	for _, name := range r.Form["kind"] {
		k, err := journal.ParseKind(name)
		if err != nil {
			return q, &problem{http.StatusBadRequest, err.Error()}
		}
		q.Kinds = append(q.Kinds, k)
	}
	return q, nil
}

func instant(text string) (journal.Instant, error) {
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 {
		return 0, &problem{http.StatusBadRequest, "since and until are milliseconds since 1970"}
	}
	return journal.Instant(ms), nil
}

// lines writes JSON lines, each of them at once.
type lines struct {
	w       http.ResponseWriter
	encoder *json.Encoder
	begun   bool
}

func (l *lines) begin(omitted int) {
	if l.begun {
		return
	}
	l.begun = true
	l.w.Header().Set("Content-Type", "application/x-ndjson")
	l.w.Header().Set(omittedHeader, strconv.Itoa(omitted))
	l.w.WriteHeader(http.StatusOK)
	l.flush()
}

func (l *lines) write(e Event) error {
	l.begin(0)
	if err := l.encoder.Encode(e); err != nil {
		return err
	}
	l.flush()
	return nil
}

func (l *lines) flush() { _ = http.NewResponseController(l.w).Flush() }
