//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// documented are the tables of docs/conformance.md, each with the names of its columns in front.
func documented(t *testing.T) (tables [][][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(shared.root, "docs", "conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
			continue
		case strings.HasPrefix(line, "|--"):
			continue
		case !inside:
			inside, tables = true, append(tables, nil)
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		tables[len(tables)-1] = append(tables[len(tables)-1], cells)
	}
	return tables
}

// documentedCounts returns the cell of the first table where a pass stands; false: there is no such column.
func documentedCounts(t *testing.T, server string, p pass) (string, bool) {
	t.Helper()
	column := p.version
	if p.release == release01 {
		column = "0.1.16"
	}
	table := documented(t)[0]
	i := slices.Index(table[0], column)
	for _, row := range table[1:] {
		if row[0] == server && i > 0 && i < len(row) {
			return row[i], true
		}
	}
	return "", false
}

// counts is a cell of that table.
func counts(direct, gateway results) string {
	return fmt.Sprintf("%d/%d, %d/%d", direct.count("SUCCESS"), direct.count("FAILURE"), gateway.count("SUCCESS"), gateway.count("FAILURE"))
}

// TestCrashesInDocs: the second table has all runs with crashes, and no other.
func TestCrashesInDocs(t *testing.T) {
	want := [][]string{{"server", "protocol", "requests from one crash to the next", "killed in turns"}}
	for _, c := range crashRuns() {
		var turns []string
		for _, dead := range c.turns {
			turns = append(turns, dead.String())
		}
		want = append(want, []string{c.doc, c.version, fmt.Sprint(c.every), strings.Join(turns, ", ")})
	}
	if got := documented(t)[1]; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("docs/conformance.md has\n%v\nwant\n%v", got, want)
	}
}
