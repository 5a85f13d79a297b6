package seal

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

// TestAppendFrame reads the frames by a decoder that knows nothing of how they were made.
func TestAppendFrame(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	noise := make([]byte, 600<<10)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(noise)
	text := bytes.Repeat([]byte("what repeats from event to event, "), 10_000)
	heads := map[string][]byte{
		"one byte": text[:1], "short": text[:60], "one block": text[:20_000], "many blocks": text, "runs": make([]byte, 300<<10),
		"noise": noise[:1000], "blocks of noise": noise[:300<<10], "mixed": append(bytes.Clone(text[:200_000]), noise[:200_000]...),
	}
	for name, head := range heads {
		for _, n := range []int{1, minDense, maxRawBlock, maxRawBlock + 1, 3*maxRawBlock - 1} {
			raw := noise[len(noise)-n:]
			frame, ok := appendFrame([]byte("before"), p.zstd.EncodeAll(head, nil), len(head)+n, raw)
			if !ok {
				t.Fatalf("%s, %d: no frame", name, n)
			}
			frame = frame[len("before"):]
			if size := unpackedSize(frame); size != len(head)+n {
				t.Errorf("%s, %d: says that it holds %d bytes", name, n, size)
			}
			got, err := dec.DecodeAll(frame, nil)
			if err != nil {
				t.Fatalf("%s, %d: %v", name, n, err)
			}
			if !bytes.Equal(got, append(bytes.Clone(head), raw...)) {
				t.Errorf("%s, %d: came back different", name, n)
			}
		}
	}
}

// TestAppendFrameToOthers gives it frames that it cannot go on from.
func TestAppendFrameToOthers(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	good := p.zstd.EncodeAll(bytes.Repeat([]byte("abcdefgh"), 5_000), nil)
	for n := range good {
		if _, ok := appendFrame(nil, good[:n], 1, []byte{0}); ok {
			t.Errorf("took the first %d bytes of %d", n, len(good))
		}
	}
	if _, ok := appendFrame(nil, append(bytes.Clone(good), 0), 1, []byte{0}); ok {
		t.Error("took more than a frame")
	}
	sums, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := appendFrame(nil, sums.EncodeAll([]byte("some text"), nil), 1, []byte{0}); ok {
		t.Error("took a frame with a checksum")
	}
}

// TestWhatIsCompressed packs crowds of sessions whose metadata is a small or a large part of the message.
func TestWhatIsCompressed(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	crowd := func(n, tenants, context int) []journal.Event {
		events := make([]journal.Event, n)
		for i := range events {
			events[i] = journal.Event{Kind: journal.KindCreated, Ref: journal.NewSessionID().Ref(), Created: &journal.Created{
				Tenant: journal.TenantID{1, byte(i % tenants)}, Context: make([]byte, context),
				Initialize: bytes.Repeat([]byte("n8n "), 50),
			}}
		}
		return events
	}
	for _, c := range []struct {
		name       string
		events     []journal.Event
		compressed bool
	}{
		{"one tenant", crowd(500, 1, 200), false},
		{"fifty tenants", crowd(500, 50, 200), false},
		{"many tenants", crowd(500, 250, 200), true},
		{"small contexts", crowd(500, 50, 20), true},
		{"a small message", crowd(50, 50, 200), true},
	} {
		got, err := p.pack(0, c.events)
		if err != nil {
			t.Fatal(err)
		}
		if got.compressed != c.compressed {
			t.Errorf("%s: compressed: %v, want %v (%d bytes)", c.name, got.compressed, c.compressed, len(got.data))
		}
	}
}
