package memory_test

import (
	"testing"

	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/memory"
)

func TestSnapshotLaws(t *testing.T) {
	journaltest.RunSnapshots(t, func(*testing.T) (journaltest.SnapshotStore, func(*testing.T) journaltest.SnapshotStore) {
		return memory.New().Snapshots(), nil
	})
}
