package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

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

// fleet is several replicas on a NATS of their own, each a process, behind a balancer.
type fleet struct {
	t        *testing.T
	dir      string
	nats     []*process
	monitors []string
	url      string
	keys     string
	replicas []*replica
	balancer *balancer
}

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

// newFleet starts NATS servers, one or three, that sync before they acknowledge.
func newFleet(t *testing.T, servers int) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir()}
	f.keys = filepath.Join(f.dir, "keys")
	if err := seal.Save(f.keys, seal.GenerateKeyring()); err != nil {
		t.Fatal(err)
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
			conf += fmt.Sprintf("cluster { name: fleet, listen: 127.0.0.1:%d, no_advertise: true, routes: [%s] }\n", ports[3*i+1], strings.Join(routes, ", "))
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

// newClusterFleet starts three replicas whose embedded servers are one cluster.
func newClusterFleet(t *testing.T, args ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir()}
	f.keys = filepath.Join(f.dir, "keys")
	if err := seal.Save(f.keys, seal.GenerateKeyring()); err != nil {
		t.Fatal(err)
	}
	var peers []string
	for _, port := range freePorts(t, 3) {
		peers = append(peers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for i := range peers {
		r := f.prepare(append([]string{"--cluster", "fleet", "--cluster-listen", peers[i], "--cluster-peers", strings.Join(peers, ",")}, args...)...)
		r.start()
	}
	for _, r := range f.replicas {
		f.awaitReady(r)
	}
	return f
}

// await waits until ok is true.
func (f *fleet) await(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within a minute", what)
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

func (f *fleet) prepare(args ...string) *replica {
	f.t.Helper()
	ports := freePorts(f.t, 2)
	name := fmt.Sprintf("r%d", len(f.replicas))
	r := &replica{name: name, listen: fmt.Sprintf("127.0.0.1:%d", ports[0]), peers: fmt.Sprintf("127.0.0.1:%d", ports[1]), data: filepath.Join(f.dir, name)}
	r.process = &process{t: f.t, name: "dormouse", log: filepath.Join(f.dir, name+".log")}
	r.args = append([]string{
		"serve", "--data", r.data, "--key-file", f.keys, "--replica-name", name, "--listen", r.listen, "--admin-listen", "off",
		"--replica-listen", r.peers, "--fence-after", "2s",
	}, args...)
	if f.url != "" {
		r.args = append(r.args, "--nats-url", f.url, "--nats-replicas", strconv.Itoa(len(f.nats)), "--nats-monitor", strings.Join(f.monitors, ","))
	}
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
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
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

// freePorts returns loopback ports that nothing listens on.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// balancer is a plain one, as nginx is by default: round robin, a connection a request, and the next replica where none
// could be made. It looks at /readyz.
type balancer struct {
	replicas []*replica
	ready    []atomic.Bool
	next     atomic.Uint64
	server   *httptest.Server
	client   *http.Client
}

// balance puts a balancer in front of the replicas.
func (f *fleet) balance() *balancer {
	f.t.Helper()
	b := &balancer{
		replicas: f.replicas, ready: make([]atomic.Bool, len(f.replicas)),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}},
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	var checks sync.WaitGroup
	for i := range b.replicas {
		b.look(ctx, i)
		checks.Go(func() {
			for ctx.Err() == nil {
				b.look(ctx, i)
				<-time.After(50 * time.Millisecond)
			}
		})
	}
	b.server = httptest.NewServer(b)
	f.t.Cleanup(func() {
		cancel()
		checks.Wait()
		b.server.CloseClientConnections()
		b.server.Close()
	})
	f.balancer = b
	return b
}

func (b *balancer) look(ctx context.Context, i int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	status, _ := fetchText(ctx, "http://"+b.replicas[i].listen+"/readyz")
	b.ready[i].Store(status == http.StatusOK)
}

// ServeHTTP implements http.Handler.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	start := int(b.next.Add(1) % uint64(len(b.replicas)))
	for _, wantReady := range []bool{true, false} {
		for k := range b.replicas {
			i := (start + k) % len(b.replicas)
			if b.ready[i].Load() == wantReady && b.pass(w, r, body, b.replicas[i]) {
				return
			}
		}
	}
	http.Error(w, "no replica", http.StatusBadGateway)
}

// pass reports whether the replica could be reached.
func (b *balancer) pass(w http.ResponseWriter, r *http.Request, body []byte, to *replica) bool {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, to.url(), strings.NewReader(string(body)))
	if err != nil {
		panic(err)
	}
	req.Header = r.Header.Clone()
	res, err := b.client.Do(req)
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	if err != nil {
		if r.Context().Err() == nil {
			http.Error(w, "bad gateway", http.StatusBadGateway)
		}
		return true
	}
	defer res.Body.Close()
	for name, values := range res.Header {
		if name != "Connection" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(res.StatusCode)
	room := make([]byte, 16<<10)
	for {
		n, err := res.Body.Read(room)
		if _, werr := w.Write(room[:n]); werr != nil {
			return true
		}
		_ = http.NewResponseController(w).Flush() // a client that is gone is noticed at the next write
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
