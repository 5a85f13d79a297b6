package jetstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// ServerOptions configures an embedded server. Dir must be set.
type ServerOptions struct {
	// Dir is the data folder, made if it is not there. The server keeps its store in Dir/jetstream and its
	// lock in Dir/lock.
	Dir string
	// Name of the server. Empty means "dormouse".
	Name string
	// StartTimeout bounds the start; recovery of a large store takes seconds. 0 means one minute.
	StartTimeout time.Duration
	// Logger gets the server's own messages.
	Logger zerolog.Logger
}

func (o *ServerOptions) fill() error {
	if o.Dir == "" {
		return errors.New("jetstream: no data folder")
	}
	if o.StartTimeout < 0 {
		return errors.New("jetstream: negative start timeout")
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = time.Minute
	}
	if o.Name == "" {
		o.Name = "dormouse"
	}
	return nil
}

// Server is a NATS server in this process, with JetStream and without any listener: only [Server.Connect]
// reaches it. Every message is synced to disk before it is acknowledged.
type Server struct {
	nats   *server.Server
	lock   *flock.Flock
	logger *natsLogger
	stop   sync.Once
}

// StartServer locks the data folder and starts a server on it. It fails with ErrLocked while another
// process uses the folder. The caller calls Shutdown.
func StartServer(o ServerOptions) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, logger: &natsLogger{log: o.Logger}}
	if err := s.start(o); err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(o ServerOptions) error {
	n, err := server.NewServer(&server.Options{
		ServerName: o.Name,
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   o.Dir, // the server appends "jetstream"
		SyncAlways: true,
	})
	if err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	s.nats = n
	n.SetLoggerV2(s.logger, false, false, false)
	n.Start() // returns when the store has been recovered
	if err := s.logger.failure(); err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	if !n.ReadyForConnections(o.StartTimeout) || !n.JetStreamEnabled() {
		return fmt.Errorf("embedded server: not ready after %v", o.StartTimeout)
	}
	return nil
}

// Connect opens a connection to the server. The caller closes it, before Shutdown.
func (s *Server) Connect() (*nats.Conn, error) {
	o := ConnectOptions{Name: "dormouse", Logger: s.logger.log}
	return o.connect(nats.DefaultURL, nats.InProcessServer(s.nats))
}

// Shutdown stops the server, waits for it and unlocks the data folder. Close what uses it first: the
// committer (which flushes), then readers, then connections. Only the first call does anything.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		if s.nats != nil {
			s.nats.Shutdown()
			s.nats.WaitForShutdown()
		}
		if err := s.lock.Unlock(); err != nil {
			s.logger.log.Error().Err(err).Msg("data folder not unlocked")
		}
	})
}

// lockFolder takes the folder's lock, which ends with the process at the latest.
func lockFolder(dir string) (*flock.Flock, error) {
	path := filepath.Join(dir, "lock")
	lock := flock.New(path, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s is used by %s: stop it, or choose another folder", ErrLocked, dir, lockOwner(path))
	}
	// The owner's number is for people: the lock itself is the kernel's.
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data folder: %w", err), lock.Unlock())
	}
	return lock, nil
}

func lockOwner(path string) string {
	pid, err := os.ReadFile(path)
	if s := strings.TrimSpace(string(pid)); err == nil && s != "" {
		return "process " + s
	}
	return "another process"
}
