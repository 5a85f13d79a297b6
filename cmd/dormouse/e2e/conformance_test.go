//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// release is a version of the official MCP conformance suite.
type release string

const (
	release01 release = "0.1" // 0.1.16: knows no version newer than 2025-11-25
	release02 release = "0.2" // 0.2.0-alpha.12: session lifecycle, stateless protocol, a version to speak
)

// pass is one run of the suite against one server.
type pass struct {
	release release
	version string // of the protocol; empty = the suite's own choice
}

func (p pass) String() string { return fmt.Sprintf("%s %s", p.release, cmp.Or(p.version, "all")) }

func (p pass) args() []string {
	args := []string{"--suite", "all"}
	if p.version != "" {
		args = append(args, "--spec-version", p.version)
	}
	return args
}

// check is one result of the suite.
type check struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"errorMessage"`
}

// results are the checks of a pass by scenario.
type results map[string][]check

// traces are the suite's notes on what went over the wire: no results.
func traces(id string) bool {
	return slices.Contains([]string{"outgoing-request", "incoming-response", "incoming-sse-event", "stream-closed"}, id)
}

const conformLimit = 6 * time.Minute // of a pass

// conform runs the suite against a URL. An error is one of the suite itself, or that it hangs; what it found is in the
// results. It may be called from any goroutine.
func conform(ctx context.Context, dir, url string, p pass, at *progress) (results, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, conformLimit, errTimeout)
	defer cancel()
	script := filepath.Join(shared.npm, "node_modules", "conformance-"+string(p.release), "dist", "index.js")
	cmd := exec.CommandContext(ctx, shared.node22, append([]string{script, "server", "--url", url, "-o", dir}, p.args()...)...)
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdout, cmd.Stderr = at, at
	err := cmd.Run() // it fails when any check has failed
	if ctx.Err() != nil {
		return nil, fmt.Errorf("conformance suite: %w\n%s", context.Cause(ctx), at.tail())
	}
	found, errRead := readResults(dir)
	if errRead != nil || len(found) == 0 {
		return nil, fmt.Errorf("conformance suite: %w\n%s", errors.Join(err, errRead), at.tail())
	}
	return found, nil
}

// progress takes what the suite writes, and knows which scenario is running.
type progress struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// scenarios returns those that have begun, in order; the last one is running.
func (p *progress) scenarios() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range regexp.MustCompile(`=== Running scenario: (\S+) ===`).FindAllStringSubmatch(p.out.String(), -1) {
		names = append(names, m[1])
	}
	return names
}

// running returns the scenario that has begun last.
func (p *progress) running() string {
	if all := p.scenarios(); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

func (p *progress) tail() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.out.Bytes()[max(0, p.out.Len()-4000):])
}

func readResults(dir string) (results, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "checks.json"))
	if err != nil {
		return nil, err
	}
	stamp := regexp.MustCompile(`^server-|-\d{4}-\d\d-\d\dT[-\dZ]+$`)
	found := results{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var checks []check
		if err := json.Unmarshal(data, &checks); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		name := stamp.ReplaceAllString(filepath.Base(filepath.Dir(file)), "")
		found[name] = slices.DeleteFunc(checks, func(c check) bool { return traces(c.ID) })
	}
	return found, nil
}

func (r results) count(status string) (n int) {
	for _, checks := range r {
		for _, c := range checks {
			if c.Status == status {
				n++
			}
		}
	}
	return n
}

func (r results) String() string {
	return fmt.Sprintf("%3d %3d %3d %3d", r.count("SUCCESS"), r.count("FAILURE"), r.count("WARNING"), r.count("SKIPPED"))
}

// difference is a check that came out in another way.
type difference struct {
	scenario, check string
	direct, gateway string // statuses, one for each time that the check was made; "-" = it was not
}

func (d difference) String() string {
	return fmt.Sprintf("%s: %s: %s, through the gateway %s", d.scenario, d.check, d.direct, d.gateway)
}

// compare returns where two passes differ: in a status, or in what a check that failed complains of.
func compare(direct, gateway results) (all []difference) {
	scenarios := map[string]bool{}
	for s := range direct {
		scenarios[s] = true
	}
	for s := range gateway {
		scenarios[s] = true
	}
	for s := range scenarios {
		a, b := byCheck(direct[s]), byCheck(gateway[s])
		for id := range a {
			if a[id] != b[id] {
				all = append(all, difference{s, id, a[id], cmp.Or(b[id], "-")})
			}
		}
		for id := range b {
			if a[id] == "" {
				all = append(all, difference{s, id, "-", b[id]})
			}
		}
	}
	slices.SortFunc(all, func(x, y difference) int {
		return cmp.Or(cmp.Compare(x.scenario, y.scenario), cmp.Compare(x.check, y.check))
	})
	return all
}

func byCheck(checks []check) map[string]string {
	by := map[string]string{}
	for _, c := range checks {
		said := c.Status
		if c.Status == "FAILURE" {
			said += " (" + c.Error + ")"
		}
		by[c.ID] = strings.TrimSpace(by[c.ID] + " " + said)
	}
	return by
}

// TestConformance runs the official MCP conformance suite against each server directly and through the gateway.
// Both must come out alike, check by check; what differs stands in explained, with the reason. The figures stand in
// docs/conformance.md.
func TestConformance(t *testing.T) {
	used := map[int]map[change]bool{}
	var table strings.Builder
	table.WriteString("server            suite            scenarios   direct: ok bad warn skip   gateway: ok bad warn skip   explained\n")
	for _, s := range conformanceServers() {
		direct, gateway := s.start(t)
		for _, p := range s.passes {
			a, b := both(t, p, direct, gateway)
			if doc, ok := documentedCounts(t, s.doc, p); ok && doc != counts(a, b) {
				t.Errorf("%s: %v: docs/conformance.md says %q, it is %q", s.name, p, doc, counts(a, b))
			}
			known := 0
			for _, d := range compare(a, b) {
				i := slices.IndexFunc(explained(), func(e exception) bool { return e.covers(s.name, d) })
				if i < 0 {
					t.Errorf("%s: %v: %v\n\t%v\n\t%v", s.name, p, d, a[d.scenario], b[d.scenario])
					continue
				}
				if used[i] == nil {
					used[i] = map[change]bool{}
				}
				used[i][change{d.check, d.direct, d.gateway}] = true
				known++
			}
			fmt.Fprintf(&table, "%-17s %-16v %9d      %s           %s   %9d\n", s.name, p, len(a), a, b, known)
		}
	}
	t.Logf("\n%s", table.String())
	for i, e := range explained() {
		if len(used[i]) != len(e.changes) {
			t.Errorf("this difference is explained and does not exist: %v; of it there is %v", e, used[i])
			continue
		}
		t.Logf("%s, %s: %s", strings.Join(e.servers, " and "), e.scenario, e.why)
	}
}

// both makes one pass directly and one through the gateway, at once.
func both(t *testing.T, p pass, direct, gateway string) (a, b results) {
	t.Helper()
	dirA, dirB := t.TempDir(), t.TempDir()
	var errA, errB error
	var wg sync.WaitGroup
	wg.Go(func() { a, errA = conform(t.Context(), dirA, direct, p, new(progress)) })
	wg.Go(func() { b, errB = conform(t.Context(), dirB, gateway, p, new(progress)) })
	wg.Wait()
	if errA != nil || errB != nil {
		t.Fatalf("%v: directly: %v; through the gateway: %v", p, errA, errB)
	}
	return a, b
}
