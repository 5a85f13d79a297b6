package gateway

import (
	"net/http/httptest"
	"testing"
	"time"
)

// patient is a connection that notes until when it would write.
type patient struct {
	*httptest.ResponseRecorder

	until []time.Time
}

func (p *patient) SetWriteDeadline(t time.Time) error {
	p.until = append(p.until, t)
	return nil
}

// A client has a time limit for each write, and none stays behind for the connection's next request.
func TestDeadlinesOfWrites(t *testing.T) {
	p := &patient{ResponseRecorder: httptest.NewRecorder()}
	a := &answer{ResponseWriter: p}
	began := time.Now()
	for range 2 {
		if _, err := a.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	a.written()
	if len(p.until) != 3 || !p.until[2].IsZero() {
		t.Fatal(p.until)
	}
	for _, until := range p.until[:2] {
		if limit := until.Sub(began); limit < 46*time.Second || limit > 60*time.Second {
			t.Errorf("a write of 1 MiB may take %v", limit)
		}
	}
}
