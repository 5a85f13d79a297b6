package doctor

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// Free disk space below which the doctor speaks up.
const (
	lowSpace  = 1 << 30
	noSpace   = 100 << 20
	lowShare  = 0.05
	clockSlip = 2 * time.Second
)

func (e *exam) disk() {
	free, total, err := space(e.o.Store.Dir)
	switch {
	case err != nil:
		e.add("disk space", Skip, "", "%v", err)
	case free < noSpace:
		e.add("disk space", Fail, "make room: without it nothing can be journaled, and new sessions are refused", "%s free of %s", Size(free), Size(total))
	case free < lowSpace || float64(free) < lowShare*float64(total):
		e.add("disk space", Warn, "make room before it is full: then new sessions are refused", "%s free of %s", Size(free), Size(total))
	default:
		e.ok("disk space", "%s free of %s", Size(free), Size(total))
	}
}

// space returns the bytes that are free for us, and all, on dir's file system.
func space(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// clock compares this machine's with the stream's: sessions expire by the latter.
func (e *exam) clock() {
	switch ahead := e.latest.Sub(e.o.Now); {
	case e.latest.IsZero():
		e.add("clock", Skip, "", "nothing in the journal to compare it with")
	case ahead > clockSlip:
		e.add("clock", Warn, "set the clock (NTP): sessions expire by the journal's time, which does not go back", "it is %s behind the journal's last batch", console.Rough(ahead))
	default:
		e.ok("clock", "the journal's last batch was stored %s", console.Ago(e.latest, e.o.Now))
	}
}

// upstream asks whether anybody answers; which status is not for us to judge, below 500.
func (e *exam) upstream(ctx context.Context) {
	url := e.o.Upstream
	if url == "" && e.daemon != nil {
		url = e.daemon.Upstream
	}
	if url == "" {
		e.add("upstream", Skip, "", "the built-in n8n tools have none; name one with --upstream URL")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status, err := probe(ctx, url)
	url = gateway.ShownURL(url)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.add("upstream", Fail, "start it, or correct --upstream", "%s does not answer within 5 s", url)
	case err != nil:
		e.add("upstream", Fail, "start it, or correct --upstream", "%s: %v", url, gateway.WithoutURL(err))
	case status >= 500:
		e.add("upstream", Warn, "look at its log", "%s answers OPTIONS with %d", url, status)
	default:
		e.ok("upstream", "%s answers (OPTIONS: %d)", url, status)
	}
}

// probe asks with OPTIONS: some servers count a GET without a session as an attack.
func probe(ctx context.Context, url string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}
