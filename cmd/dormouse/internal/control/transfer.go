package control

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"sync"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Transfer is what a backend knows of moving sessions in and out. Both hold credentials in plaintext.
type Transfer struct {
	// Export calls fn with each session that has not timed out, in the JSON form of engine.EncodeSessionState, then
	// received, and returns how many they were. If received fails, the export has broken off.
	Export func(ctx context.Context, fn func(state []byte) error, received func() error) (int, error)
	// Restore is engine.Engine.RestoreEach.
	Restore func(context.Context, iter.Seq[engine.SessionState]) (engine.RestoreResult, error)
}

// exporting is one line of an export: states, "all" when there are no more of them, and, once the client has said that it
// has got that, their number or an error.
type exporting struct {
	State    json.RawMessage `json:"state,omitempty"`
	All      string          `json:"all,omitempty"` // names the export
	Exported *int            `json:"exported,omitempty"`
	Error    string          `json:"error,omitempty"`
}

func (b *Backend) transfer(mux *http.ServeMux) {
	x := &receipts{}
	mux.HandleFunc("POST /v1/export", b.when(func(w http.ResponseWriter, r *http.Request) error { return b.export(w, r, x) }))
	mux.HandleFunc("POST /v1/export/{name}/received", b.when(x.received))
	mux.HandleFunc("POST /v1/restore", b.when(b.restore))
}

// receipts are the exports that wait for their clients' word. The zero value is ready; safe for concurrent use.
type receipts struct{ waiting sync.Map } // name to chan struct{}

// errLeft says that a client did not give its word.
var errLeft = errors.New("the client left before it had said that it has everything")

// await waits until somebody has received the export of that name.
func (x *receipts) await(ctx context.Context, name string, ask func() error) error {
	received := make(chan struct{})
	x.waiting.Store(name, received)
	defer x.waiting.Delete(name)
	if err := ask(); err != nil {
		return err
	}
	select {
	case <-received:
		return nil
	case <-ctx.Done():
		return errLeft
	}
}

// received is a client's word.
func (x *receipts) received(w http.ResponseWriter, r *http.Request) error {
	waiting, ok := x.waiting.LoadAndDelete(r.PathValue("name"))
	if !ok {
		return &problem{http.StatusNotFound, "no such export is under way"}
	}
	close(waiting.(chan struct{}))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// export answers with JSON lines. That a client has been sent them is no sign that it has them: it says so itself, while the
// answer is under way.
func (b *Backend) export(w http.ResponseWriter, r *http.Request, x *receipts) error {
	out := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	ctx := r.Context()
	n, err := b.Export(ctx, func(state []byte) error { return lines.Encode(exporting{State: state}) }, func() error {
		name := rand.Text()
		return x.await(ctx, name, func() error {
			return errors.Join(lines.Encode(exporting{All: name}), out.Flush(), http.NewResponseController(w).Flush())
		})
	})
	if _, refused := errors.AsType[*RefusedError](err); refused {
		return err // nothing was written: it refuses before it begins
	}
	last := exporting{Exported: &n}
	if err != nil {
		last = exporting{Error: err.Error()}
	}
	_ = lines.Encode(last) // the client is gone if this fails
	_ = out.Flush()
	return nil
}

// maxExported bounds one line of an export.
const maxExported = 8 << 20

// Export calls fn with each session, in its JSON form, credentials in plaintext, and returns how many they were. fn
// must not keep what it gets.
func (c *Client) Export(ctx context.Context, fn func(state []byte) error) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // tells the daemon, if it has not been given the word
	res, err := c.do(ctx, http.MethodPost, "/v1/export")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxExported)
	for lines.Scan() {
		var x exporting
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			return 0, fmt.Errorf("export: %w", err)
		}
		switch {
		case x.Error != "":
			return 0, errors.New(x.Error)
		case x.Exported != nil:
			return *x.Exported, nil
		case x.All != "":
			word, err := c.do(ctx, http.MethodPost, "/v1/export/"+url.PathEscape(x.All)+"/received")
			if err != nil {
				return 0, fmt.Errorf("export: %w", err)
			}
			_ = word.Body.Close() // it is empty
			continue
		}
		if err := fn(x.State); err != nil {
			return 0, err
		}
	}
	return 0, errors.Join(errors.New("export: it broke off"), lines.Err())
}

// restore takes what engine.EachSessionState reads, which the client has found to be one to its end.
func (b *Backend) restore(w http.ResponseWriter, r *http.Request) error {
	var bad error
	result, err := b.Restore(r.Context(), func(yield func(engine.SessionState) bool) {
		stop := errors.New("stop")
		bad = engine.EachSessionState(r.Body, func(s engine.SessionState) error {
			if !yield(s) {
				return stop
			}
			return nil
		})
		if errors.Is(bad, stop) {
			bad = nil
		}
	})
	if err == nil {
		err = bad
	}
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, result)
		return nil
	case errors.Is(err, journal.ErrUnavailable), errors.Is(err, journal.ErrOutcomeUnknown), result.Restored > 0:
		return fmt.Errorf("%w; %d sessions were restored before, and restoring the file again goes on", err, result.Restored)
	default:
		return err
	}
}

// Restore brings in what engine.EachSessionState reads, which it streams from r.
func (c *Client) Restore(ctx context.Context, r io.Reader) (out engine.RestoreResult, err error) {
	body, feed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := io.Copy(feed, r)
		_ = feed.CloseWithError(err)
	}()
	defer func() {
		_ = body.Close() // lets the copying end if nobody reads any more
		<-done
	}()
	res, err := c.send(ctx, http.MethodPost, "/v1/restore", body)
	if _, answered := errors.AsType[*APIError](err); answered {
		return out, err
	}
	if err == nil {
		defer res.Body.Close()
		err = json.NewDecoder(res.Body).Decode(&out)
	}
	if err != nil {
		return out, fmt.Errorf("it broke off; what was restored before is durable, and restoring the file again goes on: %w", err)
	}
	return out, nil
}
