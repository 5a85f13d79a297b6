package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ClusterOptions make embedded servers in several processes one JetStream cluster. All of them have the same Name and
// Peers, and each a ServerOptions.Name of its own.
type ClusterOptions struct {
	Name   string
	Listen string   // host:port for the other servers
	Peers  []string // host:port of all servers, this one's may be among them
	// TLS is both ends' configuration; nil = connections are neither encrypted nor authenticated.
	TLS *tls.Config
}

func (o *ClusterOptions) validate() error {
	if strings.ContainsAny(o.Name, " \t\n") || o.Name == "" {
		return fmt.Errorf("cluster name %q: %w", o.Name, ErrOptions)
	}
	if len(o.Peers) < 3 {
		return fmt.Errorf("cluster of %d servers: %w: a cluster needs three, so that two are a majority when one is down", len(o.Peers), ErrOptions)
	}
	for _, address := range append([]string{o.Listen}, o.Peers...) {
		if _, _, err := split(address); err != nil {
			return err
		}
	}
	return nil
}

func split(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("cluster address %q: %w: want HOST:PORT", address, ErrOptions)
	}
	if port, err = strconv.Atoi(text); err != nil || port <= 0 || port > 65535 {
		return "", 0, fmt.Errorf("cluster address %q: %w: want HOST:PORT", address, ErrOptions)
	}
	return host, port, nil
}

// apply puts them into a server's options; they are valid. A server that does not listen for clients does not look for its
// cluster either: it listens on loopback, for those who know the password, which nobody else does.
func (o *ClusterOptions) apply(to *server.Options, password string) {
	if o.Name == "" {
		return
	}
	to.DontListen, to.Host, to.Port = false, "127.0.0.1", server.RANDOM_PORT
	to.Username, to.Password = clusterUser, password
	to.Cluster.NoAdvertise = true
	to.Cluster.Name, to.Cluster.TLSConfig = o.Name, o.TLS
	to.Cluster.Host, to.Cluster.Port, _ = split(o.Listen)
	if o.TLS != nil {
		to.Cluster.TLSTimeout = 5
	}
	for _, p := range o.Peers {
		to.Routes = append(to.Routes, &url.URL{Scheme: "nats-route", Host: p})
	}
}

const clusterUser = "dormouse"

// clustered reports whether the server is one of several.
func (s *Server) clustered() bool { return s.o.Cluster.Name != "" }

// Guard returns what watches the disk under the streams. In a cluster the servers watch one another: only room is asked
// for there.
func (s *Server) Guard() Guard {
	if s.clustered() {
		return admission{s}
	}
	return s
}

type admission struct{ s *Server }

func (a admission) Admit(n int) error { return a.s.room(int64(n)) }
func (a admission) Trust() error      { return nil }

// handOverPatience bounds how long a server that stops waits for another one to lead its streams.
const handOverPatience = 3 * time.Second

// HandOver lets another server of the cluster lead this server's streams, as far as that is possible soon, so that
// nobody has to wait for an election when it stops. Call it before the connections are closed.
func (j *Journal) HandOver(ctx context.Context, server string) error {
	ctx, cancel := context.WithTimeout(ctx, handOverPatience)
	defer cancel()
	var errs []error
	for _, name := range []string{"BATCHES", "KEYS", "MARKS", "SNAPSHOTS"} {
		errs = append(errs, j.handOver(ctx, strings.ToUpper(j.prefix)+"_"+name, server))
	}
	return errors.Join(errs...)
}

func (j *Journal) handOver(ctx context.Context, stream, server string) error {
	leads := func() (bool, error) {
		s, err := j.js.Stream(ctx, stream)
		if err != nil {
			return false, askError(ctx, "hand over", err)
		}
		c := s.CachedInfo().Cluster
		return c != nil && c.Leader == server, nil
	}
	mine, err := leads()
	if err != nil || !mine {
		return err
	}
	if _, err := j.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil); err != nil {
		return fmt.Errorf("hand over %s: %w", stream, err)
	}
	for {
		if mine, err := leads(); err == nil && !mine {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
