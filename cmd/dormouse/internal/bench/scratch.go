package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// When an embedded server syncs its store to disk: before every acknowledgement, as `dormouse serve` has
// it, or every two minutes, as a NATS server has it that nobody told otherwise.
const (
	SyncAlways  = "always"
	SyncDefault = "default"
)

// scratch is an embedded server on a folder of its own, which goes with it; or streams on a cluster.
type scratch struct {
	dir      string
	sync     string
	replicas int // of each stream; 0 = 1
	nc       *nats.Conn
	stop     func()
}

func newScratch(sync string) (*scratch, error) {
	dir, err := os.MkdirTemp("", "dormouse-bench-")
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: dir, sync: sync}
	if err := s.start(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// newShared returns a connection to a cluster as a scratch. It has no folder, and its streams stay.
func newShared(c *cluster) (*scratch, error) {
	nc, err := jetstream.Connect(c.url, jetstream.ConnectOptions{Name: "dormouse bench"})
	return &scratch{sync: SyncAlways, replicas: clusterServers, nc: nc}, err
}

func (s *scratch) start() error {
	var err error
	switch s.sync {
	case SyncAlways:
		err = s.startAlways()
	case SyncDefault:
		err = s.startDefault()
	default:
		err = fmt.Errorf("sync %q: want %s or %s", s.sync, SyncAlways, SyncDefault)
	}
	return err
}

func (s *scratch) startAlways() error {
	srv, err := jetstream.StartServer(jetstream.ServerOptions{Dir: s.dir})
	if err != nil {
		return err
	}
	s.stop = srv.Shutdown
	s.nc, err = srv.Connect()
	return err
}

// startDefault starts the same server as jetstream.StartServer does, without its sync.
func (s *scratch) startDefault() error {
	srv, err := server.NewServer(&server.Options{
		ServerName: "dormouse", DontListen: true, NoSigs: true, JetStream: true, StoreDir: s.dir,
	})
	if err != nil {
		return err
	}
	srv.Start()
	s.stop = func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
	if !srv.ReadyForConnections(time.Minute) {
		return errors.New("the embedded server is not ready after a minute")
	}
	s.nc, err = nats.Connect("", nats.InProcessServer(srv))
	return err
}

// restart closes the server and opens its store again, as after a restart of the daemon.
func (s *scratch) restart() error {
	s.halt()
	return s.start()
}

func (s *scratch) halt() {
	if s.nc != nil {
		s.nc.Close()
		s.nc = nil
	}
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

func (s *scratch) close() {
	s.halt()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // it is in the folder for temporary files
	}
}

// journal opens the journal of that prefix, made if need be.
func (s *scratch) journal(ctx context.Context, prefix string) (*jetstream.Journal, error) {
	return jetstream.Open(ctx, s.nc, jetstream.Options{Prefix: prefix, Replicas: s.replicas, Create: true})
}

// stream makes a plain stream with the settings of a journal's, and returns a client and the subject.
func (s *scratch) stream(ctx context.Context, name string, o ...js.JetStreamOpt) (js.JetStream, string, error) {
	client, err := js.New(s.nc, o...)
	if err != nil {
		return nil, "", err
	}
	_, err = client.CreateStream(ctx, js.StreamConfig{
		Name: name, Subjects: []string{name + ".>"}, Storage: js.FileStorage, Replicas: s.replicas,
	})
	return client, name + ".event", err
}
