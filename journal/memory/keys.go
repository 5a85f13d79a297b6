package memory

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Keys implements seal.KeyStore. Safe for concurrent use; the zero value is empty and ready.
type Keys struct {
	mu   sync.Mutex
	keys []seal.WrappedKey
	down bool
}

// SetDown makes every call fail with journal.ErrUnavailable until it is unset.
func (s *Keys) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Create stores a wrapped key. See seal.KeyStore.
func (s *Keys) Create(ctx context.Context, name seal.KeyName, wrapped []byte) error {
	return s.locked(ctx, func() error {
		if s.find(name) >= 0 {
			return seal.ErrKeyExists
		}
		s.keys = append(s.keys, seal.WrappedKey{KeyName: name, Wrapped: slices.Clone(wrapped), Stored: journal.InstantOf(time.Now())})
		return nil
	})
}

// Load returns a tenant's wrapped keys, oldest first.
func (s *Keys) Load(ctx context.Context, t journal.TenantID) (keys []seal.WrappedKey, err error) {
	err = s.locked(ctx, func() error {
		for _, k := range s.keys {
			if k.Tenant == t {
				keys = append(keys, k)
			}
		}
		return nil
	})
	return keys, err
}

// All yields all wrapped keys, oldest first.
func (s *Keys) All(ctx context.Context) iter.Seq2[seal.WrappedKey, error] {
	return func(yield func(seal.WrappedKey, error) bool) {
		var all []seal.WrappedKey
		err := s.locked(ctx, func() error {
			all = slices.Clone(s.keys)
			return nil
		})
		if err != nil {
			yield(seal.WrappedKey{}, err)
			return
		}
		for _, k := range all {
			if !yield(k, nil) {
				return
			}
		}
	}
}

// Delete removes a wrapped key, if it is there.
func (s *Keys) Delete(ctx context.Context, name seal.KeyName) error {
	return s.locked(ctx, func() error {
		if i := s.find(name); i >= 0 {
			s.keys = slices.Delete(s.keys, i, i+1)
		}
		return nil
	})
}

func (s *Keys) find(name seal.KeyName) int {
	return slices.IndexFunc(s.keys, func(k seal.WrappedKey) bool { return k.KeyName == name })
}

func (s *Keys) locked(ctx context.Context, fn func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return journal.ErrUnavailable
	}
	return fn()
}
