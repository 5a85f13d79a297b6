package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/httptests"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// natsMain is nats-server: this test binary under that name.
func natsMain() {
	fs := flag.NewFlagSet("nats-server", flag.ExitOnError)
	o, err := server.ConfigureOptions(fs, os.Args[1:], server.PrintServerAndExit, fs.Usage, server.PrintTLSHelpAndDie)
	if err == nil {
		var s *server.Server
		if s, err = server.NewServer(o); err == nil {
			s.ConfigureLogger()
			if err = server.Run(s); err == nil {
				s.WaitForShutdown()
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fleet is several replicas, each a process, on a NATS of their own, or with their embedded servers as one cluster.
type fleet struct {
	t        *testing.T
	dir      string
	nats     []*process
	monitors []string
	url      string
	keys     string
	replicas []*replica
	fence    string // as --fence-after; long where nothing is to be taken over from replicas that are merely slow
	// route says where an embedded server finds another one of its cluster; nil = at its address.
	route func(from, to int, address string) string
}

// embedded is the number of NATS servers of a fleet that has none but its replicas'.
const embedded = 0

// process is this test binary under another name.
type process struct {
	t    *testing.T
	name string
	args []string
	log  string
	env  []string
	cmd  *exec.Cmd
}

func (p *process) start() {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(exe, p.args...) //nolint:noctx // ended by the test
	p.cmd.Args[0], p.cmd.Stdout, p.cmd.Stderr = p.name, log, log
	p.cmd.Env = append(os.Environ(), p.env...)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	if s == syscall.SIGSTOP {
		p.awaitStandstill()
	}
}

// awaitStandstill waits until no thread runs any more: on a busy machine one may go on for a while after SIGSTOP was sent.
func (p *process) awaitStandstill() {
	p.t.Helper()
	runs := func(path string) bool {
		stat, err := os.ReadFile(path)
		return err == nil && !strings.Contains(string(stat), ") T ")
	}
	for deadline := time.Now().Add(hung); ; <-time.After(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		if err == nil && !slices.ContainsFunc(threads, runs) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatal("it does not stop")
		}
	}
}

// end ends it with a signal and waits.
func (p *process) end(s syscall.Signal) {
	p.t.Helper()
	p.signal(s)
	err := p.cmd.Wait()
	if s == syscall.SIGTERM && err != nil {
		p.t.Errorf("%s: %v", filepath.Base(p.log), err)
	}
	p.cmd = nil
}

// clean ends what still runs, and shows what it said if the test has failed.
func (p *process) clean() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // killed
	}
	if text, err := os.ReadFile(p.log); err == nil && p.t.Failed() && p.name == "dormouse" {
		p.t.Logf("%s:\n%s", filepath.Base(p.log), text[max(0, len(text)-3000):])
	}
}

// newFleet starts NATS servers, if any, that sync before they acknowledge.
func newFleet(t *testing.T, servers int) *fleet {
	t.Helper()
	return newRoutedFleet(t, servers, func(_ int, routes []string) string { return "routes: [" + strings.Join(routes, ", ") + "]" })
}

// newRoutedFleet is newFleet with the way from each server to the others, as its configuration has it; routes are the
// servers' own addresses.
func newRoutedFleet(t *testing.T, servers int, way func(from int, routes []string) string) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), fence: "60s"}
	f.keys = filepath.Join(f.dir, "keys")
	if err := seal.Save(f.keys, seal.GenerateKeyring()); err != nil {
		t.Fatal(err)
	}
	if servers == embedded {
		return f
	}
	ports := freePorts(t, 3*servers)
	var routes, urls []string
	for i := range servers {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i+1]))
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i]))
		f.monitors = append(f.monitors, fmt.Sprintf("http://127.0.0.1:%d", ports[3*i+2]))
	}
	f.url = strings.Join(urls, ",")
	for i := range servers {
		conf := fmt.Sprintf("server_name: n%d\nlisten: 127.0.0.1:%d\nhttp: 127.0.0.1:%d\njetstream { store_dir: %q, sync_interval: always }\n",
			i, ports[3*i], ports[3*i+2], filepath.Join(f.dir, "nats"+strconv.Itoa(i)))
		if servers > 1 {
			conf += fmt.Sprintf("cluster { name: fleet, listen: 127.0.0.1:%d, no_advertise: true, %s }\n", ports[3*i+1], way(i, routes))
		}
		path := filepath.Join(f.dir, fmt.Sprintf("n%d.conf", i))
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &process{t: t, name: "nats-server", args: []string{"-c", path}, log: filepath.Join(f.dir, fmt.Sprintf("n%d.log", i))}
		p.start()
		t.Cleanup(p.clean)
		f.nats = append(f.nats, p)
	}
	for _, m := range f.monitors {
		f.await("NATS", func() bool { status, _ := fetchText(t.Context(), m+"/healthz"); return status == http.StatusOK })
	}
	return f
}

