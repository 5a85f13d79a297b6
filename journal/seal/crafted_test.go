package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

// A plaintext that no sealer makes, under the right key: it must be refused as malformed, without panic
// and without much memory.
func TestCraftedPlaintext(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	bomb := enc.EncodeAll(make([]byte, 64<<20), nil)
	packed := func(zmeta []byte) []byte {
		return append(binary.AppendUvarint(nil, uint64(len(zmeta))<<1|1), zmeta...)
	}
	k := GenerateKeyring()
	o := NewBatchOpener(k)
	for name, plain := range map[string][]byte{
		"no length":       {0x80},
		"length too long": {200, 1, 2, 3},
		"endless length":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"huge length":     binary.AppendUvarint(nil, 1<<63),
		"no zstd":         packed([]byte("junk junk junk")),
		"empty zstd":      packed(nil),
		"cut off zstd":    packed(bomb[:len(bomb)/2]),
		"bomb":            packed(bomb),
		"empty meta":      {0},
		"junk meta":       {8, 1, 2, 3, 4},
		"no event":        packed(enc.EncodeAll([]byte{}, nil)),
	} {
		t.Run(name, func(t *testing.T) {
			b, err := o.Open(craft(t, k, plain))
			if b != nil || !errors.Is(err, journal.ErrMalformed) {
				t.Fatalf("%+v, %v", b, err)
			}
		})
	}
	data := craft(t, k, packed(bomb))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = o.Open(data)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("a bomb of %d bytes took %d bytes", len(data), n)
	}
}

// Behind the right key too, hostile bytes neither panic nor pass for something else.
func FuzzPlaintext(f *testing.F) {
	k := GenerateKeyring()
	o := NewBatchOpener(k)
	touched := []byte{10, 2, 8, byte(journal.KindTouched)}
	f.Add(append([]byte{8}, touched...))
	f.Add(append([]byte{9}, touched...))
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	packed := enc.EncodeAll(touched, nil)
	f.Add(append([]byte{byte(len(packed)<<1 | 1)}, packed...))
	f.Fuzz(func(t *testing.T, plain []byte) {
		b, err := o.Open(craft(t, k, plain))
		switch {
		case err != nil && !errors.Is(err, journal.ErrMalformed):
			t.Fatal(err)
		case err == nil && len(b.Events) != 1:
			t.Fatalf("%d events", len(b.Events))
		}
	})
}

func craft(tb testing.TB, k *Keyring, plain []byte) []byte {
	tb.Helper()
	w := journal.WriterID{1}
	key, _ := k.journal.sealing()
	aead, err := batchAEAD(key.key, w)
	if err != nil {
		tb.Fatal(err)
	}
	data := journal.AppendHeader(nil, &journal.Header{Key: key.id, Writer: w, Number: 1, Count: 1})
	nonce := make([]byte, nonceSize)
	return aead.Seal(append(data, nonce...), nonce, plain, data)
}

// Metadata is compressed only where that makes it smaller.
func TestPackKeepsWhatDoesNotShrink(t *testing.T) {
	noisy := func(n int) []journal.Event {
		events := make([]journal.Event, n)
		for i := range events {
			sum := newSecret()
			events[i] = journal.Event{Kind: journal.KindClosed, Reason: journal.ReasonClient, Ref: journal.Ref(sum[:16])}
		}
		return events
	}
	same := func(n int) []journal.Event {
		events := make([]journal.Event, n)
		for i := range events {
			events[i] = journal.Event{Kind: journal.KindTouched, Ref: journal.Ref{1}}
		}
		return events
	}
	s, err := NewBatchSealer(GenerateKeyring(), journal.WriterID{1})
	if err != nil {
		t.Fatal(err)
	}
	for _, events := range [][]journal.Event{
		noisy(1), noisy(100), noisy(1000), same(1), same(100), same(1000), append(noisy(100), same(100)...),
	} {
		meta, _, err := journal.AppendEvents(nil, 0, events)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.packer.pack(0, events)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case p.compressed && (len(p.data) >= len(meta) || len(meta) < minCompress):
			t.Errorf("%d events: %d bytes were compressed to %d", len(events), len(meta), len(p.data))
		case !p.compressed && !bytes.Equal(p.data, meta):
			t.Errorf("%d events: %d plain bytes of %d", len(events), len(p.data), len(meta))
		}
	}
}
