// Package n8ntest is a stand-in for n8n, for tests and for the demo: the parts of n8n's public REST API
// that the built-in tools use, with its status codes, messages, pages and checks, over workflows and
// executions in memory. It runs no workflow.
//
// One server holds several tenants, told apart by their API keys, as one n8n holds several users. Every
// answer tells whose it is (see [Server.Owner], [MarkerTag] and [MarkerHeader]), so that a test notices
// when one tenant is given what belongs to another.
package n8ntest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// MarkerHeader names the tenant in every answer to an accepted key.
const MarkerHeader = "X-N8ntest-Tenant"

// MarkerTag returns the tag that all workflows of a tenant carry.
func MarkerTag(tenant string) string { return "tenant:" + tenant }

// ErrNoTenant says that the server has no tenant of that name.
var ErrNoTenant = errors.New("no such tenant")

// Tenant is one user of the stand-in.
type Tenant struct {
	Name string // in markers; not empty
	Key  string // the API key; not empty
}

// Server is a stand-in n8n. It is an http.Handler, and listens by itself after Start. Safe for
// concurrent use.
type Server struct {
	mux       http.Handler
	listener  net.Listener // nil before Start
	http      *http.Server
	done      chan struct{}
	intercept atomic.Pointer[Interceptor]
	requests  atomic.Int64

	mu        sync.Mutex
	tenants   map[string]*tenant // by name
	execution int                // the last execution's ID; one sequence for all, as in n8n
}

// Interceptor may answer a request before the server does; it returns whether it has.
type Interceptor func(w http.ResponseWriter, r *http.Request) bool

// New returns a server with the tenants, each with two workflows and some executions. It does not listen
// yet.
func New(tenants ...Tenant) *Server {
	s := &Server{tenants: map[string]*tenant{}}
	s.mux = s.routes()
	for _, t := range tenants {
		s.AddTenant(t)
	}
	return s
}

// Start listens on a loopback address, "127.0.0.1:0" if addr is empty, until Close. Call it once.
func (s *Server) Start(ctx context.Context, addr string) error {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("stand-in n8n: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("stand-in n8n: %s is no loopback address", addr), l.Close())
	}
	s.listener = l
	s.done = make(chan struct{})
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // ends with ErrServerClosed when Close is called
	}()
	return nil
}

// URL returns what a tenant sends as x-n8n-url. Only after Start.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close stops listening and drops all connections. What the server holds stays.
func (s *Server) Close() error {
	if s.http == nil {
		return nil
	}
	err := s.http.Close()
	<-s.done
	return err
}

// Intercept lets f see every request first, to play faults; nil ends that.
func (s *Server) Intercept(f Interceptor) {
	if f == nil {
		s.intercept.Store(nil)
		return
	}
	s.intercept.Store(&f)
}

// Requests returns how many requests have come in, those without a valid key included.
func (s *Server) Requests() int64 { return s.requests.Load() }

// ServeHTTP answers as n8n would.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if f := s.intercept.Load(); f != nil && (*f)(w, r) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 16<<20) // n8n's own default limit
	s.mux.ServeHTTP(w, r)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	for pattern, h := range map[string]handler{
		"GET /api/v1/workflows":                  listWorkflows,
		"POST /api/v1/workflows":                 createWorkflow,
		"GET /api/v1/workflows/{id}":             getWorkflow,
		"PUT /api/v1/workflows/{id}":             updateWorkflow,
		"DELETE /api/v1/workflows/{id}":          deleteWorkflow,
		"POST /api/v1/workflows/{id}/activate":   setActive(true),
		"POST /api/v1/workflows/{id}/deactivate": setActive(false),
		"GET /api/v1/executions":                 listExecutions,
		"GET /api/v1/executions/{id}":            getExecution,
		"DELETE /api/v1/executions/{id}":         deleteExecution,
	} {
		mux.Handle(pattern, s.authorized(h))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "not found") })
	return mux
}

// handler answers one request of one tenant, which is locked meanwhile.
type handler func(t *tenant, w http.ResponseWriter, r *http.Request)

func (s *Server) authorized(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("X-N8N-API-KEY")
		if key == "" {
			fail(w, http.StatusUnauthorized, "'X-N8N-API-KEY' header required")
			return
		}
		t := s.byKey(key)
		if t == nil {
			fail(w, http.StatusUnauthorized, "unauthorized")
			return
		}
		w.Header().Set(MarkerHeader, t.name)
		t.mu.Lock()
		defer t.mu.Unlock()
		h(t, w, r)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nobody is left to tell
}

func fail(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, map[string]string{"message": fmt.Sprintf(format, args...)})
}