// await waits until ok is true.
func (f *fleet) await(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(hung); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within %v", what, hung)
		}
	}
}

// replica is one `dormouse serve`.
type replica struct {
	*process

	name   string
	listen string
	peers  string // where other replicas reach it
	data   string
}

func (r *replica) peer() string { return r.peers }

// add starts one more replica, and returns when it serves.
func (f *fleet) add(args ...string) *replica {
	f.t.Helper()
	r := f.prepare(args...)
	r.start()
	f.awaitReady(r)
	return r
}

// addAll starts n replicas, and returns when all of them serve. Those whose embedded servers are the cluster come all at once.
func (f *fleet) addAll(n int, args ...string) {
	f.t.Helper()
	if f.url != "" {
		for range n {
			f.add(args...)
		}
		return
	}
	var peers []string
	for _, port := range freePorts(f.t, n) {
		peers = append(peers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for i, own := range peers {
		routes := slices.Clone(peers)
		for k := range routes {
			if f.route != nil && k != i {
				routes[k] = f.route(i, k, peers[k])
			}
		}
		f.prepare(append([]string{"--cluster", "fleet", "--cluster-listen", own, "--cluster-peers", strings.Join(routes, ",")}, args...)...).start()
	}
	for _, r := range f.replicas {
		f.awaitReady(r)
	}
}

// crash kills the i-th of the servers on which the streams are; an embedded one goes with its replica.
func (f *fleet) crash(i int) {
	f.t.Helper()
	if f.url == "" {
		f.replicas[i].end(syscall.SIGKILL)
		return
	}
	f.nats[i].end(syscall.SIGKILL)
}

// revive starts it again, and returns when it is there.
func (f *fleet) revive(i int) {
	f.t.Helper()
	if f.url == "" {
		f.replicas[i].start()
		f.awaitReady(f.replicas[i])
		return
	}
	f.nats[i].start()
	f.await("NATS", func() bool {
		status, _ := fetchText(f.t.Context(), f.monitors[i]+"/healthz")
		return status == http.StatusOK
	})
}

func (f *fleet) prepare(args ...string) *replica {
	f.t.Helper()
	ports := freePorts(f.t, 2)
	name := fmt.Sprintf("r%d", len(f.replicas))
	r := &replica{name: name, listen: fmt.Sprintf("127.0.0.1:%d", ports[0]), peers: fmt.Sprintf("127.0.0.1:%d", ports[1]), data: filepath.Join(f.dir, name)}
	r.process = &process{t: f.t, name: "dormouse", log: filepath.Join(f.dir, name+".log")}
	r.args = []string{
		"serve", "--data", r.data, "--key-file", f.keys, "--replica-name", name, "--listen", r.listen, "--admin-listen", "off",
		"--replica-listen", r.peers, "--fence-after", f.fence,
	}
	if f.url != "" {
		r.args = append(r.args, "--nats-url", f.url, "--nats-replicas", strconv.Itoa(len(f.nats)), "--nats-monitor", strings.Join(f.monitors, ","))
	}
	r.args = append(r.args, args...) // of a flag that is given twice the last one counts
	f.t.Cleanup(r.clean)
	f.replicas = append(f.replicas, r)
	return r
}

func (f *fleet) awaitReady(r *replica) {
	f.t.Helper()
	f.await(r.name, func() bool {
		status, _ := fetchText(f.t.Context(), "http://"+r.listen+"/readyz")
		return status == http.StatusOK
	})
}

func (r *replica) url() string { return "http://" + r.listen + "/mcp" }

// readiness is what /readyz says.
func (r *replica) readiness() (x struct {
	State    string
	Folded   uint64
	Sessions int
	Replica  *struct {
		Others int
		CutOff bool
		Lag    struct {
			Batches uint64
			Seconds float64
		}
		Clock struct{ AheadMS, WithinMS float64 }
	}
},
) {
	r.t.Helper()
	_, text := fetchText(r.t.Context(), "http://"+r.listen+"/readyz")
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		r.t.Errorf("%s: /readyz: %v: %s", r.name, err, text)
	}
	return x
}

func (r *replica) sessions() int { return r.readiness().Sessions }

// serveMCP serves a handler on a loopback address, as one that must outlive the test's clients.
func serveMCP(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	return httptests.Serve(t, h).URL
}

func fetchText(ctx context.Context, url string) (status int, text string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(data)
}

// freePorts returns loopback ports that nothing listens on, below the range from which the kernel takes those of outgoing
// connections, so that nobody takes them until they are used.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range 100 * n {
		port := 12000 + rand.IntN(18000)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}
