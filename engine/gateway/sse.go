package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

// errEventTooLarge says that the upstream sent a server-sent event beyond WakerOptions.MaxEvent.
var errEventTooLarge = errors.New("server-sent event too large")

// event is one server-sent event. Its slices are valid until the next call of next.
type event struct {
	raw  []byte // all lines, with the blank one behind them
	name []byte
	id   []byte
	data []byte // the data lines, joined with newlines
	retr []byte
	has  fields
}

// fields tells which fields an event has; an empty field is there all the same.
type fields uint8

const (
	hasID fields = 1 << iota
	hasData
	hasName
	hasRetry
)

// eventReader reads server-sent events one by one. Lines end with LF, CRLF or CR alone; a CR that does not stand
// before an LF becomes an LF in what is passed on.
type eventReader struct {
	r      *bufio.Reader
	raw    []byte
	data   []byte
	event  event
	limit  int
	halfLF bool // the last line ended with a CR, of which an LF may be the other half
}

// readers keeps eventReaders between streams.
type readers struct{ pool sync.Pool }

func (rs *readers) get(r io.Reader, limit int) *eventReader {
	er, _ := rs.pool.Get().(*eventReader)
	if er == nil {
		er = &eventReader{r: bufio.NewReaderSize(nil, 16<<10)}
	}
	er.r.Reset(r)
	er.limit, er.halfLF = limit, false
	return er
}

func (rs *readers) put(er *eventReader) {
	if cap(er.raw) > 256<<10 || cap(er.data) > 256<<10 {
		return // one huge event must not stay in memory for ever
	}
	er.r.Reset(nil)
	er.event = event{}
	rs.pool.Put(er)
}

// whole reports whether another whole event is at hand without reading.
func (er *eventReader) whole() bool {
	n := er.r.Buffered()
	if n == 0 {
		return false
	}
	ahead, err := er.r.Peek(n)
	return err == nil && (bytes.Contains(ahead, []byte("\n\n")) || bytes.Contains(ahead, []byte("\r\n\r\n")) ||
		bytes.Contains(ahead, []byte("\r\r")))
}

// next returns the next event or block of comments. It returns io.EOF at the end; an event that the end
// cut off is dropped, as the standard says, unless it is a whole message.
func (er *eventReader) next() (*event, error) {
	er.raw, er.data = er.raw[:0], er.data[:0]
	er.event = event{}
	ev := &er.event
	var name, id, retry, data span
	for {
		from := len(er.raw)
		err := er.line()
		line := bytes.TrimRight(er.raw[from:], "\r\n")
		if len(line) == 0 && (err == nil || len(er.raw) == 0 || ev.has&hasData == 0) {
			if from == 0 && err == nil {
				er.raw = er.raw[:0] // blank lines between events
				continue
			}
			if err != nil {
				return nil, err
			}
			break
		}
		er.field(line, from, &name, &id, &retry, &data)
		if err != nil {
			if !errors.Is(err, io.EOF) || ev.has&hasData == 0 || peek(er.joined(data)).kind == 0 {
				return nil, err
			}
			er.raw = append(er.raw, "\n\n"...)
			break
		}
	}
	ev.raw, ev.data = er.raw, er.joined(data)
	ev.name, ev.id, ev.retr = name.of(er.raw), id.of(er.raw), retry.of(er.raw)
	return ev, nil
}

// line appends the next line with its end to raw. It never waits for what may follow a CR.
func (er *eventReader) line() error {
	for {
		part, err := er.ahead()
		if err != nil {
			return err
		}
		n, end := lineEnd(part)
		er.raw = append(append(er.raw, part[:n]...), end...)
		_, _ = er.r.Discard(n + len(end)) // it is in the buffer
		if len(er.raw) > er.limit {
			return errEventTooLarge
		}
		if len(end) > 0 {
			er.endLine(end)
			return nil
		}
	}
}

// ahead returns what is in the buffer, at least one byte.
func (er *eventReader) ahead() ([]byte, error) {
	part, err := er.r.Peek(1)
	if err != nil {
		return nil, err
	}
	if er.halfLF {
		er.halfLF = false
		if part[0] == '\n' {
			_, _ = er.r.Discard(1) // it is in the buffer
			return er.ahead()
		}
	}
	return er.r.Peek(er.r.Buffered())
}

// lineEnd returns how long the first line is and what ends it; no end: it goes on.
func lineEnd(b []byte) (n int, end []byte) {
	n = bytes.IndexByte(b, '\n')
	if n < 0 {
		n = len(b)
	}
	switch cr := bytes.IndexByte(b[:n], '\r'); {
	case cr >= 0 && cr == n-1 && n < len(b):
		return cr, b[cr : cr+2]
	case cr >= 0:
		return cr, b[cr : cr+1]
	case n < len(b):
		return n, b[n : n+1]
	}
	return n, nil
}

// endLine deals with a line that a CR alone has ended, as far as can be seen.
func (er *eventReader) endLine(end []byte) {
	if len(end) == 1 && end[0] == '\r' {
		er.raw[len(er.raw)-1] = '\n'
		er.halfLF = true
	}
}

// span is a part of raw: raw moves while it grows.
type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// joined returns the data: the only line of it where it stands, or all of them put together.
func (er *eventReader) joined(only span) []byte {
	if len(er.data) > 0 {
		return er.data
	}
	return only.of(er.raw)
}

func (er *eventReader) field(line []byte, from int, name, id, retry, data *span) {
	key, val, _ := bytes.Cut(line, []byte{':'})
	if len(val) > 0 && val[0] == ' ' {
		val = val[1:]
	}
	at := span{from + len(line) - len(val), from + len(line)}
	has := &er.event.has
	switch string(key) {
	case "data":
		if *has&hasData == 0 {
			*data, *has = at, *has|hasData
			return
		}
		if len(er.data) == 0 {
			er.data = append(er.data, data.of(er.raw)...)
		}
		er.data = append(append(er.data, '\n'), val...)
	case "id":
		*id, *has = at, *has|hasID
	case "event":
		*name, *has = at, *has|hasName
	case "retry":
		*retry, *has = at, *has|hasRetry
	}
}

// message reports whether the event carries a JSON-RPC message.
func (ev *event) message() bool {
	return ev.has&hasData != 0 && len(ev.data) > 0 && (len(ev.name) == 0 || string(ev.name) == "message")
}

// appendEvent appends the wire form of an event. Empty name, id and retry are left out; newlines in data become
// lines of their own.
func appendEvent(dst, name, id, retry, data []byte) []byte {
	dst = appendField(dst, "event: ", name)
	dst = appendField(dst, "id: ", id)
	dst = appendField(dst, "retry: ", retry)
	for {
		line, rest, more := bytes.Cut(data, []byte{'\n'})
		dst = append(append(append(dst, "data: "...), line...), '\n')
		if data = rest; !more {
			return append(dst, '\n')
		}
	}
}

func appendField(dst []byte, key string, val []byte) []byte {
	if len(val) == 0 {
		return dst
	}
	return append(append(append(dst, key...), val...), '\n')
}
