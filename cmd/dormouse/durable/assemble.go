package durable

import (
	"errors"
	"net/http"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Parts are what engine and gateway need of a journal. [Journal.Parts] has them; anything else that keeps the promises
// of the interfaces will do.
type Parts struct {
	Replica  journal.ReplicaID
	Appender engine.Appender
	Table    engine.Table
	Vault    engine.Vault
	Name     gateway.Namer // a hash under a key that all replicas have
}

func (p Parts) fill(o engine.Options) engine.Options {
	if o.Replica == "" {
		o.Replica = p.Replica
	}
	if o.Appender == nil {
		o.Appender = p.Appender
	}
	if o.Table == nil {
		o.Table = p.Table
	}
	if o.Vault == nil {
		o.Vault = p.Vault
	}
	if o.Identify == nil {
		o.Identify = ImportIdentity(p.Name)
	}
	return o
}

// ImportIdentity names the tenant of an imported session as the gateway names a caller by its context.
func ImportIdentity(name gateway.Namer) func(engine.InstanceContext) (engine.Identity, error) {
	return func(ic engine.InstanceContext) (engine.Identity, error) {
		id := gateway.Identifier{
			Name: name, CanonicalURL: n8n.CanonicalURL,
			Context: func(http.Header) (*engine.InstanceContext, error) { return &ic, nil },
		}
		c, err := id.Identify(&http.Request{})
		return engine.Identity{Tenant: c.Tenant, Label: c.Label, URLHash: c.URLHash}, err
	}
}

// Wiring configures Assemble. Of each part's options, those are filled in that lead to the other parts, where they are
// not set.
type Wiring struct {
	Waker   gateway.WakerOptions // Upstream must be set
	Engine  engine.Options
	Gateway gateway.Options
}

// Assembly is an MCP endpoint with its parts.
type Assembly struct {
	Waker   *gateway.Waker
	Engine  *engine.Engine
	Gateway *gateway.Gateway
}

// Assemble puts waker, engine and gateway on the parts of a journal. To end it: Gateway.Shutdown, then
// Engine.Shutdown.
func Assemble(p Parts, w Wiring) (a Assembly, err error) {
	if p.Name == nil {
		return a, errors.New("durable parts: Name must be set")
	}
	if w.Waker.Replica == "" {
		w.Waker.Replica = p.Replica
	}
	if len(w.Waker.EventKey) == 0 {
		w.Waker.EventKey = eventKey(p.Name)
	}
	if a.Waker, err = gateway.NewWaker(w.Waker); err != nil {
		return a, err
	}
	if w.Engine.Waker == nil {
		w.Engine.Waker = a.Waker
	}
	if a.Engine, err = engine.New(p.fill(w.Engine)); err != nil {
		return a, err
	}
	w.Gateway.Engine, w.Gateway.Waker = a.Engine, a.Waker
	a.Gateway, err = gateway.New(w.Gateway)
	return a, err
}

// eventKey authenticates event IDs, alike on all replicas and after every restart.
func eventKey(name gateway.Namer) []byte {
	a, b := name("event-ids", "1"), name("event-ids", "2")
	return append(a[:], b[:]...)
}
