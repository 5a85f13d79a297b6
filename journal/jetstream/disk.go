package jetstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// DefaultMinFree is what appends leave free on the disk if ServerOptions.MinFree is zero: room for trimming,
// for indexes, and for renewing a file.
const DefaultMinFree = 64 << 20

const (
	minRepairPause = 500 * time.Millisecond
	maxRepairPause = 10 * time.Second
)

// Admit says why n more bytes cannot be stored now: ErrDiskFull, or as Trust. It is cheap enough to ask
// before every publish. A disk that is never filled to the brim needs no repair afterwards: appends go on
// as soon as there is room.
func (s *Server) Admit(n int) error {
	if err := s.Trust(); err != nil {
		return err
	}
	return s.room(int64(n))
}

// room says whether n more bytes leave enough room. Where that cannot be told it says yes.
func (s *Server) room(n int64) error {
	if s.o.MinFree < 0 {
		return nil
	}
	free, err := freeBytes(s.o.Dir)
	if err != nil || free-n >= s.o.MinFree {
		return nil //nolint:nilerr // the server will say so itself if there is no room
	}
	return fmt.Errorf("%w: %d MiB free in %s, of which %d MiB are to stay", ErrDiskFull, free>>20, s.o.Dir, s.o.MinFree>>20)
}

// Trust says why the server's word is not to be trusted: ErrStoreFailed. After a write or sync that failed,
// JetStream still shows the message from memory as if it were stored.
//
// A store that failed is repaired in the background once the disk takes writes again: the NATS server is
// stopped, each stream's newest file written anew, because what a failed sync left in it may be in the page
// cache alone, and the server is started. Connections restore themselves.
func (s *Server) Trust() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil || !s.suspect.Swap(false) || s.ended {
		return s.failure
	}
	var news []string
	for _, what := range ailments(s.nats) {
		if !slices.Contains(s.ailing, what) {
			news = append(news, what)
		}
	}
	if len(news) == 0 {
		return nil
	}
	s.failure = fmt.Errorf("%w: %s", ErrStoreFailed, strings.Join(news, "; "))
	s.logger.log.Error().Err(s.failure).Msg("nothing can be appended until the store is repaired")
	s.repairs.Go(s.repair)
	return s.failure
}

// ailments returns what the server knows to be wrong with itself.
func ailments(n *server.Server) (all []string) {
	for _, e := range n.Healthz(&server.HealthzOptions{Details: true}).Errors {
		all = append(all, e.Error)
	}
	return all
}

// adopt makes n the server that connections lead to, and trusts it.
func (s *Server) adopt(n *server.Server) {
	ailing := ailments(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect.Store(false)
	s.nats, s.ailing, s.failure = n, ailing, nil
}

// repair tries until it succeeds, or until Shutdown.
func (s *Server) repair() {
	timer := time.NewTimer(minRepairPause)
	defer timer.Stop()
	for pause := minRepairPause; ; {
		select {
		case <-s.ending:
			return
		case <-timer.C:
		}
		err := s.repairOnce()
		if err == nil {
			s.logger.log.Info().Msg("the store is repaired")
			return
		}
		s.logger.log.Warn().Err(err).Msg("the store cannot be repaired yet")
		pause = min(2*pause, maxRepairPause)
		timer.Reset(pause)
	}
}

func (s *Server) repairOnce() error {
	if err := s.tryDisk(); err != nil {
		return err
	}
	s.mu.Lock()
	n := s.nats
	s.nats = nil
	s.mu.Unlock()
	if n != nil {
		halt(n)
	}
	renewed := s.renewFiles()
	n, err := s.start()
	if err != nil {
		return errors.Join(renewed, err)
	}
	if renewed != nil { // for readers
		s.mu.Lock()
		defer s.mu.Unlock()
		s.nats = n
		return renewed
	}
	s.adopt(n)
	return nil
}

// tryDisk reports whether the disk has room and takes writes, as large ones as are needed to renew a file.
func (s *Server) tryDisk() error {
	if err := s.room(0); err != nil {
		return err
	}
	blocks, err := s.newestBlocks()
	if err != nil {
		return err
	}
	size := int64(1 << 16)
	for _, path := range blocks {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		size = max(size, info.Size())
	}
	path := s.scratch()
	return errors.Join(writeSynced(path, make([]byte, size)), os.Remove(path))
}

// renewFiles writes the newest file of each stream anew, from what can be read of it.
func (s *Server) renewFiles() error {
	blocks, err := s.newestBlocks()
	if err != nil {
		return err
	}
	for _, path := range blocks {
		if err := renew(path, s.scratch()); err != nil {
			return fmt.Errorf("renew %s: %w", path, err)
		}
	}
	return nil
}

// newestBlocks returns the paths of the files in which the streams' newest messages are.
func (s *Server) newestBlocks() (paths []string, err error) {
	folders, err := filepath.Glob(filepath.Join(s.o.Dir, "jetstream", "*", "streams", "*", "msgs"))
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		path, err := newestBlock(folder)
		if err != nil {
			return nil, err
		}
		if path != "" {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// scratch is where a file is written before it takes another one's place.
func (s *Server) scratch() string { return filepath.Join(s.o.Dir, "repair.tmp") }

// newestBlock returns the path of the file in which a stream's newest messages are, or "".
func newestBlock(folder string) (path string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var newest uint64
	for _, e := range entries {
		var n uint64
		if _, err := fmt.Sscanf(e.Name(), "%d.blk", &n); err == nil && n >= newest {
			newest, path = n, filepath.Join(folder, e.Name())
		}
	}
	return path, nil
}

// renew replaces a file by a synced copy of it.
func renew(path, scratch string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := writeSynced(scratch, data); err != nil {
		return errors.Join(err, os.Remove(scratch))
	}
	if err := os.Rename(scratch, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
