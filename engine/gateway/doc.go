// Package gateway is Dormouse's client-facing MCP endpoint: streamable HTTP of the protocol versions
// 2025-03-26, 2025-06-18 and 2025-11-25, in front of an upstream that may forget everything.
//
// A [Gateway] checks each request, finds its session in the engine and hands it to the session's runtime.
// Runtimes come from a [Waker], which knows one [Upstream]: a streamable-HTTP server behind a URL
// ([NewHTTPUpstream]), or a server of the official Go SDK for each session ([NewInProcess]). To wire it:
//
//	waker, err := gateway.NewWaker(gateway.WakerOptions{Upstream: up})
//	eng, err := engine.New(engine.Options{Waker: waker, ...})
//	handler, err := gateway.New(gateway.Options{Engine: eng, Waker: waker, Identify: id.Identify})
//
// and to end it: Gateway.Shutdown, which waits for requests under way, then engine.Shutdown.
//
// # One request
//
//	client        gateway                     engine        upstream
//	  │ POST ──────▶ Origin, Host, headers       │              │
//	  │             body read whole, peeked at   │              │
//	  │             who calls ───── Acquire ───▶ │ 404: unknown, ended, somebody else's
//	  │             opened ◀─────── Begin ─────▶ │              │
//	  │             runtime: binding still good? │              │
//	  │               presumed lost: claim the next epoch, replay the handshake, record
//	  │             ──────────────────────────────────────────▶ │ 404, 400: lost; see above, once more
//	  │ ◀── headers with the first byte ◀────────────────────── │
//	  │             accessed ◀───── End ───────▶ │              │
//
// # When an upstream has lost a session
//
// The upstream says so itself (lost lists the dialects), or it is presumed: see health. Either way
// the session is bound at the next epoch, and the request, which was refused and not executed, is sent again.
// What may have been executed is repeated only if it is a read or its tool is annotated as read-only or
// idempotent; otherwise the client is told that the outcome is unknown.
//
// What an upstream announces of a rate limit is kept to, see meter.
//
// # Two replicas
//
// The fold has one binding an epoch, so of two replicas that find a session lost one claims the next epoch and
// the other adopts what that one opens. Whoever has claimed and does not record an upstream session in a few
// seconds is taken for dead, and the epoch after its own is claimed.
//
// # Event IDs
//
// Clients never see the upstream's event IDs but a cursor: epoch, the ID of the request that the stream answers, and the
// upstream's ID, authenticated for this session. A client that comes back with one gets the rest of the stream
// from the upstream if that is still the same epoch and can go on, and otherwise a JSON-RPC error for that
// request, from any replica. From 2025-11-25 on a GET stream begins with a cursor that is new for each connection.
package gateway
