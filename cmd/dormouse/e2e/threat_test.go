package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModel: every attack that the threat model names has a test, and every test that a page under docs/ names as its
// witness is there.
func TestThreatModel(t *testing.T) {
	there := testsInTree(t)
	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	for page, text := range pages(t) {
		if !strings.Contains(page, "/docs/") {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which is not in the tree", page, m[1])
			}
		}
	}
	model, err := os.ReadFile("../../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	attacks, in := 0, false
	for line := range strings.Lines(string(model)) {
		switch {
		case strings.HasPrefix(line, "| attack |"):
			in = true
		case !strings.HasPrefix(line, "|"):
			in = false
		case in && !strings.HasPrefix(line, "|---"):
			attacks++
			if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | "); len(cells) != 3 || !name.MatchString(cells[2]) {
				t.Errorf("no test: %s", line)
			}
		}
	}
	if attacks < 30 {
		t.Errorf("%d attacks: is the search broken?", attacks)
	}
}

// testsInTree returns the names of all tests and fuzz targets.
func testsInTree(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			if d != nil && d.IsDir() && err == nil {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(data), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return there
}
