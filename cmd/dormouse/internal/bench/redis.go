package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// redis stores each event by a SET of its own, one connection a caller. It syncs its append-only file
// before it answers; where the streams sync by default, once a second, which is redis's own default.
type redis struct {
	*plainEvents

	proc  *child
	conns []*redisConn
}

type redisConn struct {
	net.Conn
	in      *bufio.Reader
	request []byte
}

func openRedis(ctx context.Context, s *scratch, callers int) (appender, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server %w", errAbsent)
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	r := &redis{plainEvents: newPlainEvents()}
	if r.proc, err = startRedis(ctx, path, filepath.Join(s.dir, "redis"), address, s.sync); err != nil {
		return nil, err
	}
	for range callers {
		c, err := dialRedis(ctx, address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w\n%s", err, r.proc.log.String()), r.close(ctx))
		}
		r.conns = append(r.conns, c)
	}
	return r, nil
}

func startRedis(ctx context.Context, path, dir, address, sync string) (*child, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	fsync := "always"
	if sync == SyncDefault {
		fsync = "everysec"
	}
	c := &child{cmd: exec.CommandContext(ctx, path, //nolint:gosec // redis-server, from the operator's own path
		"--bind", host, "--port", port, "--dir", dir, "--save", "", "--daemonize", "no",
		"--appendonly", "yes", "--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0")}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c, c.run()
}

// dialRedis connects, and waits for a server that is still starting.
func dialRedis(ctx context.Context, address string) (*redisConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return &redisConn{Conn: conn, in: bufio.NewReader(conn)}, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (r *redis) append(_ context.Context, caller int) (int, error) {
	return 1, r.conns[caller].set(journal.NewSessionID().Ref().String(), r.event())
}

func (c *redisConn) set(key string, value []byte) error {
	b := append(c.request[:0], "*3\r\n$3\r\nSET\r\n$"...)
	b = append(strconv.AppendInt(b, int64(len(key)), 10), "\r\n"...)
	b = append(append(b, key...), "\r\n$"...)
	b = append(strconv.AppendInt(b, int64(len(value)), 10), "\r\n"...)
	c.request = append(append(b, value...), "\r\n"...)
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	answer, err := c.in.ReadSlice('\n')
	if err == nil && string(answer) != "+OK\r\n" {
		err = fmt.Errorf("redis: %s", strings.TrimSpace(string(answer)))
	}
	return err
}

func (*redis) settle(context.Context) error { return nil }

func (r *redis) cpu() time.Duration { return r.proc.cpu() }

func (r *redis) close(context.Context) error {
	for _, c := range r.conns {
		_ = c.Close() // the measurement is over
	}
	r.proc.stop()
	return nil
}
