package store

import (
	"context"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// natsName is how the servers' operator sees a replica's connection.
func natsName(r journal.ReplicaID) string {
	if r == "" {
		return "dormouse"
	}
	return "dormouse " + string(r)
}

// askPromise asks a NATS of the operator's what it guarantees.
func (s *Store) askPromise(ctx context.Context) (err error) {
	if !s.Remote() {
		return nil
	}
	if s.promise, err = s.Journal.Promise(ctx, s.o.NATSMonitors); err == nil && s.clustered() {
		s.promise.Sync = jetstream.Sync{Asked: s.promise.Servers, Always: true} // ours are
	}
	return err
}

// Remote reports whether the journal is in a NATS that others may use too.
func (s *Store) Remote() bool { return s.server == nil || s.clustered() }

// Promise returns what a NATS of the operator's guarantees; false with the embedded server.
func (s *Store) Promise() (jetstream.Promise, bool) { return s.promise, s.Remote() }
