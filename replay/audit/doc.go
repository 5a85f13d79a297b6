// Package audit reads the past: the events of the journal with what became of them, and the sessions
// as they were at a position or a time. It only reads, and needs the journal ring's keys alone: what belongs to
// a tenant stays sealed.
package audit
