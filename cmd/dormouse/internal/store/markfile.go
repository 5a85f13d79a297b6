package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The file of a mark has a line with its checksum, so that a flipped bit in it is no alarm of its own, and the mark.
const markLine = "dormouse mark 1 %08x\n"

func markFile(dir string) string { return filepath.Join(dir, "mark") }

// ReadMark returns the high-water mark that the folder keeps of its journal. Without one it fails with fs.ErrNotExist,
// and with journal.ErrMalformed if the file is damaged.
func ReadMark(dir string) (journal.Mark, error) {
	data, err := os.ReadFile(markFile(dir))
	if err != nil {
		return journal.Mark{}, err
	}
	head, text, _ := bytes.Cut(data, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\n"))
	if string(head)+"\n" != fmt.Sprintf(markLine, markSum(text)) {
		return journal.Mark{}, fmt.Errorf("%s: %w: its checksum does not fit", markFile(dir), journal.ErrMalformed)
	}
	m, err := journal.ParseMark(text)
	if err != nil {
		return m, fmt.Errorf("%s: %w", markFile(dir), err)
	}
	return m, nil
}

// writeMark replaces the folder's mark, durably.
func writeMark(dir string, m journal.Mark) error {
	text := journal.AppendMark(nil, m)
	temp := markFile(dir) + ".new"
	if err := writeSynced(temp, append(append(fmt.Appendf(nil, markLine, markSum(text)), text...), '\n')); err != nil {
		return err
	}
	return os.Rename(temp, markFile(dir))
}

func markSum(text []byte) uint32 { return crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) }

// hadJournal returns the journal that the folder has had, by its own file or by its mark; the zero ID if it has had
// none.
func hadJournal(dir string) (journal.ID, *journal.Mark, error) {
	id, err := ReadJournalID(dir)
	if err != nil {
		return id, nil, err
	}
	m, err := ReadMark(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, journal.ErrMalformed):
		return id, nil, nil
	case err != nil:
		return id, nil, err
	case id == journal.ID{}:
		return m.Journal, &m, nil
	case m.Journal != id:
		return id, nil, nil // of a journal that was here before it
	default:
		return id, &m, nil
	}
}
