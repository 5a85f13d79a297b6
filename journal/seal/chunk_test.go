package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func TestChunkOpensInItsPlaceAlone(t *testing.T) {
	k := seal.GenerateKeyring()
	c, id := seal.NewChunks(k), journal.NewSnapshotID()
	sealed, err := c.Seal(c.Key(), id, []byte("head"), []byte("chunk 1"), []byte("sessions"))
	if err != nil {
		t.Fatal(err)
	}
	reading := seal.NewChunks(k.Reading())
	plain, err := reading.Open(c.Key(), id, []byte("chunk 1"), sealed[4:])
	if err != nil || string(plain) != "sessions" || string(sealed[:4]) != "head" {
		t.Fatalf("%q, %v", plain, err)
	}
	flipped := bytes.Clone(sealed[4:])
	flipped[20] ^= 1
	another := seal.NewChunks(seal.GenerateKeyring())
	for _, row := range []struct {
		name string
		open func() ([]byte, error)
		want error
	}{
		{"another place", func() ([]byte, error) { return c.Open(c.Key(), id, []byte("chunk 2"), sealed[4:]) }, journal.ErrWrongKey},
		{"another snapshot", func() ([]byte, error) { return c.Open(c.Key(), journal.NewSnapshotID(), []byte("chunk 1"), sealed[4:]) }, journal.ErrWrongKey},
		{"a flipped bit", func() ([]byte, error) { return c.Open(c.Key(), id, []byte("chunk 1"), flipped) }, journal.ErrWrongKey},
		{"another keyring", func() ([]byte, error) { return another.Open(c.Key(), id, []byte("chunk 1"), sealed[4:]) }, journal.ErrWrongKey},
		{"no such key", func() ([]byte, error) { return c.Open("j9", id, []byte("chunk 1"), sealed[4:]) }, journal.ErrKeyMissing},
		{"cut off", func() ([]byte, error) { return c.Open(c.Key(), id, []byte("chunk 1"), sealed[4:20]) }, journal.ErrMalformed},
	} {
		if _, err := row.open(); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
}
