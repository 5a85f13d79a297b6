package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// spoolMemory is how much of what can be read only once is kept in memory.
const spoolMemory = 8 << 20

// spool keeps what can be read only once for a second reading: what is small in memory, the rest in a file. It may hold
// credentials, so the file is encrypted under a key that is in this process alone, and has no name any more.
type spool struct {
	file   *os.File
	named  bool // an open file cannot be removed here: close does it
	block  cipher.Block
	size   int64
	at     int64
	stream cipher.Stream // stands at at
}

// readTwice returns what r gives, and what to call when it is no longer needed. A file is made in dir; empty means the
// system's folder for such files.
func readTwice(r io.Reader, dir string, memory int64) (io.ReadSeeker, func(), error) {
	var head bytes.Buffer
	if _, err := io.CopyN(&head, r, memory); errors.Is(err, io.EOF) {
		return bytes.NewReader(head.Bytes()), func() {}, nil
	} else if err != nil {
		return nil, nil, err
	}
	f, err := newSpool(dir)
	if err != nil {
		return nil, nil, err
	}
	if err := f.fill(io.MultiReader(&head, r)); err != nil {
		f.close()
		return nil, nil, err
	}
	return f, f.close, nil
}

func newSpool(dir string) (*spool, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "restore-*.tmp") // mode 0600
	if err != nil {
		return nil, err
	}
	return &spool{file: file, block: block, named: os.Remove(file.Name()) != nil}, nil
}

func (f *spool) close() {
	_ = f.file.Close()
	if f.named {
		_ = os.Remove(f.file.Name())
	}
}

// fill writes all of r, and goes back to the beginning.
func (f *spool) fill(r io.Reader) (err error) {
	f.seek(0)
	if f.size, err = io.Copy(cipher.StreamWriter{S: f.stream, W: f.file}, r); err != nil {
		return err
	}
	f.seek(0)
	return nil
}

// seek goes to a place: the key stream is AES in counter mode, from zero on.
func (f *spool) seek(at int64) {
	var counter, skip [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(at/aes.BlockSize))
	f.at, f.stream = at, cipher.NewCTR(f.block, counter[:])
	f.stream.XORKeyStream(skip[:at%aes.BlockSize], skip[:at%aes.BlockSize])
}

// Read implements io.Reader.
func (f *spool) Read(p []byte) (int, error) {
	n, err := f.file.ReadAt(p, f.at)
	f.stream.XORKeyStream(p[:n], p[:n])
	f.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker.
func (f *spool) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 {
		return 0, os.ErrInvalid
	}
	f.seek(offset)
	return offset, nil
}
