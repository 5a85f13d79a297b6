package store

import (
	"errors"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Options says where a store is.
type Options struct {
	Dir     string // the data folder
	KeyFile string // the keyring; empty = <Dir>/keys
	Keys    string // the keyring's text itself, which then is in no file; wins over KeyFile

	// NoKeys opens the store without any keyring: nothing can be opened or restored, headers can be verified.
	NoKeys bool

	// Create allows to make what is not there yet: folder, keyring and journal. Only a daemon does.
	Create bool

	// AcceptLoss allows to go on without what is lost, once it has been recorded. Only an operator decides that.
	AcceptLoss bool

	// NATSURL leads to a NATS server with JetStream; empty = the embedded one.
	NATSURL      string
	NATSCreds    string   // credentials file; empty = none
	NATSNKey     string   // file with an nkey's seed; empty = none
	NATSCA       string   // file of the authorities that signed the servers' certificates; empty = the system's
	NATSCert     string   // client certificate and its key, files; empty = none
	NATSCertKey  string   //
	NATSMonitors []string // URLs of servers' monitoring ports, where sync_interval is told
	Replicas     int      // of the streams, where they are made; 0 = 1
	Prefix       string   // of streams and subjects; empty = "dormouse"

	// Cluster, if it has a name, makes the embedded server one of several. Its TLS is derived from the keyring.
	Cluster jetstream.ClusterOptions

	// MinFree is how many bytes of the disk the embedded server's appends leave free. 0 = jetstream.DefaultMinFree,
	// negative = none.
	MinFree int64

	// Replica is named in what the store journals by itself; empty = none.
	Replica journal.ReplicaID
	// KeysFound is called when a batch under a key that was not known made the store read the key file again, and
	// the key was there: Reload should follow. It must not wait; nil = none.
	KeysFound func()

	// Seen is told of each batch that was folded after the restore; own says that this store wrote it. It must not wait;
	// nil = none.
	Seen func(own bool, events []journal.Event)

	Logger   zerolog.Logger
	Observer commit.Observer       // nil = none
	Progress func(replay.Progress) // of the restore; nil = none
}

func (o *Options) fill() error {
	if o.Dir == "" {
		return errors.New("store: no data folder named")
	}
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(o.Dir, "keys")
	}
	return nil
}
