//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/httptests"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

// conformanceServer is a server that the suite is run against, with the protocol versions that it speaks.
type conformanceServer struct {
	name   string
	doc    string                                      // its name in docs/conformance.md
	start  func(t *testing.T) (direct, gateway string) // URLs of two servers alike, one of them behind a gateway
	passes []pass
}

// Names of servers in docs/conformance.md.
const (
	docGo         = "Go SDK's everything-server, with sessions"
	docStateless  = "the same, without sessions"
	docNext       = "TypeScript SDK 2, a server with one tool"
	docEverything = "`server-everything` from npm"
	docBuiltIn    = "the built-in n8n tools"
)

func conformanceServers() []conformanceServer {
	withSessions := []pass{{release01, ""}, {release02, "2025-03-26"}, {release02, "2025-06-18"}, {release02, "2025-11-25"}}
	return []conformanceServer{
		{"go", docGo, goEverythingTwice("-stateless=false"), append(withSessions, pass{release02, "2026-07-28"})},
		{"go, stateless", docStateless, goEverythingTwice("-stateless=true"), []pass{{release01, ""}, {release02, "2025-06-18"}, {release02, "2025-11-25"}, {release02, "2026-07-28"}, {release02, ""}}},
		{"typescript 2", docNext, func(t *testing.T) (string, string) {
			t.Helper()
			return startNext(t).url(), startGateway(t, "--upstream", startNext(t).url()).url()
		}, []pass{{release02, "2025-11-25"}, {release02, "2026-07-28"}}},
		{"server-everything", docEverything, func(t *testing.T) (string, string) {
			t.Helper()
			return startEverything(t).url(), startGateway(t, "--upstream", startEverything(t).url()).url()
		}, withSessions},
		{"built-in", docBuiltIn, func(t *testing.T) (string, string) {
			t.Helper()
			return startBuiltIn(t), startGateway(t).url()
		}, withSessions},
	}
}

func goEverythingTwice(args ...string) func(t *testing.T) (string, string) {
	return func(t *testing.T) (string, string) {
		t.Helper()
		return startGoEverything(t, args...).url(), startGateway(t, "--upstream", startGoEverything(t, args...).url()).url()
	}
}

const goEverything = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"

// buildGoEverything builds the Go SDK's conformance server, of the version that go.mod names, when it is asked first.
func buildGoEverything(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(filepath.Dir(shared.binary), "go-everything")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	runIn(t, 5*time.Minute, shared.root, nil, "go", "build", "-o", binary, goEverything).must(t)
	return binary
}

// startGoEverything starts it. An unknown session gets 404 from it.
func startGoEverything(t *testing.T, args ...string) *upstream {
	t.Helper()
	u := &upstream{t: t, port: freePort(t), log: filepath.Join(t.TempDir(), "go-everything.log")}
	u.argv = append([]string{buildGoEverything(t), fmt.Sprintf("-http=127.0.0.1:%d", u.port)}, args...)
	u.probe = func(ctx context.Context) error { return answers(ctx, u.url()) }
	u.start()
	return u
}

// startBuiltIn serves the built-in server with the Go SDK's own handler, without a gateway.
func startBuiltIn(t *testing.T) string {
	t.Helper()
	client, err := n8n.NewClient(n8n.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptests.Serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server {
		server, err := n8n.NewServer(engine.InstanceContext{}, n8n.ServerOptions{Client: client})
		if err != nil {
			t.Error(err)
		}
		return server
	}, nil))
	return srv.URL + "/mcp"
}

// findNode22 returns the Node that the suite wants, which is newer than what systems bring along: the one from npm or,
// where npm has none for this machine, the system's.
func findNode22(npm, system string) (string, error) {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	pinned := filepath.Join(npm, "node_modules", fmt.Sprintf("node-%s-%s", runtime.GOOS, arch), "bin", "node")
	if _, err := os.Stat(pinned); err == nil {
		return pinned, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, system, "-p", "process.versions.node.split('.')[0]").Output()
	if major, _ := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || major < 22 {
		return "", fmt.Errorf("%w in %s, and the system's is %s: run npm ci in .ci/e2e, or bash .ci/run e2e", errNoNode22, pinned, out)
	}
	return system, nil
}

var errNoNode22 = errors.New("no Node 22")
