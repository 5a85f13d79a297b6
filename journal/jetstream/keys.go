package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Keys keeps wrapped tenant keys in the journal's key stream. It implements seal.KeyStore. Safe for
// concurrent use.
type Keys struct{ j *Journal }

// Keys returns the journal's key store.
func (j *Journal) Keys() *Keys { return &Keys{j: j} }

// Create stores a wrapped key. See seal.KeyStore.
func (s *Keys) Create(ctx context.Context, name seal.KeyName, wrapped []byte) error {
	subject, err := s.subject(name)
	if err != nil {
		return err
	}
	_, err = s.j.publish(ctx, subject, 0, wrapped)
	if !errors.Is(err, journal.ErrConflict) {
		return err
	}
	// Another replica won. On a cluster its key may be accepted and not yet applied: once ErrKeyExists is
	// returned, Load must find it.
	for {
		_, err := s.j.keys.GetLastMsgForSubject(ctx, subject)
		switch {
		case err == nil:
			return seal.ErrKeyExists
		case !errors.Is(err, js.ErrMsgNotFound):
			return askError(ctx, "create key", err)
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// Load returns the tenant's wrapped keys, oldest first, by the word of the stream's leader.
func (s *Keys) Load(ctx context.Context, t journal.TenantID) ([]seal.WrappedKey, error) {
	info, err := s.j.keys.Info(ctx, js.WithSubjectFilter(s.root()+t.String()+".*.*"))
	if err != nil {
		return nil, askError(ctx, "load keys", err)
	}
	var messages []*js.RawStreamMsg
	for subject := range info.State.Subjects {
		m, err := s.j.keys.GetLastMsgForSubject(ctx, subject)
		switch {
		case errors.Is(err, js.ErrMsgNotFound): // deleted meanwhile
		case err != nil:
			return nil, askError(ctx, "load keys", err)
		default:
			messages = append(messages, m)
		}
	}
	slices.SortFunc(messages, func(a, b *js.RawStreamMsg) int { return cmp.Compare(a.Sequence, b.Sequence) })
	keys := make([]seal.WrappedKey, 0, len(messages))
	for _, m := range messages {
		if name, ok := s.parse(m.Subject); ok {
			keys = append(keys, seal.WrappedKey{KeyName: name, Wrapped: m.Data})
		}
	}
	return keys, nil
}

// All yields every tenant's wrapped keys, oldest first.
func (s *Keys) All(ctx context.Context) iter.Seq2[seal.WrappedKey, error] {
	return func(yield func(seal.WrappedKey, error) bool) {
		if err := s.each(ctx, func(k seal.WrappedKey) bool { return yield(k, nil) }); err != nil {
			yield(seal.WrappedKey{}, err)
		}
	}
}

// each fetches rather than consumes, because only then does the server say that there is no more.
func (s *Keys) each(ctx context.Context, fn func(seal.WrappedKey) bool) error {
	consumer, err := s.j.keys.CreateConsumer(ctx, js.ConsumerConfig{
		DeliverPolicy:     js.DeliverAllPolicy,
		AckPolicy:         js.AckNonePolicy,
		FilterSubject:     s.root() + "*.*.*",
		InactiveThreshold: inactiveThreshold,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return askError(ctx, "read keys", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		// Otherwise the server forgets it by itself.
		_ = s.j.keys.DeleteConsumer(ctx, consumer.CachedInfo().Name)
	}()
	var delivered uint64
	for {
		n := delivered
		batch, err := consumer.FetchNoWait(2000)
		if err != nil {
			return askError(ctx, "read keys", err)
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read keys: %w", err)
			}
			if delivered++; meta.Sequence.Consumer != delivered {
				return unavailable("read keys", errors.New("messages were dropped on the way"))
			}
			if name, ok := s.parse(m.Subject()); ok && !fn(seal.WrappedKey{KeyName: name, Wrapped: m.Data()}) {
				return nil
			}
		}
		switch err := batch.Error(); {
		case err != nil:
			return askError(ctx, "read keys", err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case delivered == n:
			return nil
		}
	}
}

// Delete overwrites a wrapped key in the stream's files and removes it. A key that is not there is no
// error.
func (s *Keys) Delete(ctx context.Context, name seal.KeyName) error {
	subject, err := s.subject(name)
	if err != nil {
		return err
	}
	m, err := s.j.keys.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, js.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return askError(ctx, "delete key", err)
	}
	err = s.j.keys.SecureDeleteMsg(ctx, m.Sequence)
	var api *js.APIError
	if errors.As(err, &api) && api.ErrorCode == codeDeleteMissing {
		return nil // somebody else was faster
	}
	if err != nil {
		return askError(ctx, "delete key", err)
	}
	return nil
}

func (s *Keys) root() string { return s.j.prefix + ".keys." }

func (s *Keys) subject(n seal.KeyName) (string, error) {
	for _, id := range []journal.KeyID{n.Key, n.Wrap} {
		if id == "" || strings.Trim(string(id), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return "", fmt.Errorf("key ID %q: %w: letters, digits and '-' only", id, journal.ErrMalformed)
		}
	}
	return s.root() + n.Tenant.String() + "." + string(n.Key) + "." + string(n.Wrap), nil
}

func (s *Keys) parse(subject string) (n seal.KeyName, ok bool) {
	parts := strings.Split(strings.TrimPrefix(subject, s.root()), ".")
	if len(parts) != 3 {
		return n, false
	}
	tenant, err := journal.ParseTenantID(parts[0])
	return seal.KeyName{Tenant: tenant, Key: journal.KeyID(parts[1]), Wrap: journal.KeyID(parts[2])}, err == nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
