package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the Markdown files of the repository that people read, by path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*.md", "deploy/*/*.md"} {
		files, err := filepath.Glob(filepath.Join("../../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found[filepath.ToSlash(f)] = string(data)
		}
	}
	if len(found) < 3 {
		t.Fatalf("only %d pages: is the search broken?", len(found))
	}
	return found
}

// TestLinks: every relative link leads to a file, and every anchor to a heading.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	all := pages(t)
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(withoutFences(text), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			to := page
			if target != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(page), target))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link %s: %v", page, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(all[to]), anchor) {
				t.Errorf("%s: link %s: no such heading", page, m[1])
			}
		}
	}
}

func withoutFences(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")
}

// anchors returns the anchors of a page's headings, in the way of the usual renderers.
func anchors(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(withoutFences(text), -1) {
		kept := strings.Map(func(r rune) rune {
			switch {
			case r == ' ', r == '-':
				return '-'
			case r == '_', r >= '0' && r <= '9', r >= 'a' && r <= 'z', r > 0x7f:
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		all = append(all, kept)
	}
	return all
}

// TestCommandsNamedInDocs: every command and flag of dormouse that a page names stands in its help.
func TestCommandsNamedInDocs(t *testing.T) {
	help := helpPages(t)
	everything := strings.Join(slices.Collect(maps.Values(help)), "\n")
	code := regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]+`")
	flag := regexp.MustCompile(`(^|[\s\x60\[(])(--[a-z][a-z-]+)`)
	for page, text := range pages(t) {
		for _, span := range code.FindAllString(text, -1) {
			for line := range strings.Lines(span) {
				command, known := commandIn(line, help)
				if !known {
					t.Errorf("%s: %q names a command that dormouse --help does not", page, strings.TrimSpace(line))
				}
				if command == "" && !strings.HasPrefix(span, "`--") {
					continue // another program's line
				}
				for _, m := range flag.FindAllStringSubmatch(line, -1) {
					in, where := everything, "any command"
					if command != "" {
						in, where = help[command], command
					}
					if !regexp.MustCompile(regexp.QuoteMeta(m[2]) + `([^a-z-]|$)`).MatchString(in) {
						t.Errorf("%s: flag %s is not in the help of %s: %q", page, m[2], where, strings.TrimSpace(line))
					}
				}
			}
		}
	}
}

// commandIn returns the dormouse command that a line of code calls, empty if none, and whether it exists.
func commandIn(line string, help map[string]string) (command string, known bool) {
	m := regexp.MustCompile(`(?:^|[\s\x60/])dormouse((?: [a-z]+)+)`).FindStringSubmatch(line)
	if m == nil {
		return "", true
	}
	words := strings.Fields(m[1])
	for n := min(2, len(words)); n > 0; n-- {
		if name := strings.Join(words[:n], " "); help[name] != "" {
			return name, true
		}
	}
	return "", false
}

// helpPages returns the help of every command, by the words behind "dormouse".
func helpPages(t *testing.T) map[string]string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "dormouse")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	help := map[string]string{}
	read := func(words ...string) string {
		out, err := exec.CommandContext(t.Context(), binary, append(words, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("dormouse %s --help: %v: %s", strings.Join(words, " "), err, out)
		}
		return string(out)
	}
	_, top, _ := strings.Cut(read(), "\nCommands:\n")
	top, _, _ = strings.Cut(top, "\n\n")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+(?: [a-z]+)?)(?: |$)`).FindAllStringSubmatch(top, -1) {
		words := strings.Fields(m[1])
		help[m[1]] = read(words...)
		if help[words[0]] == "" {
			help[words[0]] = read(words[0])
		}
	}
	if len(help) < 5 {
		t.Fatalf("only the commands %v in the help: is its form another?\n%s", help, top)
	}
	return help
}
