package gateway

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/dormouse-mcp/dormouse/journal"
)

// A server's questions to the client (sampling, elicitation, roots) carry the server's request IDs, and
// a new server process starts counting them anew. What the client sees is therefore the ID with the epoch
// in it, which decodes without any state:
//
//	"abc"   is  "e7.abc"      a string stays a string
//	5       is  7<<32 + 5     an integer below 2^32 stays a safe integer, while the epoch is below 2^21
//	-1, 2.5 is  "n7.-1"       any other number is put in a string

const (
	questionBits  = 32
	maxEpochInInt = 1 << 21 // epoch<<32 must stay below 2^53
)

// questionID returns the ID under which the client sees the server's request.
func questionID(epoch journal.Epoch, id []byte) []byte {
	prefix := func(c byte) []byte {
		return append(strconv.AppendUint([]byte{'"', c}, uint64(epoch), 10), '.')
	}
	if id[0] == '"' {
		return append(prefix('e'), id[1:]...)
	}
	if n, err := strconv.ParseUint(string(id), 10, questionBits); err == nil && epoch < maxEpochInInt {
		return strconv.AppendUint(nil, uint64(epoch)<<questionBits|n, 10)
	}
	return append(append(prefix('n'), id...), '"')
}

// answeredID takes the client's ID apart; false: it is not one that questionID made.
func answeredID(id []byte) (epoch journal.Epoch, orig []byte, ok bool) {
	if len(id) == 0 {
		return 0, nil, false
	}
	if id[0] != '"' {
		n, err := strconv.ParseUint(string(id), 10, 64)
		if err != nil || n>>questionBits == 0 || n>>questionBits >= maxEpochInInt {
			return 0, nil, false
		}
		return journal.Epoch(n >> questionBits), strconv.AppendUint(nil, n&(1<<questionBits-1), 10), true
	}
	if s, quoted := unquote(id); quoted && bytes.IndexByte(id, '\\') >= 0 {
		id = appendString(nil, s) // a client may escape what the server did not
	}
	if len(id) < 5 || id[1] != 'e' && id[1] != 'n' {
		return 0, nil, false
	}
	num, rest, found := bytes.Cut(id[2:], []byte{'.'})
	n, err := strconv.ParseUint(string(num), 10, 64)
	if !found || err != nil || n == 0 {
		return 0, nil, false
	}
	if id[1] == 'e' {
		return journal.Epoch(n), append([]byte{'"'}, rest...), true
	}
	orig = rest[:len(rest)-1]
	if !json.Valid(orig) || orig[0] != '-' && (orig[0] < '0' || orig[0] > '9') {
		return 0, nil, false
	}
	return journal.Epoch(n), orig, true
}

func appendString(dst []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return append(dst, `""`...) // strings always encode
	}
	return append(dst, bytes.TrimSpace(buf.Bytes())...)
}

// replace returns whole with part, which must be a sub-slice of it, replaced by with.
func replace(whole, part, with []byte) []byte {
	at := cap(whole) - cap(part) // both end with the same array
	out := make([]byte, 0, len(whole)-len(part)+len(with))
	out = append(out, whole[:at]...)
	out = append(out, with...)
	return append(out, whole[at+len(part):]...)
}

// outward rewrites a server's request, or its notice that it has dropped one, for the client. It returns nil when
// there is nothing to rewrite.
func outward(epoch journal.Epoch, data []byte, in *inbound) []byte {
	switch in.kind {
	case kindRequest:
		if in.id[0] == '"' || in.id[0] == '-' || in.id[0] >= '0' && in.id[0] <= '9' {
			return replace(data, in.id, questionID(epoch, in.id))
		}
	case kindResponse: // carries the client's own ID
	case kindNotification:
		if string(in.method) != `"`+methodCancelled+`"` {
			return nil
		}
		if id := field(in.params, "requestId"); len(id) > 0 && id[0] != 'n' && id[0] != '{' && id[0] != '[' {
			return replace(data, id, questionID(epoch, id))
		}
	}
	return nil
}

// inward returns the body for the upstream at this epoch: the client's answers get the server's own IDs back, and
// answers to questions of another epoch are left out and counted. A nil body means that nothing is left.
func (p *payload) inward(epoch journal.Epoch) (body []byte, dropped int) {
	if !p.has(kindResponse) {
		return p.body, 0
	}
	var kept [][]byte
	for i := range p.msgs {
		m := &p.msgs[i]
		if m.kind != kindResponse {
			kept = append(kept, m.raw)
			continue
		}
		if at, orig, ok := answeredID(m.id); ok && at == epoch {
			kept = append(kept, replace(m.raw, m.id, orig))
		} else {
			dropped++
		}
	}
	switch {
	case len(kept) == 0:
		return nil, dropped
	case !p.batch:
		return kept[0], dropped
	}
	body = append([]byte{'['}, bytes.Join(kept, []byte{','})...)
	return append(body, ']'), dropped
}
