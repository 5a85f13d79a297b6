package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// version is the first byte of chunks and manifests. Those of version 1 are read.
const version = 2

// maxChunks is half a terabyte's.
const maxChunks = 1 << 20

// Manifest is the readable part of a manifest: what a snapshot says of itself without a key. Opening the snapshot
// proves it.
type Manifest struct {
	ID       journal.SnapshotID
	Journal  journal.ID
	Fold     uint64 // the fold's version
	Seq      journal.Seq
	Now      journal.Instant // journal time there
	Events   uint64          // folded up to there
	Sessions int
	Bytes    int64 // of all chunks
	Chunks   int
	Taken    journal.Instant // by the taker's clock
	Key      journal.KeyID

	version  byte
	data     []byte
	sealedAt int
}

// secrets are the sealed part of a manifest.
type secrets struct {
	state  journal.Digest // of the whole state
	chunks journal.Digest // of the chunks' tags, in the order of their numbers
	ledger replay.Ledger  // without its lists
}

func (m *Manifest) append(b []byte) []byte {
	b = append(append(append(b, version), m.ID[:]...), m.Journal[:]...)
	for _, n := range [...]uint64{
		m.Fold, uint64(m.Seq), uint64(m.Now), m.Events, uint64(m.Sessions), uint64(m.Bytes), uint64(m.Chunks), uint64(m.Taken),
	} {
		b = binary.AppendUvarint(b, n)
	}
	return appendText(b, string(m.Key))
}

// ParseManifest reads the readable part of a stored manifest. It fails with journal.ErrMalformed.
func ParseManifest(data []byte) (Manifest, error) {
	m := Manifest{data: data}
	r := &reader{b: data}
	if v := r.bytes(1); len(v) == 1 {
		if m.version = v[0]; m.version == 0 || m.version > version {
			return m, fmt.Errorf("manifest: %w: version %d", ErrVersion, m.version)
		}
	}
	r.fixed(m.ID[:])
	r.fixed(m.Journal[:])
	m.Fold, m.Seq, m.Now = r.number(), journal.Seq(r.number()), journal.Instant(r.number())
	m.Events, m.Sessions, m.Bytes = r.number(), r.below(math.MaxInt32), int64(r.below(math.MaxInt64))
	m.Chunks, m.Taken = r.below(maxChunks), journal.Instant(r.number())
	m.Key = journal.KeyID(r.text())
	m.sealedAt = len(data) - len(r.b)
	return m, r.err
}

// sumSize returns how many bytes stand for a chunk.
func (m *Manifest) sumSize() int {
	if m.version == 1 {
		return sumSize
	}
	return len(chunkSum{})
}

// digest returns the state's digest of that version.
func (m *Manifest) digest(l *replay.Ledger, sessions []byte) journal.Digest {
	if m.version == 1 {
		return l.FormerDigest(sessions)
	}
	return l.Digest(sessions)
}

// bound is what ties a manifest together: it opens with its readable part alone.
func (m *Manifest) bound() []byte {
	return append([]byte("dormouse manifest\x00"), m.data[:m.sealedAt]...)
}

// seal returns the manifest to store.
func (m *Manifest) seal(s Sealer, x *secrets) ([]byte, error) {
	m.data = m.append(nil)
	m.sealedAt = len(m.data)
	return s.Seal(m.Key, m.ID, slices.Clip(m.data), m.bound(), x.append(nil))
}

// open reads the sealed part.
func (m *Manifest) open(s Sealer) (*secrets, error) {
	plain, err := s.Open(m.Key, m.ID, m.bound(), m.data[m.sealedAt:])
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	x, err := parseSecrets(plain)
	if err != nil {
		return nil, err
	}
	l := &x.ledger
	l.Journal, l.Seq, l.Now, l.Sessions = m.Journal, m.Seq, m.Now, m.Sessions
	return x, nil
}

func (x *secrets) append(b []byte) []byte {
	l := &x.ledger
	b = append(append(append(b, x.state[:]...), x.chunks[:]...), l.Root[:]...)
	b = binary.AppendUvarint(b, uint64(l.Memory.Milliseconds()))
	b = appendZigzag(b, int64(l.Horizon))
	b = binary.AppendUvarint(b, l.Size)
	b = binary.AppendUvarint(b, uint64(len(l.Frontier)))
	for i := range l.Frontier {
		b = append(b, l.Frontier[i][:]...)
	}
	b = binary.AppendUvarint(b, l.Forgot.Writers)
	b = binary.AppendUvarint(b, uint64(l.Forgot.Seq))
	b = appendZigzag(b, int64(l.Forgot.Seen))
	b = binary.AppendUvarint(b, uint64(len(l.Losses)))
	for i := range l.Losses {
		b = appendText(b, journal.AppendLoss(nil, l.Losses[i]))
	}
	return appendStats(b, &l.Stats)
}

func appendStats(b []byte, s *replay.Stats) []byte {
	for _, n := range [...]uint64{s.Batches, s.Events, s.Unknown, s.Lost, uint64(len(s.Accepted))} {
		b = binary.AppendUvarint(b, n)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Accepted)) {
		b = binary.AppendUvarint(append(b, byte(k)), s.Accepted[k])
	}
	b = binary.AppendUvarint(b, uint64(len(s.Refused)))
	for _, why := range slices.Sorted(maps.Keys(s.Refused)) {
		b = binary.AppendUvarint(appendText(b, string(why)), s.Refused[why])
	}
	return b
}

func parseSecrets(plain []byte) (*secrets, error) {
	var x secrets
	r, l := &reader{b: plain}, &x.ledger
	r.fixed(x.state[:])
	r.fixed(x.chunks[:])
	r.fixed(l.Root[:])
	l.Memory = time.Duration(r.below(int(replay.MaxTimeout.Milliseconds())+1)) * time.Millisecond
	l.Horizon = journal.Instant(r.zigzag())
	l.Size = r.number()
	l.Frontier = make([]journal.Digest, r.count(sha256.Size))
	for i := range l.Frontier {
		r.fixed(l.Frontier[i][:])
	}
	l.Forgot.Writers, l.Forgot.Seq, l.Forgot.Seen = r.number(), journal.Seq(r.number()), journal.Instant(r.zigzag())
	for range r.count(1) {
		loss, err := journal.ParseLoss(r.bytes(r.count(1)))
		if err != nil && r.err == nil {
			r.err = err
		}
		l.Losses = append(l.Losses, loss)
	}
	r.stats(&l.Stats)
	return &x, r.end()
}

func (r *reader) stats(s *replay.Stats) {
	s.Batches, s.Events, s.Unknown, s.Lost = r.number(), r.number(), r.number(), r.number()
	s.Accepted, s.Refused = map[journal.Kind]uint64{}, map[replay.Refusal]uint64{}
	for range r.count(2) {
		k := journal.Kind(r.below(256))
		s.Accepted[k] = r.number()
	}
	for range r.count(2) {
		why := replay.Refusal(r.text())
		s.Refused[why] = r.number()
	}
}
