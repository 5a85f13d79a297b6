package gateway

import (
	"testing"
	"time"
)

// An upstream that comes and goes is told of once in a while; one connection that broke is no outage.
func TestOutages(t *testing.T) {
	t.Parallel()
	var o outages
	now := time.Unix(1000, 0)
	failed := func(after time.Duration, unsent, turned, told bool) {
		t.Helper()
		if turns, tells := o.failed(now.Add(after), unsent); turns != turned || tells != told {
			t.Errorf("after %v: turned %v, told %v", after, turns, tells)
		}
	}
	failed(0, false, false, false) // one broken connection
	if _, turned, tell := o.answered(now); turned || tell {
		t.Error("back from nothing")
	}
	failed(0, true, true, true)
	failed(time.Hour, true, false, false)
	if away, turned, tell := o.answered(now.Add(time.Second)); !turned || !tell || away != time.Second {
		t.Errorf("back: %v %v %v", turned, tell, away)
	}
	failed(2*time.Second, true, true, false) // too soon for the log
	failed(tellGap, false, false, true)      // an outage that goes on is told in the end
}
