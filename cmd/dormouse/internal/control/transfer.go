package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Transfer is what a backend knows of moving sessions in and out. Both hold credentials in plaintext.
type Transfer struct {
	// Export calls fn with each session that has not timed out, in the JSON form of engine.EncodeSessionState, and
	// returns how many they were.
	Export func(ctx context.Context, fn func(state []byte) error) (int, error)
	// Restore is engine.Engine.RestoreEach.
	Restore func(context.Context, iter.Seq[engine.SessionState]) (engine.RestoreResult, error)
}

// exporting is one line of an export: states, and then their number or an error.
type exporting struct {
	State    json.RawMessage `json:"state,omitempty"`
	Exported *int            `json:"exported,omitempty"`
	Error    string          `json:"error,omitempty"`
}

func (b *Backend) transfer(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/export", b.when(b.export))
	mux.HandleFunc("POST /v1/restore", b.when(b.restore))
}

// export answers with JSON lines.
func (b *Backend) export(w http.ResponseWriter, r *http.Request) error {
	out := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	n, err := b.Export(r.Context(), func(state []byte) error { return lines.Encode(exporting{State: state}) })
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
