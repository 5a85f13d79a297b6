package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

// EachStateInFile calls fn with each session of what a StateWriter wrote, and reads r to its end. Nothing reaches fn
// that was not written under the key, but what comes before a fault does: read a file twice, if all of it must be right.
//
// It returns fn's error as it is. Otherwise it fails with journal.ErrMalformed (no such file, cut off, of another
// version), journal.ErrWrongKey (another key, or it was changed), or what reading failed with.
func EachStateInFile(r io.Reader, key []byte, fn func(*SessionState) error) error {
	head := make([]byte, len(stateMagic)+stateSalt)
	if _, err := io.ReadFull(r, head); err != nil {
		return cutOff(err)
	}
	if !IsStateFile(head) || string(head[:len(stateMagic)]) != stateMagic {
		return fmt.Errorf("session file: %w: of another kind or version", journal.ErrMalformed)
	}
	open, err := newStateSealer(key, head)
	if err != nil {
		return err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxStateRaw))
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	defer dec.Close()
	var sealed []byte
	for {
		if sealed, err = readFrame(r, sealed); err != nil {
			return err
		}
		plain, last, err := open.frameOf(sealed)
		if err != nil {
			return err
		}
		if err := eachRow(dec, plain, fn); err != nil {
			return err
		}
		if last {
			return atEnd(r)
		}
	}
}

// readFrame reads the next frame into buf.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var length [frameLength]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, cutOff(err)
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	if n > maxSealed {
		return nil, fmt.Errorf("session file: %w: a frame of %d bytes", journal.ErrMalformed, n)
	}
	b := bytes.NewBuffer(buf[:0]) // grows as it is filled: the length is not believed
	if _, err := io.CopyN(b, r, n); err != nil {
		return nil, cutOff(err)
	}
	return b.Bytes(), nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("session file: %w: it is cut off", journal.ErrMalformed)
	}
	return fmt.Errorf("session file: %w", err)
}

func atEnd(r io.Reader) error {
	var more [1]byte
	switch n, err := io.ReadFull(r, more[:]); {
	case n > 0:
		return fmt.Errorf("session file: %w: something behind its end", journal.ErrMalformed)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("session file: %w", err)
	}
	return nil
}

// frameOf opens the next frame, and tells whether it is the last one.
func (s *stateSealer) frameOf(sealed []byte) (plain []byte, last bool, err error) {
	nonce := s.nonce(false)
	if plain, err := s.aead.Open(nil, nonce, sealed, s.head); err == nil {
		return plain, false, nil
	}
	nonce[nonceBytes-1] = lastFrame
	if plain, err = s.aead.Open(nil, nonce, sealed, s.head); err != nil {
		return nil, false, fmt.Errorf("session file: %w", journal.ErrWrongKey)
	}
	return plain, true, nil
}

func eachRow(dec *zstd.Decoder, plain []byte, fn func(*SessionState) error) error {
	defer clear(plain)
	n, k := binary.Uvarint(plain)
	if k <= 0 || n > uint64(len(plain)-k) {
		return fmt.Errorf("session file: %w: a frame: its length", journal.ErrMalformed)
	}
	columns, err := dec.DecodeAll(plain[k:k+int(n)], nil)
	if err != nil {
		return fmt.Errorf("session file: %w: a frame: %w", journal.ErrMalformed, err)
	}
	defer clear(columns)
	rows := newStateRows(columns, plain[k+int(n):])
	for s, ok := rows.next(); ok; s, ok = rows.next() {
		if err := fn(&s); err != nil {
			return err
		}
	}
	return rows.err
}

// StatesAsJSON returns a reader of what EncodeSessionStates would give for the sessions of a file, read as
// EachStateInFile does, one frame at a time. Close it.
func StatesAsJSON(r io.Reader, key []byte) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		before := "["
		err := EachStateInFile(r, key, func(s *SessionState) error {
			text, err := EncodeSessionState(s)
			if err == nil {
				_, err = in.Write(append([]byte(before), text...))
			}
			before = ","
			return err
		})
		end := "]"
		if before == "[" {
			end = "[]"
		}
		if err == nil {
			_, err = io.WriteString(in, end)
		}
		_ = in.CloseWithError(err)
	}()
	return out
}
