// Package control is the API between a daemon and the commands that look at its folder: HTTP over a unix socket
// in the data folder, which only the folder's owner can open. On a stopped folder a command opens the store
// itself and speaks to the very same handler in process, so that there is one way to answer.
//
//	GET  /v1/status
//	GET  /v1/sessions
//	GET  /v1/sessions/{ref}          ref may be abbreviated while it is unique
//	POST /v1/sessions/{ref}/close
//	GET  /v1/log?session=&since=&until=&kind=&limit=&follow=&verdicts=     JSON lines
//	GET  /v1/keys?count=
//	GET  /v1/keys/reading            the journal ring itself, as text
//	POST /v1/keys/rotate?ring=&prepare=&who=
//	POST /v1/keys/retire?who=
//	GET  /v1/tenants
//	GET  /v1/tenants/{tenant}        a label, or an ID that may be abbreviated
//	POST /v1/tenants/{tenant}/erase?who=
//	GET  /v1/verify?headers=                                               JSON lines
//	POST /v1/export                  sessions with their credentials         JSON lines
//	POST /v1/export/{name}/received  the word that an export waits for before it ends
//	POST /v1/restore                 body: a JSON array of such sessions
//
// Nothing that it says is a secret, the journal ring and an export aside: no session ID, no credential, no other key.
package control
