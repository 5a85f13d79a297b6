package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/replay"
)

const (
	maxRefusal  = 64 << 10 // bytes of an upstream's refusal that are read
	pingTimeout = 5 * time.Second
	endTimeout  = 5 * time.Second // for the DELETE of an upstream session
)

// errVersionChanged says that the upstream, initialized again, speaks another protocol version. What the client
// negotiated is void: the session ends.
var errVersionChanged = errors.New("the upstream negotiates another protocol version than before")

// initialized is what an upstream answered to initialize.
type initialized struct {
	id       string // the upstream's session ID; empty when it keeps no sessions
	protocol string
	caps     string // the declared capabilities as JSON
	header   http.Header
	body     []byte // as it stands, for the client

	binding *binding // of a new session of the client, where the upstream's outlives the connection; else nil
}

// refusal is an upstream's answer that is passed on to the client in place of a session.
type refusal struct {
	status int
	header http.Header
	body   []byte
}

// Error tells the status alone: the body is the upstream's.
func (r *refusal) Error() string { return fmt.Sprintf("the upstream refused: HTTP %d", r.status) }

func (r *refusal) write(w http.ResponseWriter) {
	copyAnswer(w.Header(), r.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // the client may be gone
}

// open sends an initialize request and reads its answer. The error is a *refusal when the upstream answered
// with anything but a result.
func (w *Waker) open(ctx context.Context, who caller, conn Conn, body, id []byte) (*initialized, error) {
	resp, err := w.send(ctx, conn, outgoing{method: http.MethodPost, who: who, body: body})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	if err := w.outage(ctx, resp); err != nil {
		return nil, fmt.Errorf("%w: %s", errDown, err.Error()) // a session that may be there nevertheless does no harm
	}
	in := &initialized{header: resp.Header, id: resp.Header.Get(headerSession)}
	if resp.StatusCode != http.StatusOK {
		w.tellStrange(resp.StatusCode)
		return nil, refusalOf(resp)
	}
	var answer []byte
	switch mediaType(resp.Header) {
	case typeJSON:
		answer, err = io.ReadAll(io.LimitReader(resp.Body, int64(w.o.MaxEvent)+1))
		in.body = answer
	case typeSSE:
		in.body, answer, err = w.readOpening(resp.Body, id)
	default:
		return nil, refuse(http.StatusBadGateway, codeInternal, "the upstream answered initialize with neither JSON nor an event stream")
	}
	if err != nil {
		return nil, w.broken(ctx, err)
	}
	return in, in.read(answer)
}

// readOpening reads events up to the response to initialize. The events are given back without IDs: there is no
// session yet in which they could be resumed.
func (w *Waker) readOpening(body io.Reader, id []byte) (events, answer []byte, err error) {
	er := w.readers.get(body, w.o.MaxEvent)
	defer w.readers.put(er)
	for len(events) <= w.o.MaxEvent {
		ev, err := er.next()
		if err != nil {
			return nil, nil, err
		}
		if !ev.message() {
			continue
		}
		events = appendEvent(events, ev.name, nil, nil, ev.data)
		if in := peek(ev.data); in.kind == kindResponse && bytes.Equal(in.id, id) {
			return events, bytes.Clone(ev.data), nil
		}
	}
	return nil, nil, errEventTooLarge
}

// read takes what matters from the answer.
func (in *initialized) read(answer []byte) error {
	msg := peek(answer)
	if in.protocol = text(msg.result, "protocolVersion"); in.protocol == "" || !json.Valid(answer) {
		return &refusal{status: http.StatusOK, header: in.header, body: in.body}
	}
	if in.id != "" && !visible(in.id, 4<<10) {
		return refuse(http.StatusBadGateway, codeInternal, "the upstream gave a session ID that MCP does not allow")
	}
	in.caps = string(field(msg.result, "capabilities"))
	return nil
}

func refusalOf(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil {
		return fmt.Errorf("read the upstream's refusal: %w", err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return refuse(http.StatusBadGateway, codeInternal,
			fmt.Sprintf("the upstream answered initialize with HTTP %d", resp.StatusCode))
	}
	return &refusal{status: resp.StatusCode, header: resp.Header, body: body}
}

// handshake opens an upstream session for b with what the client said when it opened its own: initialize,
// initialized, log level, subscriptions. p.flight is held.
func (p *proxy) handshake(ctx context.Context, who caller, b *binding) (*initialized, error) {
	st, ok := p.s.State()
	if !ok {
		return nil, engine.ErrUnknownSession
	}
	params := st.Initialize
	if len(params) == 0 {
		params = madeUp(who.header)
	}
	id := fmt.Appendf(nil, `"dormouse-%d"`, b.epoch)
	in, err := p.w.open(ctx, who, b.conn, request(id, methodInitialize, params), id)
	if err != nil {
		return nil, reopening(err)
	}
	b.id = in.id
	if st.Protocol != "" && st.Protocol != in.protocol {
		p.w.forsake(ctx, b, in.protocol, who)
		return nil, fmt.Errorf("%w: %s, not %s", errVersionChanged, in.protocol, st.Protocol)
	}
	if st.Protocol == "" { // imported
		if err := p.s.Change(ctx, engine.Changes{Initialize: params, Protocol: in.protocol}); err != nil {
			return nil, err
		}
	}
	if err := p.tell(ctx, who, b, in.protocol, request(nil, methodInitialized, nil)); err != nil {
		return nil, reopening(err)
	}
	if err := p.restore(ctx, who, b, in.protocol, &st); err != nil {
		p.w.forsake(ctx, b, in.protocol, who)
		return nil, err
	}
	return in, nil
}

// reopening turns an upstream's refusal to open a session again into what the client is told: what it is to
// do about credentials and limits, but never that its own session has ended.
func reopening(err error) error {
	var ref *refusal
	if !errors.As(err, &ref) {
		return err
	}
	status := ref.status
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusTooManyRequests,
		status >= http.StatusInternalServerError:
	default:
		status = http.StatusBadGateway
	}
	p := refuse(status, codeUnavailable, fmt.Sprintf("The MCP server does not open a session again: HTTP %d", ref.status))
	p.header = http.Header{}
	for _, name := range [...]string{"Www-Authenticate", "Retry-After"} {
		if v, ok := ref.header[name]; ok {
			p.header[name] = v
		}
	}
	return p
}

// restore tells the upstream what the client has asked of it since. What it refuses is logged and lost; where it gives no
// answer, the session is not open yet.
func (p *proxy) restore(ctx context.Context, who caller, b *binding, protocol string, st *replay.Session) error {
	ask := func(n int, method, key, val string) error {
		params := append(append(append(appendString([]byte{'{'}, key), ':'), appendString(nil, val)...), '}')
		err := p.tell(ctx, who, b, protocol, request(fmt.Appendf(nil, `"dormouse-%d-%d"`, b.epoch, n), method, params))
		if ctx.Err() != nil || errors.Is(err, errDown) || errors.Is(err, errBroken) {
			return err
		}
		if err != nil {
			p.w.o.Logger.Warn().Err(err).Stringer("session", p.s.Ref()).Str("method", method).Msg("not restored at the upstream")
		}
		return nil
	}
	if st.LogLevel != "" {
		if err := ask(0, methodSetLevel, "level", st.LogLevel); err != nil {
			return err
		}
	}
	for i, uri := range st.Subscriptions {
		if err := ask(i+1, methodSubscribe, "uri", uri); err != nil {
			return err
		}
	}
	return nil
}

// tell sends a message whose result does not matter.
func (p *proxy) tell(ctx context.Context, who caller, b *binding, protocol string, body []byte) error {
	resp, err := p.w.send(ctx, b.conn, outgoing{method: http.MethodPost, who: who, body: body, session: b.id, protocol: protocol})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	if resp.StatusCode >= http.StatusMultipleChoices {
		return refusalOf(resp)
	}
	return nil
}

// ping asks the upstream whether it knows b's session.
func (p *proxy) ping(ctx context.Context, who caller, b *binding) verdict {
	asked, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	body := request([]byte(`"dormouse-ping"`), methodPing, nil)
	resp, err := p.w.send(asked, b.conn, outgoing{method: http.MethodPost, who: who, body: body, session: b.id, protocol: p.version()})
	switch {
	case err != nil && asked.Err() == nil:
		return verdictDown
	case err != nil:
		return verdictNone
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	if resp.StatusCode == http.StatusOK {
		return verdictAlive
	}
	if head, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)); err == nil && lost(resp.StatusCode, head, b.id) {
		return verdictLost
	}
	return verdictNone
}

