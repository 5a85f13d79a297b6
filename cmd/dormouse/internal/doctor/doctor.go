// Package doctor looks at a data folder and its surroundings and says what is well, what is not, and what to do. It
// changes nothing: a stopped store is opened as a copy, because opening rewrites files.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

// The verdicts of a check.
const (
	OK   = "ok"
	Warn = "warn" // it works, but should be looked at
	Fail = "fail" // it does not work, or data is in danger
	Skip = "skip" // could not be checked
)

// Finding is the outcome of one check.
type Finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // OK, Warn, Fail or Skip
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // what to do
}

// Options says what to look at.
type Options struct {
	Store    store.Options
	Upstream string   // URL; empty = the running daemon's, if it has one
	Command  []string // of an upstream that is a child process; empty = the running daemon's, if it has one
	NoCopy   bool     // do not open a copy of a stopped store
	Now      time.Time
}

// exam collects findings.
type exam struct {
	o        Options
	findings []Finding
	daemon   *control.Status // of a running daemon that answers
	stopped  bool            // nobody has the folder open
	latest   time.Time       // journal time, as far as known
}

// Examine makes all checks. It returns when they are done or ctx has ended; what then could not be checked says so.
func Examine(ctx context.Context, o Options) []Finding {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	e := &exam{o: o}
	there := e.folder()
	if there {
		e.inside(ctx)
	}
	if asked := o.Upstream != "" || len(o.Command) > 0; there || asked {
		if !e.command(ctx) {
			e.upstream(ctx)
		}
	}
	return e.findings
}

// inside looks at a folder that is there.
func (e *exam) inside(ctx context.Context) {
	e.files()
	e.whoIsThere(ctx)
	e.keyring()
	switch {
	case e.o.Store.NATSURL != "":
		e.remote(ctx)
	case e.daemon != nil:
		e.running()
	case e.stopped:
		e.copied(ctx)
	}
	e.disk()
	e.clock()
}

func (e *exam) ok(check, format string, args ...any) { e.add(check, OK, "", format, args...) }

func (e *exam) add(check, state, hint, format string, args ...any) {
	e.findings = append(e.findings, Finding{Check: check, State: state, Detail: fmt.Sprintf(format, args...), Hint: hint})
}

// Worst returns Fail if anything failed, else Warn if anything is to be looked at, else OK.
func Worst(findings []Finding) string {
	worst := OK
	for _, f := range findings {
		switch f.State {
		case Fail:
			return Fail
		case Warn:
			worst = Warn
		}
	}
	return worst
}
