package snapshot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func apply(t fataler, s *replay.State, messages ...journal.Message) {
	t.Helper()
	for _, m := range messages {
		b, err := replaytest.Opener{}.Open(m.Data)
		must(t, err)
		must(t, s.Apply(m, b))
	}
}

// plain is a Sealer that seals nothing, so that equal states give equal bytes.
type plain struct{}

func (plain) Key() journal.KeyID { return "none" }

func (plain) Seal(_ journal.KeyID, _ journal.SnapshotID, dst, _, p []byte) ([]byte, error) {
	return append(dst, p...), nil
}

func (plain) Open(_ journal.KeyID, _ journal.SnapshotID, _, sealed []byte) ([]byte, error) {
	return sealed, nil
}

func write(t fataler, st snapshot.Store, s snapshot.Sealer, state *replay.State) *snapshot.Manifest {
	t.Helper()
	m, err := snapshot.Write(context.Background(), st, s, state.Freeze(), 1)
	must(t, err)
	return stored(t, st, m.ID)
}

// stored returns the manifest as a reader finds it.
func stored(t fataler, st snapshot.Store, id journal.SnapshotID) *snapshot.Manifest {
	t.Helper()
	list, err := st.Snapshots(context.Background())
	must(t, err)
	i := slices.IndexFunc(list, func(x journal.StoredSnapshot) bool { return x.ID == id })
	m, err := snapshot.ParseManifest(list[i].Manifest)
	must(t, err)
	return &m
}

func load(t fataler, st snapshot.Store, s snapshot.Sealer, m *snapshot.Manifest) *replay.State {
	t.Helper()
	state, err := snapshot.Load(context.Background(), st, s, m, nil)
	must(t, err)
	return state
}

// dump returns all that is stored of a state, without its seals.
func dump(t fataler, state *replay.State) []byte {
	t.Helper()
	var st memory.Snapshots
	m := write(t, &st, plain{}, state)
	var chunks [][]byte
	must(t, st.Chunks(context.Background(), m.ID, func(data []byte) error {
		chunks = append(chunks, data)
		return nil
	}))
	slices.SortFunc(chunks, bytes.Compare)
	list, err := st.Snapshots(context.Background())
	must(t, err)
	return append(bytes.Join(chunks, nil), list[0].Manifest[17:]...) // without the ID
}

// sample is a small state in which there is something of everything.
func sample(t fataler) *replay.State {
	t.Helper()
	s := replay.NewState()
	w := replaytest.Writer{Journal: journal.ID{1}, ID: journal.WriterID{1}}
	now := replaytest.Start
	put := func(events ...journal.Event) {
		now = now.Add(time.Second)
		for i := range events {
			events[i].At = now
		}
		apply(t, s, journal.Message{Seq: s.Seq() + 1, Time: now, Data: w.Batch(journal.Basis{Seq: s.Seq(), Root: s.Root()}, events...)})
	}
	for i := range 40 {
		put(journal.Event{Kind: journal.KindCreated, Ref: replaytest.Ref(i), Created: &journal.Created{
			Source: journal.SourceClient, ID: journal.Sealed(fmt.Sprintf("sealed ID %d", i)), Context: journal.Sealed("sealed context"),
			Tenant: journal.TenantID{byte(i % 3)}, Label: "acme", Key: "d1", Fingerprint: journal.Fingerprint{1}, URLHash: journal.URLHash{2},
			Principal: "token:alice", Initialize: json.RawMessage(`{"clientInfo":{"name":"c"}}`), Protocol: "2025-06-18",
			Timeout: time.Duration(1+i%2) * time.Hour, CreatedAt: now,
		}})
	}
	put(
		journal.Event{Kind: journal.KindAccessed, Ref: replaytest.Ref(7), Call: journal.Call{Number: 1, Method: "tools/call", Outcome: journal.OutcomeOK}},
		journal.Event{Kind: journal.KindChanged, Ref: replaytest.Ref(5), Changed: &journal.Changed{
			Tenant: journal.TenantID{2}, URLHash: journal.URLHash{2}, LogLevel: "debug", Subscribed: []string{"file:///b", "file:///a"},
		}},
		journal.Event{Kind: journal.KindBound, Ref: replaytest.Ref(6), Epoch: 1, Bound: &journal.Bound{Replica: "one"}},
		journal.Event{Kind: journal.KindBound, Ref: replaytest.Ref(6), Epoch: 1, Bound: &journal.Bound{Replica: "one", Upstream: journal.Sealed("sealed upstream"), Key: "d1"}},
		journal.Event{Kind: journal.KindClosed, Ref: replaytest.Ref(9), Reason: journal.ReasonClient},
		journal.Event{Kind: journal.KindClosed, Ref: replaytest.Ref(9), Reason: journal.ReasonClient},
		journal.Event{Kind: journal.KindTenantErased, Note: &journal.Note{Tenant: journal.TenantID{8}, Keys: []journal.KeyID{"d8", "d9"}}},
	)
	return s
}

