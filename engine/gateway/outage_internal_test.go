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
	if o.failed(now, false) {
		t.Error("one broken connection is told")
	}
	if _, tell := o.answered(now); tell {
		t.Error("back from nothing")
	}
	if !o.failed(now, true) || o.failed(now.Add(time.Hour), true) {
		t.Error("one outage is told once")
	}
	if away, tell := o.answered(now.Add(time.Second)); !tell || away != time.Second {
		t.Errorf("back: %v %v", tell, away)
	}
	if o.failed(now.Add(2*time.Second), true) {
		t.Error("told again too soon")
	}
	if !o.failed(now.Add(tellGap), false) {
		t.Error("an outage that goes on is told in the end")
	}
}
