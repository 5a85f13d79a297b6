package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// verifying is one line of a verification: progress any number of times, and then a report or an error.
type verifying struct {
	Progress *audit.VerifyProgress `json:"progress,omitempty"`
	Report   *audit.Report         `json:"report,omitempty"`
	Error    string                `json:"error,omitempty"`
}

// maxReport bounds the line of a report.
const maxReport = 256 << 20

// verify answers with JSON lines.
func (b *Backend) verify(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	report, err := b.Verify(r.Context(), r.FormValue("headers") != "", func(p audit.VerifyProgress) {
		_ = out.Encode(verifying{Progress: &p})
		_ = flush()
	})
	last := verifying{Report: report}
	if err != nil {
		last = verifying{Error: err.Error()}
	}
	_ = out.Encode(last) // the client is gone if this fails
	return nil
}

// Verify asks whether the history is whole. progress is called now and then.
func (c *Client) Verify(ctx context.Context, headersOnly bool, progress func(audit.VerifyProgress)) (*audit.Report, error) {
	path := "/v1/verify"
	if headersOnly {
		path += "?headers=1"
	}
	res, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxReport)
	for lines.Scan() {
		var v verifying
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		switch {
		case v.Progress != nil:
			progress(*v.Progress)
		case v.Report != nil:
			return v.Report, nil
		case v.Error != "":
			return nil, errors.New(v.Error)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return nil, errors.New("verify: the daemon broke off")
}
