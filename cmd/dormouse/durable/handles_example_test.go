package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/durable"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// carts are shopping carts behind handles: what a tool of a stateless MCP server hands out, or a cookie of a web shop.
// A handle is worth something to the one who got it alone.
type carts struct{ engine *engine.Engine }

// caller is who asks, as the application has found out.
func caller(user string) engine.Caller {
	return engine.Caller{Principal: journal.Principal("user:" + user)}
}

// open makes a cart and returns its handle, which is durable by then.
func (c carts) open(ctx context.Context, user string) (journal.SessionID, error) {
	lease, err := c.engine.Create(ctx, caller(user), func(context.Context, *engine.Session) (engine.Opened, error) {
		return engine.Opened{Initialize: json.RawMessage(`[]`)}, nil // the state to begin with
	})
	if err != nil {
		return "", err
	}
	defer lease.Release()
	return lease.Session().ID(), nil
}

// add puts something into the cart behind a handle, durably, and returns all that is in it.
func (c carts) add(ctx context.Context, user string, handle journal.SessionID, what string) (all []string, err error) {
	lease, err := c.engine.Acquire(ctx, handle, caller(user))
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	call := lease.Begin("cart", "add") // for the history; it also keeps the handle from expiring
	defer call.End(journal.OutcomeOK)
	state, ok := lease.Session().State()
	if !ok {
		return nil, engine.ErrUnknownSession
	}
	if err := json.Unmarshal(state.Initialize, &all); err != nil {
		return nil, err
	}
	all = append(all, what)
	next, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return all, lease.Session().Change(ctx, engine.Changes{Initialize: next})
}

// Handles without MCP and without HTTP: the engine alone.
func Example_handles() {
	ctx := context.Background()
	data, err := os.MkdirTemp("", "durable-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(data)
	var handle journal.SessionID
	for boot := range 2 {
		j, err := durable.OpenJournal(ctx, durable.JournalOptions{Data: data})
		if err != nil {
			log.Fatal(err)
		}
		e, err := j.Engine(engine.Options{})
		if err != nil {
			log.Fatal(err)
		}
		shop := carts{e}
		if boot == 0 {
			if handle, err = shop.open(ctx, "ada"); err != nil {
				log.Fatal(err)
			}
		}
		for _, user := range []string{"ada", "bob"} {
			all, err := shop.add(ctx, user, handle, fmt.Sprintf("book %d", boot+1))
			fmt.Println(user, all, errors.Is(err, engine.ErrUnknownSession))
		}
		if err := errors.Join(e.Shutdown(ctx), j.Close(ctx)); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// ada [book 1] false
	// bob [] true
	// ada [book 1 book 2] false
	// bob [] true
}
