package gateway

import (
	"bytes"
	"net/http"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// inbound is a message that comes from the upstream, peeked at.
type inbound struct {
	kind    kind // zero when it could not be read
	method  []byte
	id      []byte // as it stands
	params  []byte
	result  []byte
	outcome journal.Outcome // of a response
}

// peek reads the top level of a message from the upstream. It is lenient: what it cannot read is passed
// on as it is.
func peek(data []byte) (in inbound) {
	w := walk(data, '{')
	var failed bool
	for {
		key, val, ok := w.member()
		if !ok {
			break
		}
		switch string(key) {
		case "method":
			in.method = val
		case "id":
			in.id = val
		case "params":
			in.params = val
		case "result":
			in.result = val
		case "error":
			failed = true
		}
	}
	switch {
	case w.bad:
		return inbound{}
	case in.method != nil && in.id != nil:
		in.kind = kindRequest
	case in.method != nil:
		in.kind = kindNotification
	case in.result != nil || failed:
		in.kind = kindResponse
		in.outcome = outcomeOf(in.result, failed)
	}
	return in
}

func outcomeOf(result []byte, failed bool) journal.Outcome {
	switch {
	case failed:
		return journal.OutcomeRPCError
	case bytes.Contains(result, []byte(`"isError"`)) && string(field(result, "isError")) == "true":
		return journal.OutcomeToolError
	}
	return journal.OutcomeOK
}

// verdicts collects how the requests of one body ended.
type verdicts struct {
	msgs    []message
	outcome []journal.Outcome // by index in msgs; zero while open
	open    int               // requests without an answer
	one     [1]journal.Outcome
}

func (v *verdicts) init(p *payload) {
	v.msgs = p.msgs
	v.outcome = v.one[:]
	if len(p.msgs) > 1 {
		v.outcome = make([]journal.Outcome, len(p.msgs))
	}
	for i := range p.msgs {
		if p.msgs[i].kind == kindRequest {
			v.open++
		}
	}
}

// answered notes the response to the request with that ID, and returns the request's message. It returns
// nil when there is no such request or it was answered before.
func (v *verdicts) answered(id []byte, o journal.Outcome) *message {
	for i := range v.msgs {
		m := &v.msgs[i]
		if m.kind == kindRequest && v.outcome[i] == 0 && bytes.Equal(m.id, id) {
			v.outcome[i] = o
			v.open--
			return m
		}
	}
	return nil
}

// settle gives every message that has no outcome yet this one.
func (v *verdicts) settle(o journal.Outcome) {
	for i := range v.outcome {
		if v.outcome[i] == 0 {
			v.outcome[i] = o
		}
	}
	v.open = 0
}

// answer is the http.ResponseWriter that the gateway hands to a session's runtime. It carries what the
// gateway has read of the request, and takes back how it ended. A runtime that knows nothing of it
// is judged by its status.
type answer struct {
	http.ResponseWriter
	payload  *payload // nil for GET and DELETE
	verdicts verdicts
	status   int
	evict    bool     // the session can never be served again
	cut      bool     // the answer is not whole: the connection must break
	observer Observer // nil = nobody
	moved    bool     // nothing was executed or written: another replica serves the session

	started func(status int) // told once, when the answer begins, or that there is none; nil = nobody is
}

// WriteHeader notes the status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.begin(status)
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) begin(status int) {
	a.status = status
	if a.started != nil {
		a.started(status)
	}
}

// writePatience is how long a client may take for one write, with a second more for every 64 KiB.
const writePatience = 30 * time.Second

// Write notes that an answer has begun. A client that takes nothing any more is given up.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.begin(http.StatusOK)
	}
	patience := writePatience + time.Duration(len(p)>>16)*time.Second
	// A writer without deadlines is one in a test, or of somebody who has patience.
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(patience))
	return a.ResponseWriter.Write(p) //nolint:gosec // JSON and event streams; no browser takes them for a page
}

// written must be called when the answer has ended: its connection may serve other requests.
func (a *answer) written() {
	if a.started != nil && a.status == 0 {
		a.started(http.StatusBadGateway)
	}
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Time{}) // see Write
}

// again forgets how the request came out where it was not executed.
func (a *answer) again() {
	if a.verdicts = (verdicts{}); a.payload != nil {
		a.verdicts.init(a.payload)
	}
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush sends what was written so far.
func (a *answer) Flush() {
	// An error means that the client is gone or that the writer cannot flush; the next Write tells.
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

// begun reports whether the client has been sent anything.
func (a *answer) begun() bool { return a.status != 0 }

// byStatus is the outcome of a request of which nothing but the HTTP status is known.
func (a *answer) byStatus() journal.Outcome {
	switch {
	case a.moved:
		return journal.OutcomeUnavailable
	case a.status == 0:
		return journal.OutcomeBroken
	case a.status == http.StatusServiceUnavailable, a.status == http.StatusBadGateway, a.status == http.StatusGatewayTimeout:
		return journal.OutcomeUnavailable
	case a.status >= http.StatusBadRequest:
		return journal.OutcomeRPCError
	}
	return journal.OutcomeOK
}
