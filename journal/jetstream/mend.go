package jetstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// mend makes damaged block files readable for the server: what belongs to no record is taken out, so that everything
// else in the block stays. The files as they were are kept in a folder of their own, which it returns.
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

// mend takes out what belongs to no record. The server takes the sequences that are then missing for those of deleted
// messages.
func (b *block) mend() error {
	data := b.data
	if b.torn >= 0 {
		data = data[:b.torn]
	}
	var whole []byte
	var at int64
	for i := range b.faults {
		whole = append(whole, data[at:b.faults[i].From]...)
		at = b.faults[i].To
	}
	temp := b.path + ".mended"
	if err := writeSynced(temp, append(whole, data[at:]...)); err != nil {
		return err
	}
	return os.Rename(temp, b.path)
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
	s.tellTorn(torn)
	if err != nil || len(damaged) == 0 && !s.o.Mend {
		return err
	}
	e := &BlockError{}
	for _, b := range damaged {
		e.Faults = append(e.Faults, b.faults...)
	}
	if !s.o.Mend && e.loses() {
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
	s.mended = e.Faults
	for i := range e.Faults {
		s.o.Logger.Warn().Stringer("fault", &e.Faults[i]).Str("kept", kept).Msg("a damaged block file was mended: what is not damaged stays")
	}
	return nil
}

// tellTorn warns of streams that end with a record of full length that is none. After a loss of power it was being
// written, and nobody has an acknowledgement of it. If it is damage, the message is lost, and the high-water marks tell.
func (s *Server) tellTorn(torn []*block) {
	for _, b := range torn {
		rest := b.data[b.torn:]
		if len(rest) < recordLeast || int(binary.LittleEndian.Uint32(rest)&^uint32(recordHeaders)) != len(rest) {
			continue
		}
		s.o.Logger.Warn().Str("stream", b.stream).Uint64("behind", uint64(b.final)).Int64("byte", b.torn).
			Msg("the last record of a block file does not hold: it was being written when the power went, or it is damaged")
	}
}

// Mended returns the damaged parts of block files that were taken out at the start, those aside that held no message.
func (s *Server) Mended() []BlockFault {
	return slices.DeleteFunc(slices.Clone(s.mended), func(f BlockFault) bool { return !f.loses() })
}

// leaveClean notes that the store needs no look at the next start.
func (s *Server) leaveClean() {
	if err := writeSynced(cleanFile(s.o.Dir), nil); err != nil {
		s.o.Logger.Warn().Err(err).Msg("the next start will read all block files")
	}
}
