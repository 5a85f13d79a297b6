package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Load is a closed loop of MCP clients, one session and one connection each.
type Load struct {
	Conns  int
	Tool   string        // the tool that every request calls
	For    time.Duration // how long a round lasts at most
	Until  chan struct{} // ends a round, too; may be nil
	Pause  time.Duration // of each client after a call
	Header http.Header   // sent with every request; may be nil
}

// session is one client: a raw connection, so that the load generator costs as little as may be.
type session struct {
	conn    net.Conn
	in      *bufio.Reader
	host    string
	path    string
	id      string
	header  http.Header
	again   func() error // connects anew after a call that failed
	request bytes.Buffer
}

// connect opens the clients' sessions.
func (l Load) connect(ctx context.Context, target string) ([]*session, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	sessions := make([]*session, 0, l.Conns)
	for range l.Conns {
		s, err := l.open(ctx, u)
		if err != nil {
			closeAll(sessions)
			return nil, err
		}
		s.again = func() error { return s.move(ctx, u) }
		sessions = append(sessions, s)
	}
	return sessions, nil
}

// move goes on with the session on a new connection to u.
func (s *session) move(ctx context.Context, u *url.URL) error {
	n, err := dial(ctx, u, s.header)
	if err != nil {
		return err
	}
	_ = s.conn.Close() // nothing of it is wanted any more
	s.conn, s.in, s.host, s.path = n.conn, n.in, n.host, n.path
	return nil
}

func closeAll(sessions []*session) {
	for _, s := range sessions {
		_ = s.conn.Close() // the measurement is over
	}
}

func dial(ctx context.Context, u *url.URL, header http.Header) (*session, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return &session{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), host: u.Host, path: u.Path, header: header}, nil
}

func (l Load) open(ctx context.Context, u *url.URL) (*session, error) {
	s, err := dial(ctx, u, l.Header)
	if err != nil {
		return nil, err
	}
	status, header, _, err := s.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{},"clientInfo":{"name":"dormouse-bench","version":"1"}}}`)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("initialize: HTTP %d", status)
	}
	if err != nil {
		_ = s.conn.Close() // the handshake's error is the one to tell
		return nil, err
	}
	s.id = header.Get("Mcp-Session-Id")
	status, _, _, err = s.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if err == nil && status != http.StatusAccepted {
		err = fmt.Errorf("notifications/initialized: HTTP %d", status)
	}
	return s, err
}

// post sends one message and reads the whole answer.
func (s *session) post(body string) (status int, header http.Header, content []byte, err error) {
	b := &s.request
	b.Reset()
	fmt.Fprintf(b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\nContent-Length: %d\r\n", s.path, s.host, len(body))
	if s.id != "" {
		fmt.Fprintf(b, "Mcp-Session-Id: %s\r\nMCP-Protocol-Version: 2025-11-25\r\n", s.id)
	}
	if err := s.header.Write(b); err != nil {
		return 0, nil, nil, err
	}
	b.WriteString("\r\n")
	b.WriteString(body)
	if _, err := s.conn.Write(b.Bytes()); err != nil {
		return 0, nil, nil, err
	}
	answer, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	content, err = io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header, content, errors.Join(err, answer.Body.Close())
}

// call makes one tools/call and reports whether it was answered by a result.
func (s *session) call(id int, tool string) bool {
	status, _, content, err := s.post(`{"jsonrpc":"2.0","id":` + strconv.Itoa(id) +
		`,"method":"tools/call","params":{"name":"` + tool + `","arguments":{}}}`)
	return err == nil && status == http.StatusOK && bytes.Contains(content, []byte(`"result"`))
}

// Round runs the load once over open sessions. A client whose call failed connects anew, or sits out the rest of the round.
func (l Load) Round(sessions []*session) Sample {
	var (
		mu  sync.Mutex
		all []time.Duration
		out Sample
		wg  sync.WaitGroup
	)
	begin := time.Now()
	end := begin.Add(l.For)
	for _, s := range sessions {
		wg.Go(func() {
			took := make([]time.Duration, 0, 1<<14)
			failed := 0
			for id := 1; ; id++ {
				start := time.Now()
				if start.After(end) || l.ended() {
					break
				}
				if !s.call(id, l.Tool) {
					failed++
					if s.again() != nil {
						break
					}
					continue
				}
				took = append(took, time.Since(start))
				if l.Pause > 0 {
					time.Sleep(l.Pause)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			out.Failed += failed
		})
	}
	wg.Wait()
	out.Done, out.Elapsed = len(all), time.Since(begin)
	return out.WithLatencies(all)
}

func (l Load) ended() bool {
	select {
	case <-l.Until:
		return true
	default:
		return false
	}
}
