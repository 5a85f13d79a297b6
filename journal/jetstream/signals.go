package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// Signals carries short messages between the replicas of a deployment, which are stored nowhere: at most once, in no
// certain order, and to the sender too. It implements replicas.Wire. Safe for concurrent use.
type Signals struct {
	nc      *nats.Conn
	subject string
}

// Signals returns the journal's.
func (j *Journal) Signals() *Signals { return &Signals{nc: j.nc, subject: j.prefix + ".replicas"} }

// Tell sends data to all who listen now.
func (s *Signals) Tell(data []byte) error {
	if err := s.nc.Publish(s.subject, data); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	return nil
}

// Hear calls fn with each message, one at a time, until stop is called; once that has returned fn runs no more.
func (s *Signals) Hear(fn func(data []byte)) (stop func(), err error) {
	return s.subscribe(s.subject, func(m *nats.Msg) { fn(m.Data) })
}

// Answer has calls to name, which must be one token of a subject, answered until stop is called.
func (s *Signals) Answer(name string) (stop func(), err error) {
	return s.subscribe(s.of(name), func(m *nats.Msg) { _ = m.Respond(nil) }) // who does not hear it calls again
}

// Call reports whether somebody answers to name. false without an error: the servers know of nobody who listens there.
func (s *Signals) Call(ctx context.Context, name string) (there bool, err error) {
	_, err = s.nc.RequestWithContext(ctx, s.of(name), nil)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, nats.ErrNoResponders):
		return false, nil
	}
	return false, fmt.Errorf("call: %w", err)
}

func (s *Signals) of(name string) string { return s.subject + "." + name }

func (s *Signals) subscribe(subject string, fn func(*nats.Msg)) (stop func(), err error) {
	var mu sync.Mutex
	stopped := false
	sub, err := s.nc.Subscribe(subject, func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			fn(m)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("signals: %w", err)
	}
	return func() {
		_ = sub.Unsubscribe() // the connection may be gone
		mu.Lock()
		defer mu.Unlock()
		stopped = true
	}, nil
}
