package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
)

// The scanner below finds its way through JSON without decoding it. It never fails on input that
// json.Valid accepts; on anything else it stops early and says so, and it reads no byte twice.

// skipSpace returns the index of the first byte at or after i that is not JSON white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipString returns the index behind the string that opens at i, or -1.
func skipString(b []byte, i int) int {
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		slashes := 0
		for k := i + n - 1; k >= i && b[k] == '\\'; k-- {
			slashes++
		}
		i += n + 1
		if slashes%2 == 0 {
			return i
		}
	}
	return -1
}

// skipValue returns the index behind the value that begins at i, or -1.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i)
	}
	start := i
	for i < len(b) && strings.IndexByte(" \n\r\t,]}", b[i]) < 0 {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

func skipNested(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// walker steps through the members of an object or the elements of an array.
type walker struct {
	b    []byte
	i    int
	done bool
	bad  bool
}

// walk returns a walker over the object or array that b begins with; open is '{' or '['.
func walk(b []byte, open byte) walker {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != open {
		return walker{done: true, bad: true}
	}
	return walker{b: b, i: i + 1}
}

// more moves to the next member or element and reports whether there is one.
func (w *walker) more() bool {
	if w.done {
		return false
	}
	w.i = skipSpace(w.b, w.i)
	if w.i < len(w.b) && w.b[w.i] == ',' {
		w.i = skipSpace(w.b, w.i+1)
	}
	switch {
	case w.i >= len(w.b):
		return w.fail()
	case w.b[w.i] == '}', w.b[w.i] == ']':
		w.done = true
		return false
	}
	return true
}

func (w *walker) fail() bool {
	w.done, w.bad = true, true
	return false
}

// member returns the next member's key without its quotes and its value, both as they stand. A key with
// escapes is decoded, so that no spelling of a key hides it.
func (w *walker) member() (key, val []byte, ok bool) {
	if !w.more() {
		return nil, nil, false
	}
	end := -1
	if w.b[w.i] == '"' {
		end = skipString(w.b, w.i)
	}
	if end < 0 {
		return nil, nil, w.fail()
	}
	key = w.b[w.i+1 : end-1]
	if bytes.IndexByte(key, '\\') >= 0 {
		s, _ := unquote(w.b[w.i:end])
		key = []byte(s)
	}
	w.i = skipSpace(w.b, end)
	if w.i >= len(w.b) || w.b[w.i] != ':' {
		return nil, nil, w.fail()
	}
	w.i = skipSpace(w.b, w.i+1)
	val, ok = w.value()
	return key, val, ok
}

// element returns the next element.
func (w *walker) element() ([]byte, bool) {
	if !w.more() {
		return nil, false
	}
	return w.value()
}

func (w *walker) value() ([]byte, bool) {
	end := skipValue(w.b, w.i)
	if end < 0 {
		return nil, w.fail()
	}
	val := w.b[w.i:end]
	w.i = end
	return val, true
}

// field returns the value of an object's first member of that name, or nil.
func field(object []byte, name string) []byte {
	w := walk(object, '{')
	for {
		key, val, ok := w.member()
		if !ok {
			return nil
		}
		if string(key) == name {
			return val
		}
	}
}

// unquote decodes a JSON string with its quotes.
func unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// text returns the string of an object's member, or "".
func text(object []byte, name string) string {
	s, _ := unquote(field(object, name))
	return s
}
