package control

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// minAbbreviation is the least number of digits of an abbreviated ref.
const minAbbreviation = 4

// resolve finds the session that text names: a full ref or an abbreviation that only one session has. Sessions
// that have ended are looked for in the history.
func (b *Backend) resolve(ctx context.Context, text string) (journal.Ref, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if len(text) < minAbbreviation || strings.Trim(text, "0123456789abcdef") != "" || len(text) > 2*len(journal.Ref{}) {
		return journal.Ref{}, &problem{http.StatusBadRequest, fmt.Sprintf("%q is no session ref: want 4 to 32 hexadecimal digits, as in `dormouse sessions ls`", text)}
	}
	found := map[journal.Ref]bool{}
	b.View(func(st *replay.State) {
		for s := range st.All() {
			if strings.HasPrefix(s.Ref.String(), text) {
				found[s.Ref] = true
			}
		}
	})
	if len(found) == 0 {
		if err := b.searchHistory(ctx, text, found); err != nil {
			return journal.Ref{}, err
		}
	}
	return only(found, text)
}

func (b *Backend) searchHistory(ctx context.Context, text string, found map[journal.Ref]bool) error {
	q := audit.Query{Kinds: []journal.Kind{journal.KindCreated}, Tolerant: true}
	if ref, err := journal.ParseRef(text); err == nil {
		q.Session = &ref
	}
	return b.History(ctx, q, func(en audit.Entry) error {
		if strings.HasPrefix(en.Event.Ref.String(), text) {
			found[en.Event.Ref] = true
		}
		return nil
	})
}

func only(found map[journal.Ref]bool, text string) (journal.Ref, error) {
	if len(found) == 0 {
		return journal.Ref{}, &problem{http.StatusNotFound, fmt.Sprintf("no session %s", text)}
	}
	if len(found) > 1 {
		return journal.Ref{}, &problem{http.StatusConflict, fmt.Sprintf("%s is ambiguous: %d sessions begin with it", text, len(found))}
	}
	for ref := range found {
		return ref, nil
	}
	return journal.Ref{}, nil
}
