// Package store opens what a replica keeps: the data folder with its lock, the keyring, the journal (in the embedded
// server or in a NATS of the operator's), the committer and the follower. The daemon holds one as long as it runs;
// commands open one for a moment on a stopped folder.
//
// In the data folder:
//
//	lock           taken by whoever has the store open
//	keys           the keyring, made at first start; back it up, without it the journal cannot be read
//	jetstream/     the embedded server's files
//	jetstream.clean
//	               says that these were closed in order
//	mark           what was folded last, about once a second: the journal must not end before it
//	nats           where the journal is, if it is in a NATS of the operator's
//	journal.id     which journal this folder has had, so that another or an empty one is noticed
//	damaged-TIME/  damaged files as they were before they were mended
//	admin.token    the bearer token of the admin listener
//	daemon.json    who runs here
//	control.sock   how commands reach it
package store
