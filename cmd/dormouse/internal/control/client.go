package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Client asks a daemon, or the handler of a store that this process has opened. Safe for concurrent use.
type Client struct {
	http *http.Client
}

func newClient(t http.RoundTripper) *Client { return &Client{http: &http.Client{Transport: t}} }

// InProcess returns a client that speaks to h without a network.
func InProcess(h http.Handler) *Client { return newClient(handlerTransport{h}) }

func dialTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) }}
}

// Status asks how the daemon is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "/v1/status", &s)
}

// Sessions lists all sessions, the last accessed first.
func (c *Client) Sessions(ctx context.Context) (s []Session, err error) {
	return s, c.get(ctx, "/v1/sessions", &s)
}

// Session tells all about one session, with its last events (at most the number given).
func (c *Client) Session(ctx context.Context, ref string, events int) (d Detail, err error) {
	return d, c.get(ctx, "/v1/sessions/"+url.PathEscape(ref)+"?events="+strconv.Itoa(events), &d)
}

// CloseSession ends a session and returns its full ref.
func (c *Client) CloseSession(ctx context.Context, ref string) (string, error) {
	res, err := c.do(ctx, http.MethodPost, "/v1/sessions/"+url.PathEscape(ref)+"/close")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var out struct {
		Ref string `json:"ref"`
	}
	return out.Ref, json.NewDecoder(res.Body).Decode(&out)
}

// LogQuery selects events. Zero fields select everything.
type LogQuery struct {
	Session      string // ref, may be abbreviated
	Since, Until time.Time
	Kinds        []journal.Kind
	Limit        int // only the newest so many; 0 = all
	Follow       bool
	Verdicts     bool // say which events the fold refused; reads the whole journal

	// Begins, if not nil, is called before any event if the beginning of the history was trimmed: with the first message
	// that is left, and when it was stored.
	Begins func(seq journal.Seq, stored time.Time)
}

func (q *LogQuery) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" && value != "0" {
			v.Set(name, value)
		}
	}
	set("session", q.Session)
	set("since", strconv.FormatInt(int64(journal.InstantOf(q.Since)), 10))
	set("until", strconv.FormatInt(int64(journal.InstantOf(q.Until)), 10))
	set("limit", strconv.Itoa(q.Limit))
	for _, k := range q.Kinds {
		v.Add("kind", k.String())
	}
	if q.Follow {
		v.Set("follow", "1")
	}
	if q.Verdicts {
		v.Set("verdicts", "1")
	}
	return v
}

// Log calls fn with the selected events, newest last, and says how many older ones the limit left out. With
// Follow it goes on until ctx ends, which is no error.
func (c *Client) Log(ctx context.Context, q LogQuery, fn func(Event) error) (omitted int, err error) {
	res, err := c.do(ctx, http.MethodGet, "/v1/log?"+q.values().Encode())
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	omitted, _ = strconv.Atoi(res.Header.Get(omittedHeader))
	var seq, at uint64
	if n, _ := fmt.Sscan(res.Header.Get(beginsHeader), &seq, &at); n == 2 && q.Begins != nil {
		q.Begins(journal.Seq(seq), journal.Instant(at).Time())
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return omitted, fmt.Errorf("log: %w", err)
		}
		if e.Error != "" {
			return omitted, errors.New(e.Error)
		}
		if err := fn(e); err != nil {
			return omitted, err
		}
	}
	if ctx.Err() != nil && q.Follow {
		return omitted, nil
	}
	return omitted, lines.Err()
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	res, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}

// do returns the answer when it is a success, and the error that the daemon gave otherwise.
func (c *Client) do(ctx context.Context, method, path string) (*http.Response, error) {
	return c.send(ctx, method, path, nil)
}

// send is do with a body.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://dormouse"+path, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, unwrapURL(err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	var problem struct {
		Error string `json:"error"`
		Hint  string `json:"hint"`
	}
	if json.NewDecoder(res.Body).Decode(&problem) != nil || strings.TrimSpace(problem.Error) == "" {
		problem.Error = "the daemon answered " + res.Status
	}
	return nil, &APIError{Status: res.StatusCode, Message: problem.Error, Hint: problem.Hint}
}

// APIError is an answer that was no success.
type APIError struct {
	Status  int // of HTTP
	Message string
	Hint    string // what the operator can do; may be empty
}

func (e *APIError) Error() string { return e.Message }

// unwrapURL drops "Get "http://dormouse/…"" in front: it tells a person nothing.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
