package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	js "github.com/nats-io/nats.go/jetstream"
)

// clusterServers is how many NATS servers a cluster has, and each stream replicas.
const clusterServers = 3

// cluster is three NATS servers, each a process of this binary, that sync before they acknowledge.
type cluster struct {
	url     string // of all servers, comma-separated
	servers []*child
}

// startCluster starts it on folders below dir and returns once it takes streams.
func startCluster(ctx context.Context, dir string) (_ *cluster, err error) {
	c := new(cluster)
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	addresses := make([]string, 3*clusterServers)
	for i := range addresses {
		if addresses[i], err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	clients, routes, monitors := addresses[:clusterServers], addresses[clusterServers:2*clusterServers], addresses[2*clusterServers:]
	c.url = "nats://" + strings.Join(clients, ",nats://")
	for i := range clusterServers {
		conf := fmt.Sprintf("server_name: n%d\nlisten: %q\nhttp: %q\njetstream { store_dir: %q, sync_interval: always }\n"+
			"cluster { name: bench, listen: %q, no_advertise: true, routes: [\"nats://%s\"] }\n",
			i, clients[i], monitors[i], filepath.Join(dir, "nats"+strconv.Itoa(i)), routes[i], strings.Join(routes, `", "nats://`))
		path := filepath.Join(dir, fmt.Sprintf("nats%d.conf", i))
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			return nil, err
		}
		s, err := start(ctx, "bench", "part", "--nats", path)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, s)
	}
	for i, s := range c.servers {
		if err := s.ready(ctx, "http://"+monitors[i]+"/healthz", 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// cpu returns the servers' processor time so far.
func (c *cluster) cpu() (sum time.Duration) {
	for _, s := range c.servers {
		sum += s.cpu()
	}
	return sum
}

func (c *cluster) stop() {
	for _, s := range c.servers {
		s.stop()
	}
}

// clear removes all streams.
func (c *cluster) clear(ctx context.Context) error {
	s, err := newShared(c)
	if err != nil {
		return err
	}
	defer s.close()
	client, err := js.New(s.nc)
	if err != nil {
		return err
	}
	names := client.StreamNames(ctx)
	for name := range names.Name() {
		err = errors.Join(err, client.DeleteStream(ctx, name))
	}
	return errors.Join(err, names.Err())
}

// partNATS is one of the servers of a cluster, until ctx ends.
func partNATS(ctx context.Context, config string) error {
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	o.NoSigs = true
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("the NATS server is not ready after a minute")
	}
	<-ctx.Done()
	return nil
}
