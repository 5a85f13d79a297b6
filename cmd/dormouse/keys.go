package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

type keysCmd struct {
	New    keysNewCmd    `cmd:"" help:"Make a key file: for several replicas, or to keep it apart from the data."`
	List   keysListCmd   `cmd:"" help:"List the keys of both rings: which are current, how old, what they seal."`
	Rotate keysRotateCmd `cmd:"" help:"Make new current keys; what tenants' keys are wrapped under goes over to them."`
	Retire keysRetireCmd `cmd:"" help:"Drop older keys of the tenant ring that nothing is wrapped under any more."`
	Export keysExportCmd `cmd:"" help:"Write the journal ring alone, for auditors."`
}

type keysListCmd struct {
	storeFlags
	jsonFlag
	Count bool `help:"Count the batches under each key of the journal ring. Reads the header of every batch."`
}

// Help implements kong.HelpProvider.
func (*keysListCmd) Help() string {
	return `Keys themselves are never shown. Equal fingerprints mean equal keys: compare replicas by them.

Examples:

    dormouse keys list
    dormouse keys list --count
    dormouse keys list --key-file reading.keys`
}

// Run lists the keys.
func (c *keysListCmd) Run(ctx context.Context, s console.Streams) error {
	k, err := c.keys(ctx, s)
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, k)
	}
	views.Keys(s, &k)
	return nil
}

// keys asks the store; where there is none, it tells of the keyring alone.
func (c *keysListCmd) keys(ctx context.Context, s console.Streams) (k control.Keys, err error) {
	client, done, err := c.connect(ctx, s)
	if errors.Is(err, store.ErrNoFolder) {
		ring, loadErr := store.LoadKeys(c.options())
		if loadErr != nil {
			return k, errors.Join(err, hinted(loadErr, c.Data))
		}
		return store.KeysOf(ring, store.KeySource(c.options())), nil
	}
	if err != nil {
		return k, err
	}
	defer done()
	k, err = client.Keys(ctx, c.Count)
	return k, answered(err)
}

type keysRotateCmd struct {
	storeFlags
	jsonFlag
	Ring    string `help:"Which ring: journal, tenant, or all." enum:"journal,tenant,all" default:"all"`
	Prepare bool   `help:"Only make the new keys, so that every replica can have them before one uses them."`
	Offline bool   `help:"Change the key file alone; daemons take it over at SIGHUP or at their next start."`
}

// Help implements kong.HelpProvider.
func (*keysRotateCmd) Help() string {
	return `A running daemon goes over to the new keys at once: the next batch is sealed under the new journal key, tenants' data keys are wrapped under the new tenant key, and their former wraps securely deleted. What is interrupted goes on when the daemon starts again. Older journal keys stay in the ring for the batches under them; older tenant keys until 'dormouse keys retire'. Back the key file up again afterwards.

Several replicas: prepare the keys, give the key file to every replica and send each SIGHUP; then rotate, and give the file to every replica again. See docs/keys.md.

Examples:

    dormouse keys rotate
    dormouse keys rotate --ring tenant
    dormouse keys rotate --prepare`
}

// Run rotates.
func (c *keysRotateCmd) Run(ctx context.Context, s console.Streams) error {
	q := control.RotateQuery{Rings: []string{c.Ring}, Prepare: c.Prepare, Who: whoami()}
	if c.Ring == "all" {
		q.Rings = []string{string(seal.RingJournal), string(seal.RingTenant)}
	}
	r, err := c.rotate(ctx, s, q)
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, r)
	}
	views.Rotated(s, &r, c.Offline)
	return nil
}

func (c *keysRotateCmd) rotate(ctx context.Context, s console.Streams, q control.RotateQuery) (r control.Rotated, err error) {
	if c.Offline {
		r, err = rotateFile(c.options(), q)
		return r, hinted(err, c.Data)
	}
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return r, err
	}
	defer done()
	r, err = client.Rotate(ctx, q)
	return r, answered(err)
}

// rotateFile rotates the keyring in a file, without a store.
func rotateFile(o store.Options, q control.RotateQuery) (r control.Rotated, err error) {
	if o.Keys != "" {
		return r, store.EnvironmentRefusal()
	}
	k, err := store.LoadKeys(o)
	if err != nil {
		return r, err
	}
	if err := k.Complete(); err != nil {
		return r, err
	}
	r = control.Rotated{Source: store.KeySource(o), Prepared: q.Prepare}
	if k, err = store.RotateRings(k, q, &r); err != nil {
		return r, err
	}
	return r, seal.Save(store.KeySource(o), k)
}

type keysRetireCmd struct {
	storeFlags
	jsonFlag
}

// Help implements kong.HelpProvider.
func (*keysRetireCmd) Help() string {
	return `After it, nobody with this keyring can open wraps that are left in backups or in deleted files, so an erased tenant is erased there as well, as far as no copy of the former key file is left. Backups of the store from before the rotation can no longer wake their sessions. With several replicas: only once all have gone over to the new keys.

Example:

    dormouse keys retire`
}

// Run retires keys.
func (c *keysRetireCmd) Run(ctx context.Context, s console.Streams) error {
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	r, err := client.RetireKeys(ctx, whoami())
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, r)
	}
	views.Retired(s, &r)
	return nil
}

type keysExportCmd struct {
	storeFlags
	Reading bool   `help:"The journal ring alone: it opens the history, and no credential or session ID. Required: the complete keyring is the key file itself."`
	Output  string `help:"File to write, mode 0600; it must not be there yet. Standard output by default." short:"o" placeholder:"FILE"`
}

// Help implements kong.HelpProvider.
func (*keysExportCmd) Help() string {
	return `An auditor reads a copy of the journal with it: every event, who and when, which tool; no session ID, no upstream session, no credential.

Examples:

    dormouse keys export --reading -o reading.keys
    dormouse log --data copy --key-file reading.keys`
}

// Run writes the reading keyring.
func (c *keysExportCmd) Run(ctx context.Context, s console.Streams) error {
	if !c.Reading {
		return console.Usage(errors.New("say --reading"), "the complete keyring is the key file (%s): copy that one", store.KeySource(c.options()))
	}
	text, err := c.text(ctx)
	if err != nil {
		return err
	}
	if c.Output == "" {
		_, err := s.Out.Write(text)
		return err
	}
	k, err := seal.ParseKeyring(text)
	if err == nil {
		err = seal.SaveNew(c.Output, k)
	}
	if err != nil {
		return hinted(err, c.Data)
	}
	fmt.Fprintf(s.Err, "wrote %s: it opens the history, and no tenant's credentials\n", c.Output)
	return nil
}

// text asks the daemon, whose key file may be elsewhere, or else reads the key file: no store is opened for it.
func (c *keysExportCmd) text(ctx context.Context) ([]byte, error) {
	client, err := control.Connect(ctx, c.Data)
	if err == nil {
		text, err := client.ReadingKeys(ctx)
		return text, answered(err)
	}
	if !errors.Is(err, control.ErrNoDaemon) {
		return nil, err
	}
	k, err := store.LoadKeys(c.options())
	if err != nil {
		return nil, hinted(err, c.Data)
	}
	return k.Reading().Text(), nil
}

// whoami names who runs the command, for the record.
func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// writable refuses what a reading keyring must not do.
func writable(st *store.Store) error {
	if err := st.Keyring().Complete(); err != nil {
		return &control.RefusedError{Err: err, Hint: "take the complete keyring: a reading one writes nothing"}
	}
	return nil
}
