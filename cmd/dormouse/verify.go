package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/doctor"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

type verifyCmd struct {
	storeFlags
	jsonFlag
	NoKeys bool `help:"Check headers alone, for which no key is needed: numbers, chains, digests, roots and marks, but not what is inside." name:"no-keys"`
}

// Help implements kong.HelpProvider.
func (*verifyCmd) Help() string {
	return `Reads the whole journal and reports every place where it is not what was written: holes, damaged or exchanged batches, a beginning or an end that is gone, tenants' keys that are missing. The first line is the verdict. The exit code is 1 if anything is wrong.

It works beside a running daemon. A stopped store is copied, and the copy is looked at: opening a damaged store changes it. What was lost after the newest high-water mark, which is written once a second, can go unnoticed.

Examples:

    dormouse verify --data /var/lib/dormouse
    dormouse verify --no-keys
    dormouse verify --json | jq .faults`
}

// Run verifies.
func (c *verifyCmd) Run(ctx context.Context, s console.Streams) error {
	r, err := c.report(ctx, s)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := console.JSON(s.Out, r); err != nil {
			return err
		}
	} else {
		writeReport(s, r)
	}
	if !r.Whole() {
		return console.Failed(errors.New("the history is not whole"), "keep the folder as it is until you have decided what to do; `dormouse serve` refuses to start on it unless it is told to go on without what is lost (--accept-loss)")
	}
	return nil
}

func (c *verifyCmd) report(ctx context.Context, s console.Streams) (*audit.Report, error) {
	bar, progress := verifyingBar(s)
	defer bar.Done()
	client, err := control.Connect(ctx, c.Data)
	if err == nil {
		r, err := client.Verify(ctx, c.NoKeys, progress)
		return r, answered(err)
	}
	if !errors.Is(err, control.ErrNoDaemon) {
		return nil, err
	}
	o := c.options()
	o.NoKeys = c.NoKeys
	if c.NATSURL == "" {
		remove, err := c.copied(s, &o)
		if err != nil {
			return nil, err
		}
		defer remove()
	}
	r, err := c.open(ctx, s, o, progress)
	return r, hinted(err, c.Data)
}

// copied points o at a copy of the folder.
func (c *verifyCmd) copied(s console.Streams, o *store.Options) (remove func(), err error) {
	if err := store.Claimable(c.Data); err != nil {
		return nil, hinted(err, c.Data)
	}
	if _, err := os.Stat(c.Data); err != nil {
		return nil, hinted(fmt.Errorf("%w: %w", store.ErrNoFolder, err), c.Data)
	}
	temp, err := os.MkdirTemp("", "dormouse-verify-")
	if err != nil {
		return nil, err
	}
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(c.Data, "keys")
	}
	o.Dir = temp
	// Whatever it takes to look: it is a copy.
	o.AcceptLoss = true
	if size, err := doctor.SizeOf(c.Data); err == nil && !c.JSON {
		fmt.Fprintf(s.Err, "no daemon runs on %s: looking at a copy of it (%s) in %s\n", c.Data, doctor.Size(size), temp)
	}
	if err := store.Copy(c.Data, temp); err != nil {
		return nil, errors.Join(console.Failed(fmt.Errorf("copy %s: %w", c.Data, err), "point TMPDIR at a file system with room for it"), os.RemoveAll(temp))
	}
	return func() { _ = os.RemoveAll(temp) }, nil
}

// open looks at a store; without its keyring, at the headers alone.
func (c *verifyCmd) open(ctx context.Context, s console.Streams, o store.Options, progress func(audit.VerifyProgress)) (*audit.Report, error) {
	st, err := store.Open(ctx, o)
	if errors.Is(err, store.ErrNoKeys) && !o.NoKeys {
		fmt.Fprintf(s.Err, "%v: headers are checked alone\n", err)
		o.NoKeys = true
		st, err = store.Open(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = st.Close(context.WithoutCancel(ctx)) }()
	return st.Verify(ctx, store.VerifyOptions{HeadersOnly: o.NoKeys, Progress: progress})
}

// verifier lets a store that a command has opened be verified.
func verifier(st *store.Store) func(context.Context, bool, func(audit.VerifyProgress)) (*audit.Report, error) {
	return func(ctx context.Context, headersOnly bool, progress func(audit.VerifyProgress)) (*audit.Report, error) {
		return st.Verify(ctx, store.VerifyOptions{HeadersOnly: headersOnly, Progress: progress})
	}
}

func writeReport(s console.Streams, r *audit.Report) {
	out := s.Out
	fmt.Fprintln(out, console.Clean(r.Verdict))
	for i := range r.Faults {
		fmt.Fprintf(out, "  %s\n", console.Clean(r.Faults[i].String()))
	}
	if r.Orphans > 0 {
		fmt.Fprintf(out, "  later events tell of %d sessions whose beginning is gone: they are lost, at least\n", r.Orphans)
	}
	for _, l := range r.Accepted {
		fmt.Fprintf(out, "  accepted by %s at %s: %s\n", console.Clean(l.Replica), l.When, console.Clean(l.Text))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "  note: %s\n", console.Clean(n))
	}
	said := map[string]bool{}
	for i := range r.Faults {
		if hint := r.Faults[i].Hint(); !said[hint] {
			said[hint] = true
			fmt.Fprintf(out, "  → %s\n", hint)
		}
	}
	if r.Whole() && r.Batches > 0 {
		fmt.Fprintf(out, "  root %s over all messages; %s looked at\n", r.Root, marks(r.Marks))
	}
}

func marks(n int) string {
	if n == 1 {
		return "1 mark"
	}
	return fmt.Sprintf("%d marks", n)
}