// announce tells the client's GET stream what may have changed with the upstream's new session.
func (p *proxy) announce(in *initialized) {
	before := p.caps
	p.caps = in.caps
	if before == "" || before == in.caps {
		return
	}
	for _, what := range [...]string{"tools", "prompts", "resources"} {
		if string(field(field([]byte(in.caps), what), "listChanged")) == "true" {
			p.stream.send(appendEvent(nil, []byte("message"), nil, nil, request(nil, "notifications/"+what+"/list_changed", nil)))
		}
	}
}

// madeUp returns the initialize parameters of a session that was imported without.
func madeUp(header http.Header) json.RawMessage {
	version := header.Get(headerVersion)
	if !knownVersion(version) {
		version = versionMar
	}
	return json.RawMessage(`{"protocolVersion":"` + version + `","capabilities":{},"clientInfo":{"name":"dormouse","version":"1"}}`)
}

// request returns a JSON-RPC request, or a notification when id is nil.
func request(id []byte, method string, params []byte) []byte {
	var b strings.Builder
	b.WriteString(`{"jsonrpc":"2.0"`)
	if id != nil {
		b.WriteString(`,"id":`)
		b.Write(id)
	}
	b.WriteString(`,"method":"` + method + `"`)
	if params != nil {
		b.WriteString(`,"params":`)
		b.Write(params)
	}
	b.WriteByte('}')
	return []byte(b.String())
}

// drain reads a little of what is left, so that the connection can be used again.
func drain(body io.Reader) {
	_, _ = io.CopyN(io.Discard, body, 4<<10) // nothing hangs on it
}