func TestLawSnapshotAnywhere(t *testing.T) {
	sealer := seal.NewChunks(seal.GenerateKeyring())
	rapid.Check(t, func(t *rapid.T) {
		messages := replaytest.History(t)
		cut := rapid.IntRange(0, len(messages)).Draw(t, "cut")
		all, half := replay.NewState(), replay.NewState()
		apply(t, all, messages...)
		apply(t, half, messages[:cut]...)

		var st memory.Snapshots
		m := write(t, &st, sealer, half)
		must(t, snapshot.Verify(context.Background(), &st, sealer, m)) //nolint:usetesting // rapid's T has none
		loaded := load(t, &st, sealer, m)
		if loaded.Digest() != half.Digest() {
			t.Fatalf("what was loaded is not what was written")
		}
		apply(t, loaded, messages[cut:]...)
		if loaded.Digest() != all.Digest() {
			t.Fatalf("a snapshot at %d and the tail give another state than everything", cut)
		}
		if !bytes.Equal(dump(t, loaded), dump(t, all)) {
			t.Fatalf("they are written in other bytes")
		}
		again := load(t, &st, sealer, m)
		apply(t, again, messages[cut:]...)
		if again.Digest() != all.Digest() {
			t.Fatalf("restored twice is not restored once")
		}
	})
}

// What is folded after a freeze does not show in it.
func TestLawFrozenStaysAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages := replaytest.History(t)
		cut := rapid.IntRange(0, len(messages)).Draw(t, "cut")
		s := replay.NewState()
		apply(t, s, messages[:cut]...)
		want := s.Digest()
		var frozen []*replay.Frozen
		for i := range rapid.IntRange(1, 3).Draw(t, "freezes") {
			frozen = append(frozen, s.Freeze())
			if i == 1 {
				frozen[0].Release()
				frozen = frozen[1:]
			}
		}
		apply(t, s, messages[cut:]...)
		all := s.Digest()
		for _, f := range frozen {
			var st memory.Snapshots
			m, err := snapshot.Write(context.Background(), &st, plain{}, f, 1) //nolint:usetesting // rapid's T has none
			must(t, err)
			if got := load(t, &st, plain{}, stored(t, &st, m.ID)); got.Digest() != want {
				t.Fatalf("a frozen state changed")
			}
		}
		if s.Digest() != all {
			t.Fatalf("writing changed the state")
		}
	})
}

func TestDamageIsFound(t *testing.T) {
	s := sample(t)
	keyring := seal.GenerateKeyring()
	sealer := seal.NewChunks(keyring)
	var st memory.Snapshots
	m := write(t, &st, sealer, s)
	flip := func(data []byte) []byte { data[len(data)/2] ^= 1; return data }
	for _, row := range []struct {
		name   string
		number int
		damage func([]byte) []byte
		want   error
	}{
		{"a flipped bit", 1, flip, journal.ErrWrongKey},
		{"a missing chunk", 1, func([]byte) []byte { return nil }, snapshot.ErrIncomplete},
		{"a missing list", m.Chunks, func([]byte) []byte { return nil }, snapshot.ErrIncomplete},
		{"a chunk cut off", 1, func(b []byte) []byte { return b[:len(b)-1] }, journal.ErrWrongKey},
		{"a newer form", 1, func(b []byte) []byte { b[0]++; return b }, snapshot.ErrVersion},
		{"a flipped bit in the manifest", 0, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, journal.ErrWrongKey},
		{"a manifest that promises more", 0, func(b []byte) []byte { b[34]++; return b }, journal.ErrWrongKey},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := write(t, &st, sealer, s)
			st.Damage(m.ID, row.number, row.damage)
			m = stored(t, &st, m.ID)
			for _, read := range []func() error{
				func() error { _, err := snapshot.Load(t.Context(), &st, sealer, m, nil); return err },
				func() error { return snapshot.Verify(t.Context(), &st, sealer, m) },
			} {
				if err := read(); !errors.Is(err, row.want) {
					t.Errorf("%v, want %v", err, row.want)
				}
			}
		})
	}
	if _, err := snapshot.Load(t.Context(), &st, seal.NewChunks(seal.GenerateKeyring()), m, nil); !errors.Is(err, journal.ErrWrongKey) {
		t.Errorf("another keyring: %v", err)
	}
	if got := load(t, &st, seal.NewChunks(keyring.Reading()), m); got.Digest() != s.Digest() {
		t.Error("a reading keyring reads something else")
	}
}
