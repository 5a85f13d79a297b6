package n8ntest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// page is where a listing goes on. Its JSON in base64 is the cursor, as in n8n.
type page struct {
	Limit  int `json:"limit"`
	Offset int `json:"offset"`
}

type span struct{ from, to int }

// readPage reads limit and cursor, or answers 400.
func readPage(w http.ResponseWriter, r *http.Request) (p page, ok bool) {
	q := r.URL.Query()
	p.Limit = 100
	if q.Has("limit") {
		n, err := strconv.Atoi(q.Get("limit"))
		if err != nil {
			fail(w, http.StatusBadRequest, "request/query/limit must be number")
			return p, false
		}
		if n > 250 {
			fail(w, http.StatusBadRequest, "request/query/limit must be <= 250")
			return p, false
		}
		p.Limit = max(n, 0)
	}
	if !q.Has("cursor") {
		return p, true
	}
	data, err := base64.StdEncoding.DecodeString(q.Get("cursor"))
	if err != nil || json.Unmarshal(data, &p) != nil || p.Offset < 0 || p.Limit < 0 {
		fail(w, http.StatusBadRequest, "An invalid cursor was provided")
		return p, false
	}
	return p, true
}

// cut returns which of n items are on the page, and the cursor of the next one; nil on the last.
func (p page) cut(n int) (s span, next *string) {
	s = span{from: min(p.Offset, n), to: min(p.Offset+p.Limit, n)}
	if s.to == n {
		return s, nil
	}
	data, _ := json.Marshal(page{Limit: p.Limit, Offset: s.to}) // cannot fail: two numbers
	text := base64.StdEncoding.EncodeToString(data)
	return s, &text
}

// knownQuery answers 400 to a parameter that n8n does not know, as its validator does.
func knownQuery(w http.ResponseWriter, r *http.Request, names ...string) bool {
	for name := range r.URL.Query() {
		if !slices.Contains(names, name) {
			fail(w, http.StatusBadRequest, "Unknown query parameter '%s'", name)
			return false
		}
	}
	return true
}
