package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
)

// plainContext is an InstanceContext with the JSON of its fields alone.
type plainContext InstanceContext

// contextNames are the wire names of an InstanceContext's own fields.
func contextNames() []string {
	return []string{"n8nApiUrl", "n8nApiKey", "instanceId", "sessionId", "metadata"}
}

// isContextName tells whether the JSON package would take a member of that name for one of the context's own fields.
func isContextName(name string) bool {
	for _, own := range contextNames() {
		if strings.EqualFold(own, name) {
			return true
		}
	}
	return false
}

// MarshalJSON writes the fields in their order, then Extra by name. It fails with journal.ErrMalformed if Metadata or a
// member of Extra is not JSON, or if Extra has the name of a field.
func (ic InstanceContext) MarshalJSON() ([]byte, error) {
	if err := checkExtra(ic.Extra); err != nil {
		return nil, err
	}
	text, err := appendMembers(nil, plainContext(ic))
	if err != nil || len(ic.Extra) == 0 {
		return text, err
	}
	extra, err := appendMembers(nil, ic.Extra)
	if err != nil {
		return nil, err
	}
	defer clear(extra)
	if len(text) > len("{}") {
		extra[0] = ','
	} else {
		extra = extra[1:]
	}
	return append(text[:len(text)-1], extra...), nil
}

// appendMembers appends v as JSON, as JavaScript's JSON.stringify would write it.
func appendMembers(b []byte, v any) ([]byte, error) {
	out := bytes.NewBuffer(b)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false) // what came from elsewhere goes back as it was
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("instance context: %w: a member is not JSON", journal.ErrMalformed)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// UnmarshalJSON puts the members that are none of the context's own into Extra. As everywhere in the JSON package, the
// case of a field's name is of no account.
func (ic *InstanceContext) UnmarshalJSON(data []byte) error {
	var p plainContext
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	if strict.Decode(&p) == nil { // as nearly all contexts
		*ic = InstanceContext(p)
		return nil
	}
	p = plainContext{}
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	for name, value := range all {
		if !isContextName(name) {
			if p.Extra == nil {
				p.Extra = map[string]json.RawMessage{}
			}
			p.Extra[name] = value
		}
	}
	*ic = InstanceContext(p)
	return nil
}

// Number returns a positive, finite number of Extra; false if there is none of that name.
func (ic InstanceContext) Number(name string) (n float64, ok bool) {
	if err := json.Unmarshal(ic.Extra[name], &n); err != nil || n <= 0 {
		return 0, false
	}
	return n, true
}

// Text returns a string of Extra, or "" if there is none of that name.
func (ic InstanceContext) Text(name string) (s string) {
	if json.Unmarshal(ic.Extra[name], &s) != nil {
		return ""
	}
	return s
}

// checkExtra fails with journal.ErrMalformed if a context with these could not be read again as it was.
func checkExtra(extra map[string]json.RawMessage) error {
	for name, value := range extra {
		switch {
		case isContextName(name):
			return fmt.Errorf("instance context: %w: an extra field has the name of one of its own", journal.ErrMalformed)
		case !json.Valid(value):
			return fmt.Errorf("instance context: %w: an extra field is not JSON", journal.ErrMalformed)
		}
	}
	return nil
}

// inherit takes over from a context what a request cannot bring, as far as ic leaves it out.
func (ic *InstanceContext) inherit(from *InstanceContext) {
	if ic.Metadata == nil {
		ic.Metadata = from.Metadata
	}
	if ic.Extra == nil {
		ic.Extra = from.Extra
	}
}
