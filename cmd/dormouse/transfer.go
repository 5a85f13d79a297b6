package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/durable"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
	"github.com/dormouse-mcp/dormouse/journal"
)

// exportKeyFlag names the key of the encrypted form.
type exportKeyFlag struct {
	ExportKeyFile string `help:"Key of the encrypted form: 32 bytes in hexadecimal or base64. The environment's DORMOUSE_EXPORT_KEY may hold the key itself." placeholder:"FILE"`
}

func (f *exportKeyFlag) key() ([]byte, error) {
	const hint = "make one with `openssl rand -hex 32 > export.key`, and keep it apart from the export"
	if f.ExportKeyFile != "" {
		key, err := daemon.ReadExportKey(f.ExportKeyFile)
		if err != nil {
			return nil, console.Usage(err, hint)
		}
		return key, nil
	}
	text := os.Getenv("DORMOUSE_EXPORT_KEY")
	if text == "" {
		return nil, console.Usage(errors.New("the encrypted form needs a key: --export-key-file or DORMOUSE_EXPORT_KEY"), hint)
	}
	key, err := daemon.ParseExportKey([]byte(text))
	if err != nil {
		return nil, console.Usage(errors.Join(errors.New("DORMOUSE_EXPORT_KEY"), err), hint)
	}
	return key, nil
}

// engineFlags are what a daemon would have been told. On a stopped folder the command must be.
type engineFlags struct {
	timeout              time.Duration
	maxSessions, perEach int
	policy               n8n.Policy
	log                  zerolog.Logger
}

// connectTransfer is connect for moving sessions in and out. On a stopped folder it runs an engine of its own.
func (f *storeFlags) connectTransfer(ctx context.Context, s console.Streams, ef engineFlags) (*control.Client, func(), error) {
	c, err := control.Connect(ctx, f.Data)
	if err == nil {
		return c, func() {}, nil
	}
	if !errors.Is(err, control.ErrNoDaemon) {
		return nil, nil, err
	}
	return openStoppedWith(ctx, f, s, func(st *store.Store, b *control.Backend) (func(), error) {
		if err := writable(st); err != nil {
			return nil, hinted(err, f.Data)
		}
		e, err := ef.engine(st) //nolint:contextcheck // it ends with the command
		if err != nil {
			return nil, err
		}
		b.Transfer = daemon.TransferOf(e)
		return func() { _ = e.Shutdown(context.WithoutCancel(ctx)) }, nil
	})
}

func (ef *engineFlags) engine(st *store.Store) (*engine.Engine, error) {
	return engine.New(engine.Options{
		Replica: journal.ReplicaID((&serveCmd{}).replica()), Appender: st.Committer, Table: st.Follower, Vault: st.Vault,
		SessionTimeout: ef.timeout, MaxSessions: ef.maxSessions, MaxPerTenant: ef.perEach, Logger: ef.log,
		ValidateContext: ef.policy.Validate, Identify: durable.ImportIdentity(st.Keyring().Name),
	})
}
