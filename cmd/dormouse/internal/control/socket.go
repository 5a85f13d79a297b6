package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ErrNoDaemon says that no daemon answers for the folder.
var ErrNoDaemon = errors.New("no daemon is running on this data folder")

// maxSocketPath is what a unix socket's address holds, with its terminating zero, on every system we know (macOS).
const maxSocketPath = 103

// Daemon is what a running daemon leaves in <data>/daemon.json for those who look for it.
type Daemon struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	Listen  string    `json:"listen"`
	Admin   string    `json:"admin"`
	Control string    `json:"control"` // the socket's path; elsewhere when the folder's own is too long
}

func daemonFile(dir string) string { return filepath.Join(dir, "daemon.json") }

// ReadDaemon reads what the last daemon of the folder said of itself. It may be gone since. Without a file:
// ErrNoDaemon.
func ReadDaemon(dir string) (Daemon, error) {
	var d Daemon
	data, err := os.ReadFile(daemonFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return d, ErrNoDaemon
	}
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("%s: %w", daemonFile(dir), err)
	}
	return d, nil
}

// WriteDaemon records d. Call it with the folder's lock held.
func WriteDaemon(dir string, d Daemon) error {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	temp := daemonFile(dir) + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, daemonFile(dir))
}

// RemoveDaemon takes the record and the socket away at the end of a daemon.
func RemoveDaemon(dir string, d Daemon) {
	_ = os.Remove(d.Control)
	if filepath.Dir(d.Control) != filepath.Clean(dir) {
		_ = os.Remove(filepath.Dir(d.Control))
	}
	_ = os.Remove(daemonFile(dir))
}

// Listen opens the control socket with mode 0600 and returns its path. Call it with the folder's lock held: a
// socket that is left from a crash is replaced.
func Listen(ctx context.Context, dir string) (net.Listener, string, error) {
	path, err := socketPath(dir)
	if err != nil {
		return nil, "", err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("control socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, "", fmt.Errorf("control socket: %w", err)
	}
	// The folder's mode (0700) already keeps others out between the two calls.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, "", errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return l, path, nil
}

func socketPath(dir string) (string, error) {
	abs, err := filepath.Abs(filepath.Join(dir, "control.sock"))
	if err != nil {
		return "", err
	}
	if len(abs) <= maxSocketPath {
		return abs, nil
	}
	// Too long for a socket's address: a private folder of its own; daemon.json says where.
	short, err := os.MkdirTemp("", "dormouse-")
	if err != nil {
		return "", err
	}
	return filepath.Join(short, "control.sock"), nil
}

// Connect returns a client of the daemon that runs on dir, or ErrNoDaemon.
func Connect(ctx context.Context, dir string) (*Client, error) {
	d, err := ReadDaemon(dir)
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, d.Control)
	if err != nil {
		return nil, ErrNoDaemon
	}
	_ = c.Close()
	return newClient(dialTransport(d.Control)), nil
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}
