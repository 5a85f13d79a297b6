package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// clustered reports whether the embedded server is one of several.
func (s *Store) clustered() bool { return s.o.Cluster.Name != "" && s.o.NATSURL == "" }

// joinCluster makes a server one of a cluster, whose members prove to one another that they have the keyring.
func (s *Store) joinCluster(o *jetstream.ServerOptions) error {
	ring, err := s.earlyKeys()
	if err != nil {
		return err
	}
	if err := ring.Complete(); err != nil {
		return err
	}
	a, b := ring.Name("cluster-tls", "1"), ring.Name("cluster-tls", "2")
	both, client, err := replicas.TLS(append(a[:], b[:]...))
	if err != nil {
		return err
	}
	both.NextProtos, both.InsecureSkipVerify = nil, client.InsecureSkipVerify // both ends want the very key
	o.Name, o.Mend, o.Cluster = cmp.Or(string(s.o.Replica), "dormouse"), false, s.o.Cluster
	o.Cluster.TLS = both
	return nil
}

// earlyKeys loads the keyring before there is a journal: without it the members of a cluster do not speak.
func (s *Store) earlyKeys() (*seal.Keyring, error) {
	if s.o.Keys != "" {
		return ParseEnvironment(s.o.Keys)
	}
	k, err := seal.Load(s.o.KeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the servers of a cluster need the same key file before they start, and there is no %s", ErrNoKeys, s.o.KeyFile)
	}
	return k, err
}

// electionPatience is how long the start waits for a NATS of the operator's that does not answer.
const electionPatience = time.Minute

// patiently repeats a step of a daemon's start while the stream's servers hold an election, or are not there yet: for ever
// where they are this one and its like.
func (s *Store) patiently(ctx context.Context, step func(context.Context) error) error {
	began, told := time.Now(), false
	for {
		err := step(ctx)
		if !errors.Is(err, journal.ErrUnavailable) || !s.Remote() || !s.o.Create || !s.clustered() && time.Since(began) > electionPatience {
			return err
		}
		if !told && time.Since(began) > 2*time.Second {
			told = true
			s.o.Logger.Warn().Err(err).Msg("waiting for a majority of the stream's servers")
		}
		timer := time.NewTimer(250 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// handOver lets other servers of the cluster lead, before this one stops.
func (s *Store) handOver(ctx context.Context) {
	if s.server == nil || !s.clustered() || s.Journal == nil || s.Follower == nil {
		return
	}
	if err := s.Journal.HandOver(ctx, cmp.Or(string(s.o.Replica), "dormouse")); err != nil {
		s.o.Logger.Info().Err(err).Msg("the others will hold an election")
	}
}
