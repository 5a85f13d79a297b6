package audit

import (
	"fmt"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Report is what Verify found.
type Report struct {
	Journal string      `json:"journal"`
	First   journal.Seq `json:"first"` // message of the stream
	Last    journal.Seq `json:"last"`
	Batches uint64      `json:"batches"` // checked
	// HeadersOnly says that nothing was opened: chains, roots, marks and numbers were checked, contents were not.
	HeadersOnly bool   `json:"headersOnly,omitempty"`
	Events      uint64 `json:"events"`             // in them
	Sessions    int    `json:"sessions"`           // present at the end; zero with HeadersOnly
	Root        string `json:"root"`               // history root up to Last
	Marks       int    `json:"marks"`              // high-water marks that were looked at
	Accepted    []Lost `json:"accepted,omitempty"` // losses that operators accepted
	// Orphans are sessions of which later events tell, but not their beginning: they are lost, at least.
	Orphans uint64   `json:"orphans,omitempty"`
	Notes   []string `json:"notes,omitempty"` // what was not checked, and why
	Faults  []Fault  `json:"faults"`
	Verdict string   `json:"verdict"`
}

// Lost is an accepted loss, for people and programs.
type Lost struct {
	Number  uint32      `json:"number"`
	Kind    string      `json:"kind"`
	From    journal.Seq `json:"from"`
	To      journal.Seq `json:"to"`
	When    string      `json:"when"`
	Replica string      `json:"replica"`
	Text    string      `json:"text,omitempty"`
}

func lostOf(l *journal.Loss) Lost {
	return Lost{
		Number: l.Number, Kind: l.Kind.String(), From: l.From, To: l.To, When: l.When.String(), Replica: string(l.Replica), Text: l.Text,
	}
}

// Whole reports whether nothing is wrong.
func (r *Report) Whole() bool { return len(r.Faults) == 0 }

// verdict is the report in one line.
func (r *Report) verdict() string {
	checked := fmt.Sprintf("journal %s, messages %d to %d: %s, %s", r.Journal, r.First, r.Last, plural(r.Batches, "batch"), plural(r.Events, "event"))
	if r.Batches == 0 {
		checked = fmt.Sprintf("journal %s is empty", r.Journal)
	}
	if r.HeadersOnly {
		checked += ", headers only"
	}
	switch {
	case !r.Whole():
		return fmt.Sprintf("DAMAGED in %s: %s", plural(uint64(len(r.Faults)), "place"), checked)
	case len(r.Accepted) > 0:
		return fmt.Sprintf("whole but for the accepted losses (%s): %s", acceptedPlaces(r.Accepted), checked)
	default:
		return "whole: " + checked
	}
}

func acceptedPlaces(accepted []Lost) string {
	const most = 5
	var parts []string
	for i, l := range accepted {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more", len(accepted)-most))
			break
		}
		parts = append(parts, place(l.From, l.To))
	}
	return strings.Join(parts, ", ")
}

// Add adds a fault that was found elsewhere.
func (r *Report) Add(f Fault) {
	r.Faults = append([]Fault{f}, r.Faults...)
	r.Verdict = r.verdict()
}

// Losses returns what must be accepted so that the history can be folded again: all that the faults name, tenant keys
// aside. The caller numbers them.
func (r *Report) Losses() []journal.Loss {
	var out []journal.Loss
	for i := range r.Faults {
		f := &r.Faults[i]
		kind, from, to := journal.LossHole, f.From, f.To
		switch f.Kind {
		case FaultKey, FaultUntold, FaultGone, FaultBlock:
			continue
		case FaultChanged:
			kind, to = journal.LossChange, max(f.To, f.Noticed)
			if f.Since > 0 {
				from = min(from, f.Since)
			}
		case FaultEnds:
			kind = journal.LossTail
		default:
		}
		out = append(out, journal.Loss{
			Kind: kind, From: from, To: to, Last: r.Last, Batches: f.Batches, Events: f.Events, Sessions: f.Sessions,
			Text: f.String(),
		})
	}
	return out
}
