// Package replicas knows which other replicas of a deployment are there, how to reach them, and when this one must stop
// serving what only one may serve: a runtime that lives in one process.
//
// Each replica tells all others about once a second that it is there, but only after the stream's leader has answered
// and everything that it named was folded: whoever is heard knew all claims a moment ago. Three times matter:
//
//	Fence     after so long without such an answer a replica serves no local runtime any more: another one may have taken it over
//	Silence   after so long unheard a replica is suspected, and its sessions may be claimed
//	Settle    whoever has claimed from a suspect waits for this, from when the claim was stored; it is longer than Fence.
//	          It need not wait where the other one is surely gone, or has said that it knows of the claim
//
// So at no time do two replicas serve one local runtime, if their clocks run at about the same speed and processes stop
// only between requests. What the fold accepts depends on none of this: an old epoch's events count nowhere.
package replicas
