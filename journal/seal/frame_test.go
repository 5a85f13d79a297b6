package seal_test

import (
	"reflect"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Batches end with more and with fewer events that hardly compress, or have some in their midst.
func TestCrowdsOfSessions(t *testing.T) {
	crowd := manyCreated(900)
	for name, events := range map[string][]journal.Event{
		"few": crowd[:60], "many": crowd[:500], "most": crowd,
		"another behind": append(append([]journal.Event{}, crowd[:500]...), manyMixed(3)...),
		"others before":  append(manyMixed(400), crowd[:500]...),
	} {
		k := seal.GenerateKeyring()
		b, err := seal.NewBatchOpener(k).Open(encode(t, sealer(t, k), events))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(b.Events, events) {
			t.Errorf("%s: came back different", name)
		}
	}
}
