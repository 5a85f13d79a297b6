package jetstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"

	"github.com/minio/highwayhash"

	"github.com/dormouse-mcp/dormouse/journal"
)

// A message that was trimmed or deleted may lie in its block until the server writes that anew. Damage there is no loss.
// That it was removed stands in one of the stream's blocks, or follows from where the stream begins, which index.db
// says: the server writes it at each trim.

// markGone marks the faults of a block in which nothing was that had not been removed. all are the blocks of all streams.
func markGone(b *block, all []*block) {
	if len(b.faults) == 0 {
		return
	}
	removed := make(map[journal.Seq]bool)
	for _, x := range all {
		if x.stream == b.stream {
			for _, seq := range x.removed {
				removed[seq] = true
			}
		}
	}
	first := streamFirst(filepath.Join(filepath.Dir(b.path), "index.db"), b.stream)
	for i := range b.faults {
		f := &b.faults[i]
		if f.After == 0 {
			continue
		}
		f.gone = true
		for seq := max(f.Before+1, first); seq < f.After && f.gone; seq++ {
			f.gone = removed[seq]
		}
	}
}

// streamFirst returns the first message that a stream has, as its index.db says; zero if that does not hold:
//
//	magic (1) | version (1) | messages | bytes | first sequence | … | hash (8)
//
// with uvarints, and a hash whose key is made of the stream's name.
func streamFirst(path, stream string) journal.Seq {
	const magic, head = 11, 2
	data, err := os.ReadFile(path)
	if err != nil || len(data) < head+recordHash || data[0] != magic {
		return 0
	}
	key := sha256.Sum256([]byte(stream))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return 0
	}
	data, sum := data[:len(data)-recordHash], data[len(data)-recordHash:]
	_, _ = hash.Write(data)
	if !bytes.Equal(hash.Sum(nil), sum) {
		return 0
	}
	data = data[head:]
	var first uint64
	for range 3 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			return 0
		}
		first, data = v, data[n:]
	}
	return journal.Seq(first)
}
