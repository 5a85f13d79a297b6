package jetstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/minio/highwayhash"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The server keeps a stream's messages in block files, one record behind another:
//
//	length (4, its highest bit: has headers) | sequence (8) | time (8) | length of the subject (2) | subject | … | hash (8)
//
// The hash's key is made of the stream's name and the block's number. When the server finds a damaged record as it reads
// a block anew, which it does after it was not shut down in order, it cuts the block off there: one flipped bit then
// takes everything behind it in the block, written before or after the damage, off the disk for good.
const (
	recordHead  = 22
	recordHash  = 8
	recordLeast = recordHead + recordHash
	recordMost  = 32 << 20

	recordHeaders = 1 << 31 // in the length: the message has headers
	recordErased  = 1 << 63 // in the sequence: the message was erased
	recordRemoved = 1 << 62 // in the sequence: no message, but the removal of one
)

// BlockFault is a damaged part of a block file.
type BlockFault struct {
	Stream string
	File   string
	From   int64 // the first byte that belongs to no record
	To     int64 // the one behind the last
	// Before and After are the messages around it; zero if there are none.
	Before, After journal.Seq

	gone bool // all that was there had been removed before
}

func (f *BlockFault) String() string {
	switch f.After {
	case 0:
		return fmt.Sprintf("%s, %s: messages behind %d are damaged (bytes %d to %d)", f.Stream, filepath.Base(f.File), f.Before, f.From, f.To-1)
	case f.Before + 2:
		return fmt.Sprintf("%s, %s: message %d is damaged (bytes %d to %d)", f.Stream, filepath.Base(f.File), f.Before+1, f.From, f.To-1)
	case f.Before + 1:
		return fmt.Sprintf("%s, %s: there is something between messages %d and %d that is none (bytes %d to %d)", f.Stream, filepath.Base(f.File), f.Before, f.After, f.From, f.To-1)
	default:
		return fmt.Sprintf("%s, %s: messages between %d and %d are damaged (bytes %d to %d)", f.Stream, filepath.Base(f.File), f.Before, f.After, f.From, f.To-1)
	}
}

// BlockError says that block files of a store that was not shut down in order are damaged. The server was not started:
// it would cut the blocks off at the damage. It is journal.ErrDamaged. Make a copy of the folder; ServerOptions.Mend
// keeps what is not damaged.
type BlockError struct{ Faults []BlockFault }

func (e *BlockError) Error() string {
	var b strings.Builder
	b.WriteString("block files of the store are damaged:")
	for i := range e.Faults {
		fmt.Fprintf(&b, "\n  - %v", &e.Faults[i])
	}
	return b.String()
}

// loses reports whether any message is lost there: not if something was half written, and then written again, nor if
// all of it had been removed, and only its bytes were still there.
func (e *BlockError) loses() bool {
	return slices.ContainsFunc(e.Faults, func(f BlockFault) bool { return f.loses() })
}

// A snapshot can be made again: a damaged one is passed over, and where nothing else has what it holds, the restore fails.
func (f *BlockFault) loses() bool {
	return f.After != f.Before+1 && !f.gone && !strings.HasSuffix(f.Stream, "_SNAPSHOTS")
}

// Is makes it journal.ErrDamaged.
func (e *BlockError) Is(target error) bool { return target == journal.ErrDamaged }

// block is a block file.
type block struct {
	stream string
	path   string
	number uint64
	last   bool  // no other follows it
	torn   int64 // where what ends the last block begins, if that is no record
	first  journal.Seq
	final  journal.Seq
	data   []byte
	faults []BlockFault
	err    error

	removed []journal.Seq // messages that it says were removed, from any block of the stream
}

// checkBlocks reads the block files of a stopped store and returns those that are damaged, and those that end with no
// record: what ends a stream's last block is not judged, because a record that was being written when the process was
// killed was not acknowledged.
func checkBlocks(dir string) (damaged, torn []*block, err error) {
	all, err := findBlocks(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("block files: %w", err)
	}
	work := make(chan *block)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for b := range work {
				b.check()
			}
		})
	}
	for _, b := range all {
		work <- b
	}
	close(work)
	wg.Wait()
	for i, b := range all {
		if b.err != nil {
			return nil, nil, fmt.Errorf("block files: %w", b.err)
		}
		for n := range b.faults {
			f := &b.faults[n]
			if f.Before == 0 && i > 0 && all[i-1].stream == b.stream {
				f.Before = all[i-1].final
			}
			if f.After == 0 && !b.last {
				f.After = all[i+1].first
			}
		}
		markGone(b, all)
		switch {
		case len(b.faults) > 0:
			damaged = append(damaged, b)
		case b.data != nil:
			torn = append(torn, b)
		}
	}
	return damaged, torn, nil
}

