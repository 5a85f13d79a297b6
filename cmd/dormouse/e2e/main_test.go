//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// suite is what the tests share: built once, read only.
type suite struct {
	root   string // of the repository
	binary string // dormouse, built from it
	node   string // the Node binary
	node22 string // another one, which the conformance suite wants
	npm    string // the folder with client.mjs and node_modules
}

var shared suite

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dormouse-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

func prepare(dir string) (err error) {
	if shared.root, err = filepath.Abs("../../.."); err != nil {
		return err
	}
	shared.npm = filepath.Join(shared.root, ".ci", "e2e")
	if shared.node, err = exec.LookPath("node"); err != nil {
		return fmt.Errorf("%w: install Node 20 or newer", err)
	}
	if _, err := os.Stat(filepath.Join(shared.npm, "node_modules")); err != nil {
		return fmt.Errorf("%w: run npm ci in .ci/e2e, or bash .ci/run e2e", err)
	}
	if shared.node22, err = findNode22(shared.npm, shared.node); err != nil {
		return err
	}
	shared.binary = filepath.Join(dir, "dormouse")
	ctx, cancel := context.WithTimeout(context.Background(), 3*hung)
	defer cancel()
	args := []string{"build", "-o", shared.binary}
	if os.Getenv("E2E_RACE") != "" { // slower; checkLog then finds data races
		args = append(args, "-race")
	}
	build := exec.CommandContext(ctx, "go", append(args, "./cmd/dormouse")...)
	build.Dir = shared.root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building dormouse: %w\n%s", err, out)
	}
	return nil
}

var errTimeout = errors.New("timed out")

// hung is a wait that nothing takes that works, however busy the machine is. No test waits for less.
const hung = 3 * time.Minute

// eventually calls ok until it returns nil, and fails the test with its last error after the limit.
func eventually(t *testing.T, limit time.Duration, what string, ok func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errTimeout)
	defer cancel()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// pause waits, or returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
