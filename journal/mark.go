package journal

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Mark is a replica's high-water mark: what it had folded at some time. It is kept outside the stream of
// batches, so that a stream that is shorter, older or another one is noticed.
type Mark struct {
	Journal ID
	Basis
	Events   uint64    // folded up to Basis.Seq
	Sessions uint64    // present there
	When     Instant   // by the replica's clock
	Replica  ReplicaID // who wrote it
	Losses   uint32    // number of the last accepted loss that the replica knew; zero: none
}

// AppendMark appends the stored form of a mark to dst: one line of JSON, without a newline.
func AppendMark(dst []byte, m Mark) []byte {
	return appendJSON(dst, markJSON{
		Journal: m.Journal.String(), Seq: m.Seq, Root: hex.EncodeToString(m.Root[:]), Events: m.Events,
		Sessions: m.Sessions, When: m.When.String(), Replica: m.Replica, Losses: m.Losses,
	})
}

// ParseMark reads what AppendMark wrote. It skips fields it does not know and fails with ErrMalformed.
func ParseMark(data []byte) (m Mark, err error) {
	var j markJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return m, fmt.Errorf("mark: %w: %w", ErrMalformed, err)
	}
	m = Mark{Events: j.Events, Sessions: j.Sessions, Replica: j.Replica, Losses: j.Losses}
	m.Seq = j.Seq
	if m.Journal, err = ParseID(j.Journal); err != nil {
		return Mark{}, fmt.Errorf("mark: %w", err)
	}
	if m.When, err = parseInstant(j.When); err != nil {
		return Mark{}, fmt.Errorf("mark: %w", err)
	}
	if err := parseFixed(m.Root[:], j.Root); err != nil {
		return Mark{}, fmt.Errorf("mark: root: %w", err)
	}
	return m, nil
}

type markJSON struct {
	Journal  string    `json:"journal"`
	Seq      Seq       `json:"seq"`
	Root     string    `json:"root"`
	Events   uint64    `json:"events"`
	Sessions uint64    `json:"sessions"`
	When     string    `json:"when"`
	Replica  ReplicaID `json:"replica"`
	Losses   uint32    `json:"losses,omitempty"`
}

// appendJSON appends v, which has no field that does not encode, on one line.
func appendJSON(dst []byte, v any) []byte {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return append(dst, strings.TrimSuffix(b.String(), "\n")...)
}

func parseFixed(into []byte, s string) error {
	if len(s) != hex.EncodedLen(len(into)) {
		return fmt.Errorf("%q: %w: want %d hexadecimal digits", clip(s), ErrMalformed, 2*len(into))
	}
	if _, err := hex.Decode(into, []byte(s)); err != nil {
		return fmt.Errorf("%q: %w: want hexadecimal digits", clip(s), ErrMalformed)
	}
	return nil
}

func parseInstant(s string) (Instant, error) {
	if s == "-" {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0, fmt.Errorf("time %q: %w", clip(s), ErrMalformed)
	}
	return InstantOf(t), nil
}
