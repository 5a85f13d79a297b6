package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// ToolBuiltIn is a call of the built-in server that asks no n8n: a required argument is missing, and that is its answer.
const ToolBuiltIn = "n8n_get_workflow"

// asTenant is what clients of the built-in server send.
func asTenant() http.Header {
	return http.Header{
		"X-N8n-Url": {"http://127.0.0.1:1"}, "X-N8n-Key": {"key-of-the-benchmark"}, "X-Instance-Id": {"bench"},
	}
}

// fleet is several replicas on one cluster, each a process.
type fleet struct {
	dir     string
	cluster *cluster // nil: they are a cluster themselves
	prefix  string   // of the journal
	more    []string // flags of all replicas
	members []*member
}

// member is one replica, which may be started again and again.
type member struct {
	*child

	name   string
	listen string
	peers  string
	args   []string
}

func newFleet(dir string, c *cluster, prefix string, more ...string) (*fleet, error) {
	f := &fleet{dir: filepath.Join(dir, prefix), cluster: c, prefix: prefix, more: more}
	return f, seal.Save(f.keys(), seal.GenerateKeyring())
}

// keys is the file of the keyring that all replicas share.
func (f *fleet) keys() string { return f.dir + ".keys" }

// add makes one more replica, which is to be started.
func (f *fleet) add(ctx context.Context) (_ *member, err error) {
	m := &member{name: fmt.Sprintf("r%d", len(f.members))}
	for _, a := range []*string{&m.listen, &m.peers} {
		if *a, err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	m.args = append([]string{
		"serve", "--data", filepath.Join(f.dir, m.name), "--key-file", f.keys(), "--replica-name", m.name,
		"--listen", m.listen, "--admin-listen", "off", "--replica-listen", m.peers,
	}, f.more...)
	if f.cluster != nil {
		m.args = append(m.args, "--nats-url", f.cluster.url, "--nats-prefix", f.prefix, "--nats-replicas", strconv.Itoa(clusterServers))
	}
	f.members = append(f.members, m)
	return m, nil
}

// addAll makes n replicas, starts them and returns when they are ready.
func (f *fleet) addAll(ctx context.Context, n int) (err error) {
	nodes := make([]string, n)
	for i := range nodes {
		if nodes[i], err = freeAddress(ctx); err != nil {
			return err
		}
		m, err := f.add(ctx)
		if err != nil {
			return err
		}
		if f.cluster != nil {
			if err := m.up(ctx); err != nil {
				return err
			}
		}
	}
	if f.cluster != nil {
		return nil
	}
	for i, m := range f.members { // none is ready before most have started
		m.args = append(m.args, "--cluster", f.prefix, "--cluster-listen", nodes[i], "--cluster-peers", strings.Join(nodes, ","))
		if m.child, err = start(ctx, m.args...); err != nil {
			return err
		}
	}
	for _, m := range f.members {
		if err := m.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) stop() {
	for _, m := range f.members {
		m.down()
	}
}

// up starts the replica and returns once it is ready.
func (m *member) up(ctx context.Context) (err error) {
	if m.child, err = start(ctx, m.args...); err != nil {
		return err
	}
	return m.awaitReady(ctx)
}

func (m *member) awaitReady(ctx context.Context) error {
	return m.ready(ctx, "http://"+m.listen+"/readyz", 2*time.Millisecond)
}

// down kills the replica, if it runs.
func (m *member) down() {
	if m.child != nil {
		m.stop()
	}
	m.child = nil
}

func (m *member) signal(s syscall.Signal) error { return m.cmd.Process.Signal(s) }

func (m *member) url() *url.URL { return &url.URL{Scheme: "http", Host: m.listen, Path: "/mcp"} }

// told is what /readyz tells of a replica.
type told struct {
	Events  uint64 `json:"events"`
	Replica struct {
		Lag struct {
			Events  uint64  `json:"events"`
			Seconds float64 `json:"seconds"`
		} `json:"lag"`
	} `json:"replica"`
}

func (m *member) tells(ctx context.Context) (t told, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.listen+"/readyz", http.NoBody)
	if err != nil {
		return t, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return t, err
	}
	defer answer.Body.Close()
	return t, json.NewDecoder(answer.Body).Decode(&t)
}
