package memory_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLaws(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journaltest.Harness {
		j := memory.New()
		j.SetPatience(time.Minute)
		return journaltest.Harness{Journal: j, Keys: j.Keys(), Remove: j.Remove, Depose: j.Depose, Elect: j.Elect}
	})
}
