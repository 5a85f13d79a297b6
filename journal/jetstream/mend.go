package jetstream

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/highwayhash"
)

// mend makes damaged block files readable for the server: what belongs to no record becomes the record of an erased
// message, so that everything else in the block stays. The files as they were are kept in a folder of their own, which it
// returns.
func mend(dir string, damaged []*block) (kept string, err error) {
	kept = filepath.Join(dir, "damaged-"+time.Now().UTC().Format("20060102T150405.000Z"))
	for _, b := range damaged {
		if err := b.keep(filepath.Join(kept, b.stream)); err != nil {
			return kept, fmt.Errorf("keep %s as it was: %w", b.path, err)
		}
	}
	for _, b := range damaged {
		if err := b.mend(); err != nil {
			return kept, fmt.Errorf("mend %s: %w", b.path, err)
		}
		// It tells of the messages that are gone; the server makes it anew.
		err := os.Remove(filepath.Join(filepath.Dir(b.path), "index.db"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return kept, fmt.Errorf("mend %s: %w", b.stream, err)
		}
	}
	return kept, nil
}

func (b *block) keep(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return writeSynced(filepath.Join(folder, filepath.Base(b.path)), b.data)
}

func (b *block) mend() error {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", b.stream, b.number))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	data := append([]byte(nil), b.data...)
	if b.torn >= 0 {
		data = data[:b.torn]
	}
	for i := range b.faults {
		f := &b.faults[i]
		if f.To-f.From < recordLeast { // only at the end of a file: no record has room there
			data = data[:f.From]
			break
		}
		erase(data[f.From:f.To], f, hash)
	}
	temp := b.path + ".mended"
	if err := writeSynced(temp, data); err != nil {
		return err
	}
	return os.Rename(temp, b.path)
}

// erase makes a record of an erased message out of a damaged part: that of the first message lost there, or, at the
// beginning of a block, of the last one.
func erase(d []byte, f *BlockFault, hash *highwayhash.Digest64) {
	seq := uint64(f.Before) + 1
	if f.From == 0 && f.After > 0 {
		seq = uint64(f.After) - 1
	}
	clear(d)
	binary.LittleEndian.PutUint32(d, uint32(len(d)))
	binary.LittleEndian.PutUint64(d[4:], seq|recordErased)
	hash.Reset()
	_, _ = hash.Write(d[4:20])
	_, _ = hash.Write(d[recordHead : len(d)-recordHash])
	copy(d[len(d)-recordHash:], hash.Sum(nil))
}

// The file cleanFile says that the server was shut down in order, and has nothing to rebuild at its next start.
func cleanFile(dir string) string { return filepath.Join(dir, "jetstream.clean") }

// lookAtBlocks checks the block files of a store that was not shut down in order, or that is to be mended, before the
// server sees them.
func (s *Server) lookAtBlocks() error {
	err := os.Remove(cleanFile(s.o.Dir))
	if clean := err == nil; clean && !s.o.Mend {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data folder: %w", err)
	}
	damaged, torn, err := checkBlocks(s.o.Dir)
	if err != nil || len(damaged) == 0 && !s.o.Mend {
		return err
	}
	e := &BlockError{}
	for _, b := range damaged {
		e.Faults = append(e.Faults, b.faults...)
	}
	if !s.o.Mend {
		return e
	}
	if len(damaged)+len(torn) == 0 {
		return nil
	}
	// After a shutdown in order the server would keep what is torn, and write on behind it.
	kept, err := mend(s.o.Dir, append(damaged, torn...))
	if err != nil {
		return err
	}
	for i := range e.Faults {
		s.o.Logger.Warn().Stringer("fault", &e.Faults[i]).Str("kept", kept).Msg("a damaged block file was mended: the messages in that part are lost, the others stay")
	}
	return nil
}

// leaveClean notes that the store needs no look at the next start.
func (s *Server) leaveClean() {
	if err := writeSynced(cleanFile(s.o.Dir), nil); err != nil {
		s.o.Logger.Warn().Err(err).Msg("the next start will read all block files")
	}
}
