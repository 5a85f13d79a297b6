package replicas

import (
	"strconv"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// TestForgotten: who has left is known for a day, however it was learnt, and all forget it at the same time.
func TestForgotten(t *testing.T) {
	t.Parallel()
	d := &Directory{o: Options{Self: "a", Fence: DefaultFence}, peers: map[journal.ReplicaID]*peer{}, echoes: map[string]heardAt{}}
	d.noteLeft(leaver{Replica: "long ago", Boot: "1", Ago: remembered + time.Second})
	d.noteLeft(leaver{Replica: "lately", Boot: "2", Ago: remembered - time.Minute})
	d.peers["here"] = &peer{heard: time.Now(), noted: time.Now()}
	d.echoes["1"], d.echoes["2"] = heardAt{when: time.Now().Add(-time.Hour)}, heardAt{when: time.Now()}
	d.forget()
	if len(d.peers) != 2 || len(d.echoes) != 1 || d.peers["lately"] == nil {
		t.Errorf("%v, %v", d.peers, d.echoes)
	}
	if left := d.left(); len(left) != 1 || left[0].Ago < remembered-time.Minute {
		t.Errorf("others are told %v", left)
	}
	d.peers["lately"].noted = time.Now().Add(-remembered - time.Second)
	d.forget()
	if len(d.peers) != 1 {
		t.Errorf("%v", d.peers)
	}
}

// TestManyEchoes: of many replicas none is left out. Whoever is would ask for another message, each time: by hand, eighty of
// them that could echo sixty-four spoke without end.
func TestManyEchoes(t *testing.T) {
	t.Parallel()
	d := &Directory{echoes: make(map[string]heardAt)}
	for i := range 200 {
		d.echoes[strconv.Itoa(i)] = heardAt{at: time.Second, when: time.Now()}
	}
	if n := len(d.listEchoes()); n != len(d.echoes) {
		t.Errorf("%d of %d", n, len(d.echoes))
	}
}
