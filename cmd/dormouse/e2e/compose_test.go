//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// composition is deploy/compose.yaml, as far as a test can start it without containers: every service as a process on
// loopback, with the command and the environment that the file gives it and its host names turned into ports.
type composition struct {
	Services map[string]composeService
}

type composeService struct {
	Image       string
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	Secrets     []string
	DependsOn   any `yaml:"depends_on"`
}

// readCompose reads the file with the variables filled in. What is missing is what the file itself calls required.
func readCompose(t *testing.T, env map[string]string) composition {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(shared.root, "deploy", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\$\{([A-Z_]+)(?::([?-])([^}]*))?\}`)
	text := variable.ReplaceAllStringFunc(string(data), func(m string) string {
		part := variable.FindStringSubmatch(m)
		if v, ok := env[part[1]]; ok {
			return v
		}
		if part[2] != "-" {
			t.Fatalf("%s: not given", m)
		}
		return part[3]
	})
	var c composition
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	return c
}

// hosts turns the file's host names and ports into loopback ports, each a free one.
type hosts struct {
	t     *testing.T
	ports map[string]int
}

// addr is the loopback address for HOST:PORT.
func (h *hosts) addr(host string) string {
	if h.ports[host] == 0 {
		h.ports[host] = freePort(h.t)
	}
	return fmt.Sprintf("127.0.0.1:%d", h.ports[host])
}

var composeHost = regexp.MustCompile(`\b((?:nats|dormouse)-[0-9]|n8n-mcp):([0-9]+)\b`)

func (h *hosts) rewrite(value string) string {
	return composeHost.ReplaceAllStringFunc(value, h.addr)
}

// own is where a service listens inside its container.
var own = regexp.MustCompile(`^(?:0\.0\.0\.0|127\.0\.0\.1|\*):([0-9]+)$`)

// environment is a service's, with its addresses turned into loopback ones and its secrets into files.
func (h *hosts) environment(name string, s composeService, replace map[string]string) []string {
	var env []string
	for _, k := range slices.Sorted(maps.Keys(s.Environment)) {
		v := s.Environment[k]
		if m := own.FindStringSubmatch(v); m != nil {
			v = h.addr(name + ":" + m[1])
		} else {
			v = h.rewrite(v)
		}
		for from, to := range replace {
			v = strings.ReplaceAll(v, from, to)
		}
		env = append(env, k+"="+v)
	}
	return env
}
