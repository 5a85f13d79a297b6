package daemon

import (
	"context"
	"encoding/json"
	"errors"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// servers are the daemon's HTTP servers, each on its listener.
type servers struct {
	log  zerolog.Logger
	fail func(error)
	wg   sync.WaitGroup
	all  []*http.Server
}

// serve serves h on l until close. A server that ends by itself ends the daemon.
func (s *servers) serve(l net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		// TLS handshakes, malformed requests: of strangers, not of ours.
		ErrorLog: stdlog.New(debugWriter{s.log}, "", 0),
	}
	s.all = append(s.all, srv)
	s.wg.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.fail(err)
		}
	})
}

// close waits for idle connections until ctx ends, then cuts the rest.
func (s *servers) close(ctx context.Context) {
	for _, srv := range s.all {
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	}
	s.wg.Wait()
}

type debugWriter struct{ log zerolog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("room", "http").Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}

// public is what clients reach.
func (d *daemon) public() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.Handle("GET /readyz", gateway.KeepPagesOut(d.c.AllowedHosts, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		x := d.readiness()
		status := http.StatusServiceUnavailable
		if x.State == phaseReady && (x.Replica == nil || !x.Replica.CutOff) {
			status = http.StatusOK
		}
		writeJSON(w, status, x)
	})))
	mux.Handle("/mcp", d.phase)
	d.metadata(mux)
	return mux
}

// readiness is the phase with the present count of sessions.
func (d *daemon) readiness() readiness {
	x := d.phase.now()
	if x.State == phaseReady {
		p := d.store.Follower.Progress()
		x.Folded, x.Target, x.Events, x.Sessions = p.Seq, p.Target, p.Events, p.Sessions
		x.Journal, x.Replica = "ok", d.among()
		if d.store.Writable() != nil { // why is in the log: this answer is public
			x.Journal = "unavailable"
		}
	}
	return x
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // nobody is left to tell
}
