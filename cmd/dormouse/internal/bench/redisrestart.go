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
	"syscall"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// WayRedisRestart is redis-server's restart from its own snapshot of as many keys of 300 bytes.
const WayRedisRestart = "redis-server, restart from its RDB file"

// saved is a redis-server's folder with a snapshot in it.
type saved struct {
	path, dir string
}

// saveRedis fills a redis-server and lets it save.
func saveRedis(ctx context.Context, dir string, keys int) (*saved, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server %w", errAbsent)
	}
	r := &saved{path: path, dir: filepath.Join(dir, "redis-rdb")}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	c, conn, err := r.start(ctx)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	defer conn.Close()
	if err := fillRedis(conn, keys); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprint(conn, "*1\r\n$4\r\nSAVE\r\n"); err != nil {
		return nil, err
	}
	answer, err := conn.in.ReadString('\n')
	if err == nil && answer != "+OK\r\n" {
		err = errors.New("redis: " + answer)
	}
	return r, err
}

// fillRedis sets keys of 300 bytes, without waiting for each answer.
func fillRedis(conn *redisConn, keys int) error {
	failed := make(chan error, 1)
	go func() {
		for range keys {
			answer, err := conn.in.ReadSlice('\n')
			if err == nil && string(answer) != "+OK\r\n" {
				err = errors.New("redis: " + string(answer))
			}
			if err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	values, out := newPlainEvents(), bufio.NewWriterSize(conn, 1<<16)
	for range keys {
		value := values.event()
		// Sixteen bytes, as a ref has.
		fmt.Fprintf(out, "*3\r\n$3\r\nSET\r\n$32\r\n%s\r\n$%s\r\n%s\r\n", journal.NewSessionID().Ref(), strconv.Itoa(len(value)), value)
	}
	return errors.Join(out.Flush(), <-failed)
}

// start returns when the server answers, which is when it has loaded everything.
func (r *saved) start(ctx context.Context) (*child, *redisConn, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, r.path, //nolint:gosec // redis-server, from the operator's own path
		"--bind", host, "--port", port, "--dir", r.dir, "--save", "", "--daemonize", "no", "--appendonly", "no")}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.run(); err != nil {
		return nil, nil, err
	}
	conn, err := dialRedis(ctx, address)
	for err == nil {
		var answer string
		if _, err = fmt.Fprint(conn, "*1\r\n$4\r\nPING\r\n"); err == nil {
			answer, err = conn.in.ReadString('\n')
		}
		if err == nil && answer == "+PONG\r\n" {
			return c, conn, nil
		}
		time.Sleep(time.Millisecond) // it is loading
	}
	c.stop()
	return nil, nil, fmt.Errorf("redis-server: %w\n%s", err, c.log.String())
}

// restart measures from exec to the first answer.
func (r *saved) restart(ctx context.Context) (s Sample, err error) {
	began := time.Now()
	c, conn, err := r.start(ctx)
	if err != nil {
		return s, err
	}
	s = Sample{Elapsed: time.Since(began), CPU: c.cpu()}
	_ = conn.Close()
	c.stop()
	return s, nil
}
