package seal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"reflect"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

var testWriter = journal.WriterID{1, 2, 3}

func sealer(tb testing.TB, k *seal.Keyring) *seal.BatchSealer {
	tb.Helper()
	s, err := seal.NewBatchSealer(k, testWriter)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func header() *journal.Header {
	return &journal.Header{
		Journal: journal.ID{9}, Writer: testWriter, Number: 3, Previous: journal.Digest{8},
		Basis: journal.Basis{Seq: 7, Root: journal.Root{6}},
	}
}

func created(i int) journal.Event {
	id := journal.SessionID(string(rune('a' + i)))
	return journal.Event{Kind: journal.KindCreated, Ref: id.Ref(), At: journal.Instant(1000 + i), Created: &journal.Created{
		Source: journal.SourceClient, ID: journal.Sealed("canary-id"), Context: journal.Sealed("canary-context"),
		Label: "canary-label", Principal: "canary-principal", Protocol: "2025-11-25",
		Initialize: []byte(`{"canary":"initialize"}`),
	}}
}

func batchOf(n int) []journal.Event {
	events := make([]journal.Event, n)
	for i := range events {
		events[i] = created(i)
	}
	return events
}

func encode(tb testing.TB, s *seal.BatchSealer, events []journal.Event) []byte {
	tb.Helper()
	data, err := s.Encode(header(), events)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func TestBatchRoundTrip(t *testing.T) {
	k := seal.GenerateKeyring()
	s, o := sealer(t, k), seal.NewBatchOpener(k.Reading())
	rapid.Check(t, func(t *rapid.T) {
		events, h := journaltest.Events(t, 30), header()
		data, err := s.Encode(h, events)
		if err != nil {
			t.Fatal(err)
		}
		b, err := o.Open(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(b.Header, *h) || !reflect.DeepEqual(b.Events, events) || b.Unknown != 0 {
			t.Fatalf("got\n%+v\nwant\n%+v %+v", b, h, events)
		}
	})
}

func TestEncodeSetsTheHeader(t *testing.T) {
	h, events := header(), batchOf(5)
	events[0].At, events[3].At = 2000, 10
	if _, err := sealer(t, keyring(t, testKeys)).Encode(h, events); err != nil {
		t.Fatal(err)
	}
	want := *header()
	want.Key, want.First, want.Last, want.Count, want.Refs = "j1", 10, 2000, 5, journal.MakeRefFilter(events)
	want.Alike = true
	if !reflect.DeepEqual(*h, want) {
		t.Fatalf("got %+v, want %+v", *h, want)
	}
}

func TestEncodeRefuses(t *testing.T) {
	s := sealer(t, seal.GenerateKeyring())
	foreign, unnumbered := header(), header()
	foreign.Writer, unnumbered.Number = journal.WriterID{}, 0
	large := created(0)
	large.Created.Context = make([]byte, journal.MaxPayload)
	for name, row := range map[string]struct {
		h      *journal.Header
		events []journal.Event
		want   error
	}{
		"no events":      {header(), nil, journal.ErrMalformed},
		"another writer": {foreign, batchOf(1), journal.ErrMalformed},
		"no number":      {unnumbered, batchOf(1), journal.ErrMalformed},
		"unknown kind":   {header(), []journal.Event{{Kind: 99}}, journal.ErrMalformed},
		"too large":      {header(), []journal.Event{large}, journal.ErrTooLarge},
		"too many":       {header(), make([]journal.Event, journal.MaxBatchEvents+1), journal.ErrTooLarge},
	} {
		if data, err := s.Encode(row.h, row.events); !errors.Is(err, row.want) || data != nil {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	if _, err := seal.NewBatchOpener(seal.GenerateKeyring()).Open(nil); !errors.Is(err, journal.ErrMalformed) {
		t.Error(err)
	}
	encode(t, s, batchOf(3)) // and it goes on
}

// No byte of a message can be changed, cut off or added without notice.
func TestTamperedBatch(t *testing.T) {
	k := keyring(t, testKeys)
	s, o := sealer(t, k), seal.NewBatchOpener(k)
	for _, n := range []int{1, 20} { // plain and compressed metadata
		data := encode(t, s, batchOf(n))
		if _, err := o.Open(data); err != nil {
			t.Fatal(err)
		}
		for i := range data {
			for _, bit := range []byte{1, 0x80, 0xff} {
				bad := bytes.Clone(data)
				bad[i] ^= bit
				refused(t, o, bad)
			}
			refused(t, o, data[:i])
		}
		refused(t, o, append(bytes.Clone(data), 0))
	}
}

func refused(t *testing.T, o *seal.BatchOpener, data []byte) {
	t.Helper()
	b, err := o.Open(data)
	if b != nil || !errors.Is(err, journal.ErrMalformed) && !errors.Is(err, journal.ErrWrongKey) && !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatalf("%x: %+v, %v", data, b, err)
	}
}

func TestBatchUnderAnotherKey(t *testing.T) {
	k := seal.GenerateKeyring()
	data := encode(t, sealer(t, k), batchOf(2))
	if _, err := seal.NewBatchOpener(seal.GenerateKeyring()).Open(data); !errors.Is(err, journal.ErrWrongKey) {
		t.Fatal(err)
	}
	old := seal.NewBatchOpener(k)
	next := rotated(t, k, seal.RingJournal)
	s := sealer(t, k)
	if err := s.Use(next); err != nil {
		t.Fatal(err)
	}
	later := encode(t, s, batchOf(2))
	if _, err := old.Open(later); !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatal(err)
	}
	old.Use(next)
	for _, data := range [][]byte{data, later} {
		if _, err := old.Open(data); err != nil {
			t.Fatal(err)
		}
	}
	old.Use(seal.GenerateKeyring())
	if _, err := old.Open(data); !errors.Is(err, journal.ErrWrongKey) {
		t.Fatalf("a key of the former keyring is still in use: %v", err)
	}
}

// A message of one writer does not open as another's, even with the same ring: the derived key differs.
func TestBatchOfAnotherWriter(t *testing.T) {
	k := keyring(t, testKeys)
	data := encode(t, sealer(t, k), batchOf(1))
	moved := bytes.Replace(data, testWriter[:], bytes.Repeat([]byte{7}, 16), 1)
	if _, err := seal.NewBatchOpener(k).Open(moved); !errors.Is(err, journal.ErrWrongKey) {
		t.Fatal(err)
	}
}

func TestBatchTellsNothing(t *testing.T) {
	k := seal.GenerateKeyring()
	s := sealer(t, k)
	data := encode(t, s, batchOf(20))
	for _, canary := range []string{"canary", "2025-11-25", "initialize"} {
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s stands in the message", canary)
		}
	}
	ref := created(0).Ref
	if bytes.Contains(data, ref[:]) {
		t.Error("a ref stands in the message")
	}
	if bytes.Equal(data, encode(t, s, batchOf(20))) {
		t.Error("equal batches give equal messages")
	}
}

func TestMessagesAreNeverChanged(t *testing.T) {
	s := sealer(t, seal.GenerateKeyring())
	var messages [][]byte
	var digests [][32]byte
	for i := range 50 {
		data := encode(t, s, batchOf(1+i%7))
		messages, digests = append(messages, data), append(digests, sha256.Sum256(data))
	}
	for i := range messages {
		if sha256.Sum256(messages[i]) != digests[i] {
			t.Fatalf("message %d was changed by a later one", i)
		}
	}
}

// A message's memory is used again once it was given back, and not before.
func TestRecycle(t *testing.T) {
	k := seal.GenerateKeyring()
	s, o := sealer(t, k), seal.NewBatchOpener(k)
	for n := range 50 {
		kept, given := encode(t, s, batchOf(1+n%7)), encode(t, s, batchOf(3))
		digest := sha256.Sum256(kept)
		s.Recycle(given)
		again := encode(t, s, batchOf(1+n%5))
		if sha256.Sum256(kept) != digest {
			t.Fatal("a message was changed that was not given back")
		}
		if b, err := o.Open(again); err != nil || len(b.Events) != 1+n%5 {
			t.Fatal(err)
		}
		s.Recycle(kept)
		s.Recycle(again)
	}
}

func TestOpenAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	k := seal.GenerateKeyring()
	o := seal.NewBatchOpener(k)
	var wg sync.WaitGroup
	for w := range 8 {
		s, err := seal.NewBatchSealer(k, journal.WriterID{byte(w + 1)})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for n := range 30 {
				h := header()
				h.Writer = journal.WriterID{byte(w + 1)}
				data, err := s.Encode(h, batchOf(n+1))
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := o.Open(data); err != nil || len(b.Events) != n+1 {
					t.Error(err)
				}
				if n == 20 {
					o.Use(k)
				}
			}
		})
	}
	wg.Wait()
}

