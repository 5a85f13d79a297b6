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
	if err := s.j.guard.Admit(len(wrapped)); err != nil {
		return unavailable("create key", err)
	}
	if err := s.store(ctx, subject, wrapped); !errors.Is(err, journal.ErrConflict) {
		return err
	}
	if err := s.j.guard.Trust(); err != nil { // the key may be there and not be on disk
		return unavailable("create key", err)
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

// store publishes a key where there is none. While a replicated stream elects its leader it tries again: a key that was stored
// all the same is a conflict then, as if another replica had been first.
func (s *Keys) store(ctx context.Context, subject string, wrapped []byte) error {
	if !s.j.Replicated() {
		_, err := s.j.publish(ctx, subject, 0, wrapped)
		return err
	}
	for end := time.Now().Add(ElectionPatience); ; {
		attempt, cancel := context.WithTimeout(ctx, keyAttempt)
		_, err := s.j.publish(attempt, subject, 0, wrapped)
		again := errors.Is(err, journal.ErrNoLeader) || attempt.Err() != nil
		cancel()
		if !again || time.Now().After(end) || sleep(ctx, infoEvery/2) != nil {
			return err
		}
	}
}

// keyAttempt is when the answer of a leader that may be gone is no longer waited for.
const keyAttempt = 2 * time.Second

// Load returns the tenant's wrapped keys, oldest first, by the word of the stream's leader.
//
// It asks for one message after the other: most tenants have one key, and new ones none.
func (s *Keys) Load(ctx context.Context, t journal.TenantID) (keys []seal.WrappedKey, err error) {
	connected, release := s.j.whileConnected(ctx)
	defer release()
	filter := js.WithGetMsgSubject(s.root() + t.String() + ".*.*")
	for seq := uint64(1); ; {
		m, err := askLeader(connected, s.j, func(ctx context.Context) (*js.RawStreamMsg, error) { return s.j.keys.GetMsg(ctx, seq, filter) })
		if errors.Is(err, js.ErrMsgNotFound) {
			return keys, nil
		}
		if err != nil {
			return nil, askError(ctx, "load keys", err)
		}
		if name, ok := s.parse(m.Subject); ok {
			keys = append(keys, seal.WrappedKey{KeyName: name, Wrapped: m.Data, Stored: journal.InstantOf(m.Time)})
		}
		seq = m.Sequence + 1
	}
}

// All yields every tenant's wrapped keys, oldest first, by the word of the stream's leader.
func (s *Keys) All(ctx context.Context) iter.Seq2[seal.WrappedKey, error] {
	return func(yield func(seal.WrappedKey, error) bool) {
		keys, err := s.load(ctx, s.root()+"*.*.*", s.prefetch(ctx))
		if err != nil {
			yield(seal.WrappedKey{}, err)
			return
		}
		for _, k := range keys {
			if !yield(k, nil) {
				return
			}
		}
	}
}

// stored is a message of the key stream.
type stored struct {
	seq  uint64
	at   time.Time
	data []byte
}

// load returns the keys on all subjects that the leader names, oldest first. A key's message never
// changes, so one that is known from elsewhere need not be asked for.
func (s *Keys) load(ctx context.Context, filter string, known map[string]stored) ([]seal.WrappedKey, error) {
	connected, release := s.j.whileConnected(ctx)
	defer release()
	info, _, err := askInfo(connected, s.j.keys, js.WithSubjectFilter(filter))
	if err != nil {
		return nil, askError(ctx, "load keys", err)
	}
	type key struct {
		seal.WrappedKey

		seq uint64
	}
	found := make([]key, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		name, ok := s.parse(subject)
		if !ok {
			continue
		}
		m, ok := known[subject]
		if !ok {
			raw, err := s.j.keys.GetLastMsgForSubject(connected, subject)
			if errors.Is(err, js.ErrMsgNotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, askError(ctx, "load keys", err)
			}
			m = stored{seq: raw.Sequence, at: raw.Time, data: raw.Data}
		}
		found = append(found, key{WrappedKey: seal.WrappedKey{KeyName: name, Wrapped: m.data, Stored: journal.InstantOf(m.at)}, seq: m.seq})
	}
	slices.SortFunc(found, func(a, b key) int { return cmp.Compare(a.seq, b.seq) })
	keys := make([]seal.WrappedKey, len(found))
	for i, k := range found {
		keys[i] = k.WrappedKey
	}
	return keys, nil
}

// prefetch reads the key stream in bulk, which is much faster than asking for each message, but may be
// behind the leader on a cluster. Whatever goes wrong, there is only less of it.
func (s *Keys) prefetch(ctx context.Context) map[string]stored {
	consumer, err := s.j.keys.CreateConsumer(ctx, js.ConsumerConfig{
		DeliverPolicy:     js.DeliverAllPolicy,
		AckPolicy:         js.AckNonePolicy,
		InactiveThreshold: inactiveThreshold,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return nil
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.j.keys.DeleteConsumer(ctx, consumer.CachedInfo().Name) // or the server forgets it by itself
	}()
	known := make(map[string]stored)
	for ctx.Err() == nil {
		batch, err := consumer.FetchNoWait(2000)
		if err != nil {
			break
		}
		n := 0
		for m := range batch.Messages() {
			n++
			if meta, err := m.Metadata(); err == nil {
				// Of two messages on one subject the older one has been deleted.
				known[m.Subject()] = stored{seq: meta.Sequence.Stream, at: meta.Timestamp, data: m.Data()}
			}
		}
		if n == 0 {
			break
		}
	}
	return known
}

// Delete removes a wrapped key securely: the server writes its block file anew, with noise in the key's place, so
// that no file of the stream holds it. A key that is not there is no error.
func (s *Keys) Delete(ctx context.Context, name seal.KeyName) error {
	subject, err := s.subject(name)
	if err != nil {
		return err
	}
	connected, release := s.j.whileConnected(ctx)
	defer release()
	m, err := s.j.keys.GetLastMsgForSubject(connected, subject)
	if errors.Is(err, js.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return askError(ctx, "delete key", err)
	}
	err = s.j.keys.SecureDeleteMsg(connected, m.Sequence)
	if err != nil && !hasCode(err, codeDeleteMissing) { // else somebody else was faster
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
