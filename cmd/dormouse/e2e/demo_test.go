//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestDemo: the story in one command ends well with nothing else installed.
func TestDemo(t *testing.T) {
	r := run(t, hung, "demo").must(t)
	if !strings.Contains(r.stdout+r.stderr, "kill") {
		t.Errorf("the demo tells nothing of a kill:\n%s", r.stdout)
	}
	t.Log(r.stdout)
}
