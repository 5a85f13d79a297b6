package jetstream

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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
	// MinFree is how many bytes of the disk appends leave free; see [Server.Admit]. 0 means
	// DefaultMinFree, negative means none.
	MinFree int64
	// Mend makes damaged block files readable before the server starts, and keeps them as they were in a folder
	// Dir/damaged-TIME. Without it, the start fails with a *BlockError where the server would cut them off.
	Mend bool
	// Cluster, if it has a name, makes this server one of several. Then Mend must not be set.
	Cluster ClusterOptions
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
	if o.Cluster.Name != "" {
		if err := o.Cluster.validate(); err != nil {
			return err
		}
	}
	if o.MinFree == 0 {
		o.MinFree = DefaultMinFree
	}
	return nil
}

// Server is a NATS server in this process, with JetStream and without any listener: only [Server.Connect]
// reaches it. Every message is synced to disk before it is acknowledged.
//
// Where the disk is full, or fails for a while, it heals by itself: see [Server.Admit] and [Server.Trust].
// Safe for concurrent use.
type Server struct {
	o      ServerOptions
	lock   *flock.Flock
	logger *natsLogger
	stop   sync.Once
	ending chan struct{} // closed by Shutdown

	password string // of a clustered server's clients
	repairs  sync.WaitGroup

	mended  []BlockFault // at the start
	suspect atomic.Bool  // the server reported an error that nobody has looked at

	mu      sync.Mutex
	nats    *server.Server // nil while there is none
	ended   bool
	ailing  []string // what its health was at its start; as a rule nothing
	failure error    // why its store takes nothing; nil if it does
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
	s := &Server{o: o, lock: lock, logger: &natsLogger{log: o.Logger}, ending: make(chan struct{}), password: rand.Text()}
	s.logger.onError = func() { s.suspect.Store(true) }
	if err := s.lookAtBlocks(); err != nil && !s.clustered() { // there, the others have what is damaged here
		s.Shutdown()
		return nil, err
	}
	n, err := s.start()
	if err != nil {
		s.Shutdown()
		return nil, err
	}
	s.adopt(n)
	return s, nil
}

// start starts a NATS server on the folder.
func (s *Server) start() (*server.Server, error) {
	o := &server.Options{
		ServerName:        s.o.Name,
		DontListen:        true,
		NoSigs:            true,
		JetStream:         true,
		StoreDir:          s.o.Dir, // the server appends "jetstream"
		SyncAlways:        true,
		JetStreamMaxStore: noLimit,
	}
	s.o.Cluster.apply(o, s.password)
	n, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("embedded server: %w", err)
	}
	n.SetLoggerV2(s.logger, false, false, false)
	n.Start() // returns when the store has been recovered
	err = s.logger.takeFailure()
	if err == nil && (!n.ReadyForConnections(s.o.StartTimeout) || !n.JetStreamEnabled()) {
		err = fmt.Errorf("not ready after %v", s.o.StartTimeout)
	}
	if err != nil {
		halt(n)
		return nil, fmt.Errorf("embedded server: %w", err)
	}
	return n, nil
}

// noLimit keeps the server from making up a limit of its own: three quarters of what was free when it
// started, and no more however much is freed later. Admit has a better one.
const noLimit = 1 << 50

func halt(n *server.Server) {
	n.Shutdown()
	n.WaitForShutdown()
}

// Connect opens a connection to the server. The caller closes it, before Shutdown.
func (s *Server) Connect() (*nats.Conn, error) {
	o := ConnectOptions{Name: "dormouse", Logger: s.logger.log}
	more := []nats.Option{nats.InProcessServer(dialer{s})}
	if s.clustered() {
		more = append(more, nats.UserInfo(clusterUser, s.password))
	}
	return o.connect(nats.DefaultURL, more...)
}

// dialer connects to whatever NATS server there is at the moment.
type dialer struct{ s *Server }

// InProcessConn implements nats.InProcessConnProvider.
func (d dialer) InProcessConn() (net.Conn, error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.nats == nil {
		return nil, errNotRunning
	}
	conn, err := d.s.nats.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("embedded server: %w", err)
	}
	return conn, nil
}

var errNotRunning = errors.New("the embedded server does not run")

// Shutdown stops the server, waits for it and unlocks the data folder. Close what uses it first: the
// committer (which flushes), then readers, then connections. Only the first call does anything.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		close(s.ending)
		s.repairs.Wait()
		if s.nats != nil {
			halt(s.nats)
			s.leaveClean()
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
