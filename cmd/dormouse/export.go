package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/engine"
)

// The forms of an export.
const (
	formEncrypted = "encrypted"
	formJSON      = "json"
	formSnapshot  = "snapshot"
)

type exportCmd struct {
	storeFlags
	jsonFlag
	exportKeyFlag
	Format    string `help:"encrypted: iv:authTag:ciphertext, as in n8n-mcp's guide. snapshot: encrypted, too, in columns and in pieces: small, and for any number of sessions; only Dormouse reads it. json: credentials and session IDs for everybody to read." enum:"encrypted,snapshot,json" default:"encrypted"`
	Plaintext bool   `help:"Yes, write credentials unencrypted. The json format needs it."`
	Output    string `help:"File to write, mode 0600; it must not be there yet. Standard output by default." short:"o" placeholder:"FILE"`
}

// Help implements kong.HelpProvider.
func (*exportCmd) Help() string {
	return `Nothing is lost without it: sessions are journaled as they happen. It is for moving them elsewhere. Sessions that have timed out, or that came without a complete instance context, are left out. It works beside a running daemon as well as on a stopped one's folder. 'dormouse restore' reads all formats. n8n-mcp's restoreSessionState wants the JSON array.

A file in the snapshot format has the sessions, not their history: to copy a store, copy the folder of a stopped daemon.

Examples:

    dormouse export --export-key-file export.key -o sessions.enc
    dormouse export --format snapshot --export-key-file export.key -o sessions.snap
    dormouse export --format json --plaintext -o sessions.json`
}

// exported is the summary of an export.
type exported struct {
	Exported int    `json:"exported"`
	Format   string `json:"format"`
	File     string `json:"file"`
	Bytes    int64  `json:"bytes"`
}

// Run exports.
func (c *exportCmd) Run(ctx context.Context, root *cli, s console.Streams) error {
	key, err := c.check()
	if err != nil {
		return err
	}
	log, err := s.Logger(root.LogFormat, root.LogLevel)
	if err != nil {
		return err
	}
	client, done, err := c.connectTransfer(ctx, s, engineFlags{log: log})
	if err != nil {
		return err
	}
	defer done()
	x := exported{Format: c.Format, File: c.Output}
	if c.Output == "" {
		x.Exported, err = c.write(ctx, s, client, s.Out, key)
	} else {
		x.Exported, x.Bytes, err = c.writeFile(ctx, s, client, key)
	}
	if err != nil {
		return answered(err)
	}
	return c.tell(s, &x)
}

func (c *exportCmd) check() (key []byte, err error) {
	switch {
	case c.JSON && c.Output == "":
		return nil, console.Usage(errors.New("--json is for the summary, and the export itself goes to standard output"), "name a file with -o")
	case c.Format != formJSON:
		return c.key()
	case !c.Plaintext:
		return nil, console.Refused(errors.New("the json format holds API keys and session IDs in plaintext"), "take --format encrypted, or add --plaintext if that is what you want")
	}
	return nil, nil
}

func (c *exportCmd) tell(s console.Streams, x *exported) error {
	if c.Format == formJSON {
		fmt.Fprintln(s.Err, "warning: whoever reads this export has the tenants' API keys and can go on with their sessions; encrypt it or delete it soon")
	}
	if c.JSON {
		return console.JSON(s.Out, x)
	}
	to := "standard output"
	if x.File != "" {
		to = fmt.Sprintf("%s (%d bytes, %s)", x.File, x.Bytes, x.Format)
	}
	fmt.Fprintf(s.Err, "exported %s to %s\n", views.Plural(x.Exported, "session"), to)
	return nil
}

// writeFile writes a new file. If anything fails, there is none.
func (c *exportCmd) writeFile(ctx context.Context, s console.Streams, client *control.Client, key []byte) (n int, size int64, err error) {
	f, err := os.OpenFile(c.Output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, 0, console.Refused(err, "name another file, or remove this one first")
	}
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(c.Output)
		}
	}()
	n, err = c.write(ctx, s, client, f, key)
	if err == nil {
		err = f.Sync()
	}
	if info, statErr := f.Stat(); statErr == nil {
		size = info.Size()
	}
	return n, size, errors.Join(err, f.Close())
}

// write writes the export to w and returns how many sessions are in it. The encrypted form has its tag in front, so
// that it is collected in memory, once, before it is written.
func (c *exportCmd) write(ctx context.Context, s console.Streams, client *control.Client, w io.Writer, key []byte) (n int, err error) {
	out := bufio.NewWriterSize(w, 64<<10)
	switch c.Format {
	case formJSON:
		n, err = writeArray(ctx, s, client, out)
	case formSnapshot:
		n, err = writeStates(ctx, s, client, out, key)
	default:
		var plain bytes.Buffer
		if n, err = writeArray(ctx, s, client, &plain); err == nil {
			err = engine.WriteEncrypted(out, plain.Bytes(), key)
		}
	}
	if err != nil {
		return n, err
	}
	return n, out.Flush()
}

// exportCounter counts up to the sessions that there are; some of them may be left out.
func exportCounter(ctx context.Context, s console.Streams, client *control.Client) *counter {
	st, err := client.Status(ctx)
	if err != nil {
		st.Sessions = 0 // then nobody knows how many
	}
	return newCounter(s, "exporting", int64(st.Sessions))
}

// writeStates writes the snapshot form.
func writeStates(ctx context.Context, s console.Streams, client *control.Client, w io.Writer, key []byte) (int, error) {
	p := exportCounter(ctx, s, client)
	defer p.Done()
	file, err := engine.NewStateWriter(w, key)
	if err != nil {
		return 0, err
	}
	n, err := client.Export(ctx, func(text []byte) error {
		p.add(1)
		var state engine.SessionState
		if err := json.Unmarshal(text, &state); err != nil {
			return err
		}
		return file.Write(&state)
	})
	if err != nil {
		return n, err
	}
	return n, file.Close()
}

// writeArray writes a JSON array of the sessions, as JavaScript's JSON.stringify would.
func writeArray(ctx context.Context, s console.Streams, client *control.Client, w io.Writer) (int, error) {
	p := exportCounter(ctx, s, client)
	defer p.Done()
	before := "["
	n, err := client.Export(ctx, func(state []byte) error {
		_, err := io.WriteString(w, before)
		if err == nil {
			_, err = w.Write(state)
		}
		before = ","
		p.add(1)
		return err
	})
	if err != nil {
		return n, err
	}
	if n == 0 {
		_, err = io.WriteString(w, "[]")
	} else {
		_, err = io.WriteString(w, "]")
	}
	return n, err
}
