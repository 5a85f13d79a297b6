// Package stdio is an upstream of MCP servers that speak over stdin and stdout: a child process for each live
// session. To the gateway it looks like any other upstream that forgets: what it knows of streamable HTTP is in conn.
//
//	up, err := stdio.New(stdio.Options{Command: []string{"npx", "-y", "n8n-mcp"}})
//	waker, err := gateway.NewWaker(gateway.WakerOptions{Upstream: up})
//
// and in the end, after the engine's Shutdown: up.Close.
//
// # A child's life
//
//	initialize ──▶ waits for a place ──▶ starts ──▶ answers: live ──▶ idle, or the session ends: stdin closed
//	   ▲             (MaxChildren)    (MaxStarting,       │              a grace, SIGTERM, a grace, SIGKILL
//	   │                              StartTimeout)       ▼
//	   └───────── the gateway opens the session again ◀── dead: every request under way fails,
//	              (initialize, initialized, log level,         later ones are answered 404
//	              subscriptions) at its next request
//
// A child that dies takes what it held in memory with it; the session stays. A request that it may have begun is
// repeated by the gateway's rules alone. A child that keeps dying is started ever more rarely: see trouble.
//
// # What a child gets
//
// An environment made from nothing: PATH, HOME, LANG, LC_ALL, TMPDIR and TZ as they are here, what Options.Env adds,
// and the session's instance context:
//
//	N8N_API_URL, N8N_API_KEY         the tenant's instance
//	DORMOUSE_INSTANCE_ID             its name, if it has one
//	DORMOUSE_CONTEXT_SESSION_ID      the context's sessionId, if it has one
//	DORMOUSE_CONTEXT_METADATA        its metadata, as JSON
//	DORMOUSE_SESSION                 the session's ref, which is no secret
//
// It runs as the gateway's user, in the gateway's directory: what keeps the gateway's files from it are the file
// system and whatever the command itself drops ("setpriv --reuid=mcp ... npx -y n8n-mcp").
//
// # No orphans
//
// A child runs in a process group of its own, with all that it starts (npx starts npm, a shell and node). The group's
// leader is a shell that waits at a pipe of which this process holds the other end: when this process ends, even by
// SIGKILL, the pipe closes and the shell kills the group. That has no race, as the group is there before the child
// is, and a child that is being forked holds the pipe open until it has joined the group. The parent death signal
// of Linux would reach the child alone, not what it has started, and is sent when the thread ends that forked it. A
// process that leaves the group (setsid) is out of reach.
//
// # Memory
//
// Options.MaxMemory bounds what a group has of memory of its own: the resident pages that are shared with no file,
// looked at every second. RLIMIT_AS would count address space, of which node reserves many gigabytes; RLIMIT_DATA
// holds for one process, not for what it starts. Whoever needs a bound that cannot be passed for a second puts one on
// the service (a cgroup).
//
// # Where a child's messages go
//
// A response goes to the POST that asked; progress to the POST whose token it names. What belongs to no request (the
// protocol over stdio does not say to which) goes to the newest POST under way that calls a tool, reads or
// completes something; without one to the GET stream; without that it waits, the newest 256 messages of at most 1 MiB
// together.
package stdio