// A stream with very many writers does not grow the opener without end.
func TestOpenManyWriters(t *testing.T) {
	k := keyring(t, testKeys)
	o := seal.NewBatchOpener(k)
	for i := range 3000 {
		w := journal.WriterID{byte(i), byte(i >> 8), 1}
		s, err := seal.NewBatchSealer(k, w)
		if err != nil {
			t.Fatal(err)
		}
		h := header()
		h.Writer = w
		data, err := s.Encode(h, batchOf(1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(data); err != nil {
			t.Fatal(err)
		}
	}
	if n := seal.OpenedWriters(o); n > 1024 {
		t.Fatalf("%d derived keys are kept", n)
	}
}

func TestReadingKeyringCannotLackAKey(t *testing.T) {
	if _, err := seal.NewBatchSealer(&seal.Keyring{}, testWriter); !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatal(err)
	}
}

func FuzzOpen(f *testing.F) {
	k := keyring(f, testKeys)
	o, s := seal.NewBatchOpener(k), sealer(f, k)
	f.Add(encode(f, s, batchOf(1)))
	f.Add(encode(f, s, batchOf(20)))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := o.Open(data)
		if err == nil && !reflect.DeepEqual(b.Events, batchOf(len(b.Events))) {
			t.Fatalf("forged: %+v", b)
		}
	})
}
