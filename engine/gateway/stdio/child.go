package stdio

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// afterDeath is how long a child may live that has closed its stdout.
const afterDeath = 500 * time.Millisecond

// leftovers is how long what a dead child has left in its pipes is read, if somebody who has left its group keeps them open.
const leftovers = 3 * time.Second

var errTooLong = errors.New("a message is larger than the gateway carries")

// child is one process with all that it starts.
type child struct {
	cmd   *exec.Cmd
	group *group
	log   zerolog.Logger
	grace time.Duration
	words *lastWords

	stdin, stdout, stderr *os.File // this process's ends

	mu       sync.Mutex
	reason   error // why it was killed; the first counts
	stopping bool

	exited chan struct{} // closed when the process has been waited for and its group killed
	gone   chan struct{} // closed when everything has been read and said
}

// spec is what a child is made from.
type spec struct {
	path       string
	args, env  []string
	secrets    []string // not to be logged
	maxMessage int
	grace      time.Duration
	log        zerolog.Logger
	message    func(line []byte) // a line of stdout, valid until it returns; called by one goroutine
	died       func(error)       // called once, after the last message
}

// startChild starts a process. Everything that it holds is let go of once gone is closed.
func startChild(s *spec) (*child, error) {
	c := &child{
		log: s.log, grace: s.grace, words: newLastWords(s.log, s.secrets),
		exited: make(chan struct{}), gone: make(chan struct{}),
	}
	var theirs [3]*os.File
	err := errors.Join(
		pipe(&theirs[0], &c.stdin), pipe(&c.stdout, &theirs[1]), pipe(&c.stderr, &theirs[2]),
	)
	if err == nil {
		c.group, err = newGroup()
	}
	if err == nil {
		c.cmd = &exec.Cmd{Path: s.path, Args: s.args, Env: s.env, Stdin: theirs[0], Stdout: theirs[1], Stderr: theirs[2]}
		c.group.join(c.cmd)
		if err = c.cmd.Start(); err != nil {
			c.group.end()
		}
	}
	for _, f := range theirs {
		_ = f.Close() // the child has its own
	}
	if err != nil {
		c.closePipes()
		return nil, fmt.Errorf("start %s: %w", s.args[0], err)
	}
	c.log.Debug().Int("pid", c.cmd.Process.Pid).Msg("child started")
	go c.watch(s)
	return c, nil
}

func pipe(r, w **os.File) (err error) {
	*r, *w, err = os.Pipe()
	return err
}

func (c *child) closePipes() {
	for _, f := range []*os.File{c.stdin, c.stdout, c.stderr} {
		_ = f.Close() // nothing is lost: whoever wrote has seen to it
	}
}

// watch waits for the child's end and for what it has said before.
func (c *child) watch(s *spec) {
	defer close(c.gone)
	var reading sync.WaitGroup
	reading.Go(func() { c.read(s) })
	reading.Go(func() { c.words.read(c.stderr) })
	reading.Go(c.guard)
	err := c.cmd.Wait()
	c.group.end()
	close(c.exited)
	// Somebody who has left the group may hold the pipes open.
	until := time.Now().Add(leftovers)
	_ = errors.Join(c.stdout.SetReadDeadline(until), c.stderr.SetReadDeadline(until))
	reading.Wait()
	c.closePipes()
	s.died(c.verdict(err))
}

// guard kills the child when its watcher has ended, without which it might be orphaned.
func (c *child) guard() {
	select {
	case <-c.group.lost:
		if !c.group.over() && !c.isStopping() {
			c.kill(errors.New("its watcher was killed"))
		}
	case <-c.exited:
	}
}

// read passes on what the child says.
func (c *child) read(s *spec) {
	lines := bufio.NewReaderSize(c.stdout, 64<<10)
	var long []byte
	for {
		part, err := lines.ReadSlice('\n')
		if len(long)+len(part) > s.maxMessage {
			c.kill(errTooLong)
			return
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, part...)
			continue
		case err != nil:
			c.dying(errors.New("it closed its stdout"))
			return // what is left of a line is no message
		case len(long) > 0:
			part = append(long, part...)
		}
		s.message(part)
		if long = long[:0]; cap(long) > 1<<20 {
			long = nil
		}
	}
}

// dying kills a child that is useless from now on, unless it ends by itself just now, or is being stopped.
func (c *child) dying(reason error) {
	t := time.NewTimer(afterDeath)
	defer t.Stop()
	select {
	case <-c.exited:
	case <-t.C:
		if !c.isStopping() {
			c.kill(reason)
		}
	}
}

// kill ends the child at once.
func (c *child) kill(reason error) {
	c.mu.Lock()
	if c.reason == nil {
		c.reason = reason
	}
	c.mu.Unlock()
	c.group.kill()
}

// stop ends the child with decency and waits until it is gone. Everybody may call it.
func (c *child) stop() {
	c.mu.Lock()
	first := !c.stopping
	c.stopping = true
	c.mu.Unlock()
	if first {
		_ = c.stdin.Close() // a child that has not read everything will not miss it
		if !c.within(c.grace) {
			c.group.terminate()
			if !c.within(c.grace) {
				c.log.Info().Msg("child does not end when asked to: killed")
				c.group.kill()
			}
		}
	}
	<-c.gone
}

func (c *child) within(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.exited:
		return true
	case <-t.C:
		return false
	}
}

func (c *child) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// errStopped says that a child ended because it was told to.
var errStopped = errors.New("the child was stopped")

// verdict says why the child is dead; it logs what nobody had asked for.
func (c *child) verdict(waited error) error {
	c.mu.Lock()
	reason, stopping := c.reason, c.stopping
	c.mu.Unlock()
	if stopping && reason == nil {
		c.log.Debug().Msg("child stopped")
		return errStopped
	}
	if reason == nil {
		reason = errors.New("it ended by itself")
		if waited != nil {
			reason = fmt.Errorf("it ended by itself: %w", waited)
		}
	}
	c.log.Warn().Err(reason).Str("stderr", strings.Join(c.words.last(), "\n")).Msg("child died")
	return fmt.Errorf("the child died: %w", reason)
}
