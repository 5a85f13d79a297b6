package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"
)

// keySet holds the keys that an issuer publishes (RFC 7517). It asks for them again when they are old, and when a token
// names one that it does not know, but never more often than once in keysPause, whatever tokens arrive: made-up key IDs
// do not reach the issuer. After a failure the former keys stay until they are keysDead old. Safe for concurrent use.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time
	log    zerolog.Logger

	keys   atomic.Pointer[publishedKeys] // nil = none were ever read
	flight chan struct{}                 // held by who asks
	tried  atomic.Int64                  // when that was last, Unix nanoseconds

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup  // keys being renewed
	ctx    context.Context //nolint:containedctx // ends the tasks
	cancel context.CancelFunc
}

type publishedKeys struct {
	byID map[string]jose.JSONWebKey
	at   time.Time
}

const (
	keysPause   = 10 * time.Second // between two questions
	keysOld     = 10 * time.Minute // then they are asked for again, in the background: a withdrawn key is good that long
	keysDead    = 24 * time.Hour   // keys that could not be confirmed for so long are not believed any more
	keysTimeout = 5 * time.Second
	maxKeySet   = 1 << 20 // bytes
	maxKeys     = 1000
)

// errNoKey says that the issuer has no such key.
var errNoKey = errors.New("no published key has this ID")

func newKeySet(url string, client *http.Client, now func() time.Time, log zerolog.Logger) *keySet {
	if client == nil {
		client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	own := *client
	own.Timeout = keysTimeout
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	k := &keySet{url: url, client: &own, now: now, log: log, flight: make(chan struct{}, 1)}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// find returns the key with that ID: errNoKey, ErrAuthUnavailable, or ctx's cause.
func (k *keySet) find(ctx context.Context, id string) (jose.JSONWebKey, error) {
	if set := k.usable(); set != nil {
		if key, ok := set.byID[id]; ok {
			if k.now().Sub(set.at) > keysOld {
				k.renew()
			}
			return key, nil
		}
	}
	err := k.refresh(ctx)
	set := k.usable()
	if set == nil {
		return jose.JSONWebKey{}, errors.Join(ErrAuthUnavailable, err)
	}
	if key, ok := set.byID[id]; ok {
		return key, nil
	}
	return jose.JSONWebKey{}, errNoKey
}

func (k *keySet) usable() *publishedKeys {
	set := k.keys.Load()
	if set == nil || k.now().Sub(set.at) > keysDead {
		return nil
	}
	return set
}

// renew asks for the keys in the background.
func (k *keySet) renew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || len(k.flight) > 0 || k.justTried() {
		return
	}
	k.tasks.Go(func() { _ = k.refresh(k.ctx) }) // logged there; the former keys stay
}

func (k *keySet) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.tasks.Wait()
	k.client.CloseIdleConnections()
}

// refresh asks for the keys, unless that was done a moment ago. Those who come meanwhile wait for the same answer.
func (k *keySet) refresh(ctx context.Context) error {
	select {
	case k.flight <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-k.flight }()
	if k.justTried() {
		return nil
	}
	k.tried.Store(k.now().UnixNano())
	set, err := k.fetch()
	if err != nil {
		k.log.Error().Err(err).Msg("the issuer's keys cannot be read; those known stay")
		return err
	}
	k.keys.Store(set)
	return nil
}

func (k *keySet) justTried() bool { return k.now().UnixNano()-k.tried.Load() < int64(keysPause) }

// fetch asks whoever waits for it or not: the answer is everybody's.
func (k *keySet) fetch() (*publishedKeys, error) {
	r, err := http.NewRequestWithContext(k.ctx, http.MethodGet, k.url, nil) //nolint:gosec // the URL is the operator's
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", typeJSON)
	resp, err := k.client.Do(r) //nolint:gosec // the URL is the operator's
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answered HTTP %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("the issuer's answer has more than %d bytes", maxKeySet)
	}
	byID, err := readKeys(body)
	return &publishedKeys{byID: byID, at: k.now()}, err
}

// readKeys returns the keys that can verify signatures. Others (encryption keys, symmetric ones, kinds that are not known)
// are left out: they must not make the good ones unusable.
func readKeys(body []byte) (map[string]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("the issuer's answer is no key set")
	}
	byID := make(map[string]jose.JSONWebKey)
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil || key.Use != "" && key.Use != "sig" {
			continue
		}
		key = key.Public() // empty for symmetric keys
		if key.Valid() && key.IsPublic() {
			if _, twice := byID[key.KeyID]; !twice {
				byID[key.KeyID] = key
			}
		}
	}
	if len(byID) == 0 {
		return nil, errors.New("the issuer publishes no key that verifies signatures")
	}
	return byID, nil
}
