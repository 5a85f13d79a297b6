package jetstream

import (
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
	var mu sync.Mutex
	stopped := false
	sub, err := s.nc.Subscribe(s.subject, func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			fn(m.Data)
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