// findBlocks returns the block files of all streams, in order.
func findBlocks(dir string) ([]*block, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	if err != nil {
		return nil, err
	}
	var all []*block
	for _, path := range paths {
		number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".blk"), 10, 32)
		if err != nil {
			continue // none of the server's
		}
		all = append(all, &block{stream: filepath.Base(filepath.Dir(filepath.Dir(path))), path: path, number: number})
	}
	slices.SortFunc(all, func(a, b *block) int {
		if c := strings.Compare(a.stream, b.stream); c != 0 {
			return c
		}
		return int(int64(a.number) - int64(b.number))
	})
	for i, b := range all {
		b.last = i+1 == len(all) || all[i+1].stream != b.stream
	}
	return all, nil
}

func (b *block) check() {
	data, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		b.err = err
		return
	}
	if bytes.HasPrefix(data, []byte("cmp")) {
		return // compressed: none of Dormouse's streams is
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", b.stream, b.number))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		b.err = err
		return
	}
	b.torn = -1
	b.scan(&records{data: data, hash: hash})
	if len(b.faults) > 0 || b.torn >= 0 {
		b.data = data
	}
}

// scan walks from record to record, and over what is none.
func (b *block) scan(r *records) {
	var before journal.Seq
	for at := 0; at < len(r.data); {
		seq, size, ok := r.at(at)
		if ok {
			if seq&recordRemoved != 0 {
				b.removed = append(b.removed, journal.Seq(seq&^(recordErased|recordRemoved)))
			} else {
				before = max(before, journal.Seq(seq&^recordErased))
				b.final = before
			}
			if b.first == 0 {
				b.first = before
			}
			at += size
			continue
		}
		next, after := r.resume(at+1, before)
		if next < 0 && b.last {
			b.torn = int64(at)
			return
		}
		f := BlockFault{Stream: b.stream, File: b.path, From: int64(at), To: int64(next), Before: before, After: after}
		if next < 0 {
			f.To = int64(len(r.data))
		}
		b.faults = append(b.faults, f)
		at = int(f.To)
	}
}

// records reads the records of one block.
type records struct {
	data []byte
	hash *highwayhash.Digest64
}

// at returns the record that begins at an offset, if there is a good one.
func (r *records) at(offset int) (seq uint64, size int, ok bool) {
	d := r.data[offset:]
	if len(d) < recordLeast {
		return 0, 0, false
	}
	length := binary.LittleEndian.Uint32(d)
	size = int(length &^ recordHeaders)
	subject := int(binary.LittleEndian.Uint16(d[20:]))
	skip := 0
	if length&recordHeaders != 0 {
		skip = 4
	}
	if size < recordLeast || size > recordMost || size > len(d) || recordHead+subject+skip+recordHash > size {
		return 0, 0, false
	}
	r.hash.Reset()
	_, _ = r.hash.Write(d[4:20])
	_, _ = r.hash.Write(d[recordHead : recordHead+subject])
	_, _ = r.hash.Write(d[recordHead+subject+skip : size-recordHash])
	if !bytes.Equal(r.hash.Sum(nil), d[size-recordHash:size]) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(d[4:]), size, true
}

// farthest is how many messages may be lost in one place of a block.
const farthest = 1 << 24

// resume returns where the next good record begins, and its sequence, zero if it is a removal; or -1.
func (r *records) resume(offset int, before journal.Seq) (int, journal.Seq) {
	for ; offset+recordLeast <= len(r.data); offset++ {
		raw := binary.LittleEndian.Uint64(r.data[offset+4:])
		seq := journal.Seq(raw &^ (recordErased | recordRemoved))
		// Nearly every wrong place is ruled out here, without hashing.
		if before > 0 && seq > before+farthest {
			continue
		}
		if _, _, ok := r.at(offset); ok {
			if raw&recordRemoved != 0 {
				seq = 0 // that of any message before
			}
			return offset, seq
		}
	}
	return -1, 0
}
