package journal

import (
	"fmt"
	"unicode/utf8"
)

// check refuses an event that has no wire form. The texts of its part need no check if they stood in an event before.
func (e *Event) check(part bool) error {
	what := ""
	switch {
	case e.Kind == 0 || e.Kind > LastKind:
		what = "unknown kind"
	case !e.fits():
		what = "kind without its part"
	case e.Call.Duration < 0:
		what = "negative duration"
	case e.Created != nil && e.Created.Timeout < 0:
		what = "negative timeout"
	case !e.text(part):
		what = "text that is not UTF-8"
	default:
		return nil
	}
	return fmt.Errorf("%s: %w: %s", e.Kind, ErrMalformed, what)
}

// fits reports whether the event has the part that its kind is about. Who reads events need not ask again.
func (e *Event) fits() bool {
	switch e.Kind {
	case KindCreated:
		return e.Created != nil
	case KindChanged:
		return e.Changed != nil
	case KindBound:
		return e.Bound != nil
	default:
		return e.Note != nil || !e.Kind.ForRecord()
	}
}

// text reports whether all texts are UTF-8, as Protobuf wants it.
func (e *Event) text(part bool) bool {
	ok := utf8.ValidString(e.Call.Method) && utf8.ValidString(e.Call.Tool)
	if !part {
		return ok
	}
	if c := e.Created; c != nil {
		ok = ok && utf8.ValidString(c.Label) && utf8.ValidString(string(c.Key)) &&
			utf8.ValidString(string(c.Principal)) && utf8.ValidString(c.Protocol)
	}
	if c := e.Changed; c != nil {
		ok = ok && utf8.ValidString(string(c.Key)) && utf8.ValidString(string(c.Principal)) &&
			utf8.ValidString(c.Protocol) && utf8.ValidString(c.LogLevel) &&
			validList(c.Subscribed) && validList(c.Unsubscribed)
	}
	if b := e.Bound; b != nil {
		ok = ok && utf8.ValidString(string(b.Replica)) && utf8.ValidString(string(b.Key))
	}
	if n := e.Note; n != nil {
		ok = ok && utf8.ValidString(string(n.Replica)) && utf8.ValidString(n.Version) &&
			validList(n.Keys) && utf8.ValidString(n.Who) && utf8.ValidString(n.Text)
	}
	return ok
}

func validList[S ~string](list []S) bool {
	for _, s := range list {
		if !utf8.ValidString(string(s)) {
			return false
		}
	}
	return true
}
