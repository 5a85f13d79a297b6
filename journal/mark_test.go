package journal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
)

func TestMarkForm(t *testing.T) {
	m := journal.Mark{
		Journal: journal.NewID(), Basis: journal.Basis{Seq: 7, Root: journal.Root{1, 2}}, Events: 9, Sessions: 3,
		When: 1_790_000_000_123, Replica: "a <name> & \"quotes\"", Losses: 2,
	}
	text := journal.AppendMark([]byte("x"), m)[1:]
	if strings.Contains(string(text), "\n") {
		t.Errorf("more than one line: %s", text)
	}
	if got, err := journal.ParseMark(text); err != nil || got != m {
		t.Errorf("%+v, %v from %s", got, err, text)
	}
	if got, err := journal.ParseMark(journal.AppendMark(nil, journal.Mark{})); err != nil || got != (journal.Mark{}) {
		t.Errorf("%+v, %v from the zero mark", got, err)
	}
	for _, bad := range []string{"", "{}", "null", strings.Replace(string(text), "0102", "01x2", 1), strings.Replace(string(text), "T", "?", 1)} {
		if _, err := journal.ParseMark([]byte(bad)); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLossForm(t *testing.T) {
	l := journal.Loss{
		Number: 1, Journal: journal.NewID(), Kind: journal.LossChange, From: 3, To: 5, Last: 90, Batches: 3, Events: 4,
		Sessions: 1, When: 1_790_000_000_123, Replica: "r", Text: "text",
	}
	text := journal.AppendLoss(nil, l)
	if got, err := journal.ParseLoss(text); err != nil || got != l {
		t.Errorf("%+v, %v from %s", got, err, text)
	}
	for _, change := range []func(*journal.Loss){
		func(l *journal.Loss) { l.Number = 0 }, func(l *journal.Loss) { l.Kind = 9 }, func(l *journal.Loss) { l.From = 6 },
		func(l *journal.Loss) { l.From, l.To = 0, 0 },
	} {
		bad := l
		change(&bad)
		if _, err := journal.ParseLoss(journal.AppendLoss(nil, bad)); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
