package seal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

const preamble = `# The keyring of a Dormouse journal. Whoever has this file can read everything in the journal;
# whoever loses it can read nothing any more. Keep a copy in a safe place.
`

const readingPreamble = `# A reading keyring of a Dormouse journal: it opens the history, and no tenant's credentials.
`

// Text returns the keyring's text form, one key a line:
//
//	journal ID KEY [MADE] [current]
//	tenant ID KEY [MADE] [current]
//	naming KEY
//
// KEY is 32 bytes in standard base64, MADE when it was made (RFC 3339, whole seconds, UTC). Lines that begin with '#' are comments. The method is not called
// MarshalText, so that no encoder or logger that is handed a Keyring writes its keys.
func (k *Keyring) Text() []byte {
	var b bytes.Buffer
	if k.Complete() == nil {
		b.WriteString(preamble)
	} else {
		b.WriteString(readingPreamble)
	}
	for _, name := range []Ring{RingJournal, RingTenant} {
		r := k.ring(name)
		for i := range r.keys {
			fmt.Fprintf(&b, "%s %s %s", name, r.keys[i].id, base64.StdEncoding.EncodeToString(r.keys[i].key[:]))
			if made := r.keys[i].made; !made.IsZero() {
				b.WriteString(" " + made.Format(time.RFC3339))
			}
			if i == r.current {
				b.WriteString(" current")
			}
			b.WriteByte('\n')
		}
	}
	if k.naming != nil {
		fmt.Fprintf(&b, "naming %s\n", base64.StdEncoding.EncodeToString(k.naming[:]))
	}
	return b.Bytes()
}

// ParseKeyring reads what Text wrote. It fails with journal.ErrMalformed, with the line in question
// and never with a key in the message.
func ParseKeyring(text []byte) (*Keyring, error) {
	p := keyringParser{current: map[Ring]bool{}, seen: map[secret]bool{}}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if what := p.line(fields); what != "" {
			return nil, fmt.Errorf("keyring, line %d: %w: %s", n, journal.ErrMalformed, what)
		}
	}
	for _, name := range []Ring{RingJournal, RingTenant} {
		if len(p.k.ring(name).keys) > 0 && !p.current[name] {
			return nil, fmt.Errorf("keyring: %w: no key of the %s ring is marked current", journal.ErrMalformed, name)
		}
	}
	if len(p.k.journal.keys) == 0 {
		return nil, fmt.Errorf("keyring: %w: no journal key", journal.ErrMalformed)
	}
	return &p.k, nil
}

type keyringParser struct {
	k       Keyring
	current map[Ring]bool
	seen    map[secret]bool
}

// line takes one line's fields and returns what is wrong with it.
func (p *keyringParser) line(fields []string) string {
	switch name := Ring(fields[0]); name {
	case RingJournal, RingTenant:
		return p.ringLine(name, fields[1:])
	case "naming":
		return p.namingLine(fields[1:])
	default:
		return "want journal, tenant or naming"
	}
}

func (p *keyringParser) ringLine(name Ring, fields []string) string {
	if len(fields) < 2 || len(fields) > 4 {
		return "want RING ID KEY [MADE] [current]"
	}
	r, id := p.k.ring(name), journal.KeyID(fields[0])
	if !validID(id) {
		return "want letters, digits and '-' as the key's ID, at most 64"
	}
	if _, twice := r.find(id); twice {
		return fmt.Sprintf("the %s ring has a key %s already", name, id)
	}
	key, what := p.key(fields[1])
	if what != "" {
		return what
	}
	made, rest, what := madeAt(fields[2:])
	if what != "" {
		return what
	}
	r.keys = append(r.keys, ringKey{id: id, key: key, made: made})
	if len(rest) == 0 {
		return ""
	}
	if p.current[name] {
		return fmt.Sprintf("the %s ring has a current key already", name)
	}
	p.current[name], r.current = true, len(r.keys)-1
	return ""
}

// madeAt reads what stands behind a key: a time, the word current, or both; rest is that word.
func madeAt(fields []string) (made time.Time, rest []string, what string) {
	const wrong = "want the time at which it was made, then \"current\", or nothing behind the key"
	if len(fields) > 0 && fields[0] != "current" {
		at, err := time.Parse(time.RFC3339, fields[0])
		if err != nil || at.IsZero() || at.Format(time.RFC3339) != fields[0] || at.Location() != time.UTC {
			return made, nil, wrong
		}
		made, fields = at, fields[1:]
	}
	if len(fields) > 1 || len(fields) == 1 && fields[0] != "current" {
		return made, nil, wrong
	}
	return made, fields, ""
}

func (p *keyringParser) namingLine(fields []string) string {
	switch {
	case len(fields) != 1:
		return "want naming KEY"
	case p.k.naming != nil:
		return "there is a naming key already"
	}
	key, what := p.key(fields[0])
	if what == "" {
		p.k.naming = &key
	}
	return what
}

// key reads a key that must be new: rings that share a key would not be independent.
func (p *keyringParser) key(s string) (key secret, what string) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != keySize {
		return key, "want 32 bytes in standard base64 as the key"
	}
	key = secret(raw)
	if p.seen[key] {
		return key, "the same key stands there twice"
	}
	p.seen[key] = true
	return key, ""
}

func validID(id journal.KeyID) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return true
}
