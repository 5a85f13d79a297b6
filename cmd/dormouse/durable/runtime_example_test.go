package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"sync"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/durable"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// quizzes is a web application that was there before: it knows its visitors by a cookie, and keeps a game of each in
// memory. It is also what wakes the games: an engine.Waker.
type quizzes struct{ engine *engine.Engine }

const cookieName = "quiz"

// ServeHTTP finds the session of the request's cookie, or makes one, and hands the request to its runtime.
func (q *quizzes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	lease, err := q.lease(w, r)
	if err != nil {
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	}
	defer lease.Release()
	call := lease.Begin(r.Method, "")
	defer call.End(journal.OutcomeOK)
	game, err := lease.Runtime(r.Context()) // wakes the session if it is dormant
	if err != nil {
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	}
	game.ServeHTTP(w, r)
}

func (q *quizzes) lease(w http.ResponseWriter, r *http.Request) (*engine.Lease, error) {
	visitor := engine.Caller{} // or who the application has logged in
	if c, err := r.Cookie(cookieName); err == nil {
		lease, err := q.engine.Acquire(r.Context(), journal.SessionID(c.Value), visitor)
		if !errors.Is(err, engine.ErrUnknownSession) {
			return lease, err
		}
	}
	lease, err := q.engine.Create(r.Context(), visitor, func(context.Context, *engine.Session) (engine.Opened, error) {
		return engine.Opened{Initialize: json.RawMessage(`{"level":"hard"}`)}, nil // what a game is made from
	})
	if err == nil {
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: lease.Session().ID().Reveal(), HttpOnly: true, Secure: true})
	}
	return lease, err
}

// Wake makes the game of a session from what the journal holds of it.
func (q *quizzes) Wake(_ context.Context, s *engine.Session) (engine.Runtime, error) {
	state, ok := s.State()
	if !ok {
		return nil, engine.ErrUnknownSession
	}
	g := new(game)
	return g, json.Unmarshal(state.Initialize, g)
}

// game is a runtime: the live half of a session. Its score is gone when it is closed; its level is not.
type game struct {
	Level string `json:"level"`

	mu    sync.Mutex
	score int
}

// ServeHTTP may be called by several requests at once.
func (g *game) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.score++
	fmt.Fprintf(w, "%s game, score %d", g.Level, g.score)
}

// Close is called once, when the session hibernates or ends, and nobody uses the runtime any more.
func (g *game) Close() error { return nil }

// A web application with cookies of its own: engine, Waker and Runtime without the gateway.
func Example_cookies() {
	ctx := context.Background()
	data, err := os.MkdirTemp("", "durable-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(data)
	app := new(quizzes)
	site := httptest.NewTLSServer(app)
	defer site.Close()
	browser := site.Client()
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		log.Fatal(err)
	}
	for range 2 { // the second time with the cookie of the first
		j, err := durable.OpenJournal(ctx, durable.JournalOptions{Data: data})
		if err != nil {
			log.Fatal(err)
		}
		if app.engine, err = j.Engine(engine.Options{Waker: app}); err != nil {
			log.Fatal(err)
		}
		for range 2 {
			resp, err := browser.Get(site.URL) //nolint:noctx // a browser's
			if err != nil {
				log.Fatal(err)
			}
			page, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				log.Fatal(err)
			}
			fmt.Println(string(page), "- sessions:", app.engine.SessionInfo().Sessions)
		}
		if err := errors.Join(app.engine.Shutdown(ctx), j.Close(ctx)); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// hard game, score 1 - sessions: 1
	// hard game, score 2 - sessions: 1
	// hard game, score 1 - sessions: 1
	// hard game, score 2 - sessions: 1
}
