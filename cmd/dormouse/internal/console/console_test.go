package console_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
)

func TestReport(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	err := fmt.Errorf("serve: %w", console.Refused(errors.New("folder in use"), "stop process %d", 42))
	if code := console.Report(&b, err); code != console.ExitRefused {
		t.Errorf("exit code %d", code)
	}
	if got, want := b.String(), "dormouse: serve: folder in use\n  hint: stop process 42\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if code := console.Report(&b, errors.New("x")); code != console.ExitFailed {
		t.Errorf("plain error: exit code %d", code)
	}
	if code := console.Report(&b, nil); code != console.ExitOK {
		t.Errorf("nil: exit code %d", code)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	console.Table(&b, []string{"ref", "calls"}, [][]string{{"abc\x1b[31m", "7"}, {"d", "12"}}, 2)
	want := "REF        CALLS\nabc·[31m       7\nd             12\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		500 * time.Millisecond: "500ms ago", 90 * time.Second: "1m ago", -4 * time.Minute: "in 4m",
		200 * time.Minute: "3h20m ago", 120 * time.Hour: "5d ago",
	} {
		if got := console.Ago(now.Add(-d), now); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := console.Ago(time.Time{}, now); got != "-" {
		t.Errorf("zero: %q", got)
	}
}
