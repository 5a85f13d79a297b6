package stdio

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/mattn/go-shellwords"
	"github.com/rs/zerolog"
)

// Options configures New. Command must be set.
type Options struct {
	Command []string // program and arguments, started without a shell

	// Env adds to a child's environment: "NAME" is taken over from this process's own if it is there,
	// "NAME=VALUE" is set. The session's context has the last word.
	Env []string

	MaxChildren  int           // alive at a time; 0 = 100
	MaxStarting  int           // started and not yet initialized at a time; 0 = twice the processors
	StartTimeout time.Duration // from the start to the answer to initialize; also for a place; 0 = 1 min

	// IdleAfter is how long a child without a request under way is kept, be there a GET stream or not; 0 = 5 min.
	// One whose session is subscribed to a resource is kept for as long as the session is live.
	IdleAfter time.Duration

	StopGrace  time.Duration // between closing stdin and SIGTERM, and between that and SIGKILL; 0 = 2 s
	MaxMemory  int64         // bytes of memory of its own that a child has with all that it starts; 0 = no limit
	MaxMessage int           // bytes of one message of a child; 0 = 64 MiB

	Logger zerolog.Logger
}

func (o *Options) complete() error {
	if len(o.Command) == 0 || o.Command[0] == "" {
		return errors.New("stdio options: Command must be set")
	}
	for name, n := range map[string]int64{
		"MaxChildren": int64(o.MaxChildren), "MaxStarting": int64(o.MaxStarting), "StartTimeout": int64(o.StartTimeout),
		"IdleAfter": int64(o.IdleAfter), "StopGrace": int64(o.StopGrace), "MaxMemory": o.MaxMemory, "MaxMessage": int64(o.MaxMessage),
	} {
		if n < 0 {
			return fmt.Errorf("stdio options: %s is negative", name)
		}
	}
	for _, e := range o.Env {
		if name, _, _ := strings.Cut(e, "="); name == "" || strings.ContainsAny(e, "\x00") {
			return errors.New("stdio options: Env: want NAME or NAME=VALUE")
		}
	}
	if o.MaxMemory > 0 && !canMeasure {
		return fmt.Errorf("stdio options: MaxMemory cannot be kept on %s", runtime.GOOS)
	}
	fill(&o.MaxChildren, 100)
	fill(&o.MaxStarting, 2*runtime.GOMAXPROCS(0))
	fill(&o.StartTimeout, time.Minute)
	fill(&o.IdleAfter, 5*time.Minute)
	fill(&o.StopGrace, 2*time.Second)
	fill(&o.MaxMessage, 64<<20)
	return nil
}

func fill[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// ParseCommand splits a command line into words as a shell does: at spaces, with quotes and backslashes. Nothing is
// expanded, and what a shell would do beyond that (pipes, redirections, several commands) is refused.
func ParseCommand(line string) ([]string, error) {
	p := shellwords.NewParser()
	p.ParseEnv, p.ParseBacktick = false, false
	words, err := p.Parse(line)
	switch {
	case err != nil:
		return nil, fmt.Errorf("command %q: %w", line, err)
	case p.Position >= 0:
		return nil, fmt.Errorf("command %q: there is no shell: quote %q", line, string([]rune(line)[p.Position]))
	case len(words) == 0 || words[0] == "":
		return nil, errors.New("command: empty")
	}
	return words, nil
}

// Find returns the path of a command's program. The error says where it was looked for.
func Find(command []string) (string, error) {
	if len(command) == 0 {
		return "", errors.New("command: empty")
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return "", fmt.Errorf("upstream command: %w", err)
	}
	return path, nil
}
