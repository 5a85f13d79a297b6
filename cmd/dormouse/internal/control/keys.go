package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"
)

// The states of a key of a ring.
const (
	KeyCurrent  = "current"  // new things are sealed under it
	KeyOlder    = "older"    // opens what was sealed before
	KeyPrepared = "prepared" // the next rotation makes it current
)

// Keys is what may be told of a keyring: never a key.
type Keys struct {
	Source string `json:"source"` // the key file's path, or DORMOUSE_KEYS
	Keys   []Key  `json:"keys"`
}

// Key is one key of a ring.
type Key struct {
	Ring        string    `json:"ring"`
	ID          string    `json:"id"`
	State       string    `json:"state"`
	Made        time.Time `json:"made,omitzero"`
	Fingerprint string    `json:"fingerprint"`
	Wraps       *int      `json:"wraps,omitempty"`   // tenant ring: the data keys that it wraps
	Batches     *uint64   `json:"batches,omitempty"` // journal ring, if they were counted
}

// RotateQuery says what to rotate.
type RotateQuery struct {
	Rings   []string // journal, tenant
	Prepare bool     // make the new keys, and do not use them yet
	Who     string   // who asked, for the record
}

// Rotated is what came of a rotation or of retiring keys.
type Rotated struct {
	Source   string       `json:"source"`
	Rings    []RotatedKey `json:"rings,omitempty"`
	Prepared bool         `json:"prepared"` // not in use yet
	Wrapped  int          `json:"wrapped"`  // data keys that were wrapped anew
	Retired  []string     `json:"retired,omitempty"`
}

// RotatedKey is one ring's rotation.
type RotatedKey struct {
	Ring        string `json:"ring"`
	From        string `json:"from"`
	To          string `json:"to"`
	Fingerprint string `json:"fingerprint"` // of To
}

// Keys tells of the keyring; count also counts the batches under each key, which reads the whole journal.
func (c *Client) Keys(ctx context.Context, count bool) (k Keys, err error) {
	path := "/v1/keys"
	if count {
		path += "?count=1"
	}
	return k, c.get(ctx, path, &k)
}

// ReadingKeys returns the text of a keyring with the journal ring alone.
func (c *Client) ReadingKeys(ctx context.Context) ([]byte, error) {
	res, err := c.do(ctx, http.MethodGet, "/v1/keys/reading")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// Rotate rotates rings of the keyring.
func (c *Client) Rotate(ctx context.Context, q RotateQuery) (r Rotated, err error) {
	v := url.Values{"ring": q.Rings, "who": {q.Who}}
	if q.Prepare {
		v.Set("prepare", "1")
	}
	return r, c.post(ctx, "/v1/keys/rotate?"+v.Encode(), &r)
}

// RetireKeys drops the older keys of the tenant ring that nothing is wrapped under any more.
func (c *Client) RetireKeys(ctx context.Context, who string) (r Rotated, err error) {
	return r, c.post(ctx, "/v1/keys/retire?"+url.Values{"who": {who}}.Encode(), &r)
}

func (c *Client) post(ctx context.Context, path string, into any) error {
	res, err := c.do(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}

func (b *Backend) keys(w http.ResponseWriter, r *http.Request) error {
	k, err := b.Keys(r.Context(), r.FormValue("count") != "")
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, k)
	return nil
}

func (b *Backend) reading(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, err := w.Write(b.ReadingKeys())
	return err
}

func (b *Backend) rotate(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return &problem{http.StatusBadRequest, err.Error()}
	}
	q := RotateQuery{Rings: r.Form["ring"], Prepare: r.Form.Has("prepare"), Who: r.Form.Get("who")}
	out, err := b.Rotate(r.Context(), q)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (b *Backend) retire(w http.ResponseWriter, r *http.Request) error {
	out, err := b.RetireKeys(r.Context(), r.FormValue("who"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}
