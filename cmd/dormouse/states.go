package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// states is a JSON array of session states that was checked to its end, and is read again from its beginning.
type states struct {
	io.Reader
	name    string
	form    string // formEncrypted, formSnapshot or formJSON
	size    int64  // of the JSON
	entries int
	close   func()
}

var errForeign = errors.New("no export of sessions")

// openStates opens and checks a file; "-" is standard input. key is asked for the key of an encrypted one. What can be
// read only once, and is large, is kept in dir meanwhile.
func openStates(name, dir string, s console.Streams, key func() ([]byte, error)) (*states, error) {
	f := &states{name: name, form: formJSON, close: func() {}}
	in, err := f.open(s, dir)
	if err == nil {
		err = f.read(in, key)
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return f, nil
}

// open returns what can be read twice.
func (f *states) open(s console.Streams, dir string) (io.ReadSeeker, error) {
	if f.name == "-" {
		f.name = "standard input"
		return f.spool(s.In, dir)
	}
	file, err := os.Open(f.name)
	if err != nil {
		return nil, errors.Unwrap(err) // the name is in front already
	}
	f.close = func() { _ = file.Close() }
	if info, err := file.Stat(); err != nil || info.Mode().IsRegular() {
		return file, err
	}
	defer file.Close() // a pipe
	return f.spool(file, dir)
}

// spool returns what r gives as what can be read twice.
func (f *states) spool(r io.Reader, dir string) (io.ReadSeeker, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		dir = ""
	}
	in, done, err := readTwice(r, dir, spoolMemory)
	if err == nil {
		f.close = done
	}
	return in, err
}

func (f *states) read(in io.ReadSeeker, key func() ([]byte, error)) error {
	head, err := skipSpace(in)
	if err != nil {
		return err
	}
	if engine.IsStateFile(head) {
		f.form = formSnapshot
		k, err := key()
		if err != nil {
			return err
		}
		return f.readFile(in, k)
	}
	if engine.IsEncryptedText(head) {
		f.form = formEncrypted
		k, err := key()
		if err != nil {
			return err
		}
		plain, err := engine.ReadEncrypted(in, k)
		if err != nil {
			return console.Failed(err, "the key is another, or the file was cut off or changed; nothing was restored")
		}
		in = bytes.NewReader(plain)
	}
	if err := f.check(bufio.NewReaderSize(in, 64<<10)); err != nil {
		return console.Failed(err, "want a JSON array of session states, their encrypted form iv:authTag:ciphertext, or what 'dormouse export' wrote; nothing was restored")
	}
	if f.size, err = in.Seek(0, io.SeekEnd); err == nil {
		_, err = in.Seek(0, io.SeekStart)
	}
	f.Reader = in
	return err
}

// readFile checks a file in the snapshot form to its end, and reads it again from its beginning.
func (f *states) readFile(in io.ReadSeeker, key []byte) error {
	begin, err := in.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	array := engine.StatesAsJSON(bufio.NewReaderSize(in, 64<<10), key)
	err = errors.Join(f.check(io.TeeReader(array, f)), array.Close())
	if err != nil {
		return console.Failed(err, "the key is another, or the file was cut off or changed; nothing was restored")
	}
	if _, err := in.Seek(begin, io.SeekStart); err != nil {
		return err
	}
	again := engine.StatesAsJSON(bufio.NewReaderSize(in, 64<<10), key)
	below := f.close
	f.close = func() {
		_ = again.Close()
		below()
	}
	f.Reader = again
	return nil
}

// Write counts the size of the JSON.
func (f *states) Write(p []byte) (int, error) {
	f.size += int64(len(p))
	return len(p), nil
}

// check reads the array to its end.
func (f *states) check(r io.Reader) error {
	some := false
	err := engine.EachSessionState(r, func(s engine.SessionState) error {
		f.entries++
		some = some || !s.Malformed()
		return nil
	})
	switch {
	case errors.Is(err, journal.ErrMalformed) && f.entries == 0:
		return fmt.Errorf("%w: %w", errForeign, err)
	case err != nil:
		return fmt.Errorf("after %d sessions: %w", f.entries, err)
	case f.entries > 0 && !some:
		return fmt.Errorf("%w: none of its %d entries is a session state", errForeign, f.entries)
	}
	return nil
}

// skipSpace puts in behind leading white space and returns how it goes on.
func skipSpace(in io.ReadSeeker) (head []byte, err error) {
	head = make([]byte, 4096)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	trimmed := bytes.TrimLeft(head[:n], " \t\r\n")
	_, err = in.Seek(int64(n-len(trimmed)), io.SeekStart)
	return trimmed, err
}
