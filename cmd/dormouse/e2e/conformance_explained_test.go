//go:build e2e

package e2e

import "slices"

// exception is a way in which servers differ from the gateway in front of them on purpose.
type exception struct {
	servers  []string // where it shows
	scenario string
	changes  []change
	why      string
}

// change is how a check comes out directly and through the gateway.
type change struct{ check, direct, gateway string }

func (e exception) covers(server string, d difference) bool {
	return slices.Contains(e.servers, server) && e.scenario == d.scenario &&
		slices.Contains(e.changes, change{d.check, d.direct, d.gateway})
}

// explained are all differences between a server and the gateway in front of it. None makes anything worse for a client.
func explained() []exception {
	goSDK, everything := []string{"go", "go, stateless"}, []string{"server-everything"}
	withoutSessions := []string{"go, stateless", "typescript 2"}
	return []exception{
		{goSDK, "server-sse-polling", []change{
			{"server-sse-priming-event", "WARNING", "SUCCESS"},
			{"server-sse-disconnect-resume", "INFO", "WARNING"},
		}, "The server ends the stream of a request that it has not answered, without an event ID, so its response is lost: the " +
			"suite cannot even ask. The gateway gives the stream an event ID of its own (2025-11-25, transports: servers should), and " +
			"whoever comes back with it gets what there is, a JSON-RPC error for the request: no response, which the suite warns of, " +
			"but an end. Where the server itself can resume, so can the client."},
		{goSDK, "server-sse-polling", []change{
			{"server-sse-content-type", "-", "INFO"},
			{"server-sse-priming-event", "WARNING", "-"},
			{"server-sse-retry-field", "WARNING", "-"},
			{"server-sse-disconnect-resume", "INFO", "-"},
		}, "0.1.16 names 2025-03-26 in this request, which has no priming events: the server answers with an empty event stream, and a " +
			"client waits for ever. The gateway answers with the JSON-RPC error; the suite takes JSON as it may come, and stops there."},
		{withoutSessions, "server-initialize", []change{{"server-session-id-visible-ascii", "INFO", "SUCCESS"}}, theGatewaysSession},
		{withoutSessions, "server-session-lifecycle", []change{
			{"server-session-lifecycle-skipped", "INFO", "-"},
			{"server-session-initialized-accepted", "-", "SUCCESS"},
			{"server-session-delete-accepted", "-", "SUCCESS"},
			{"server-session-terminated-returns-404", "-", "SUCCESS"},
		}, theGatewaysSession},
		{withoutSessions, "server-sse-multiple-streams", []change{
			{"server-sse-multiple-streams-session", "WARNING", "-"},
			{"server-accepts-multiple-post-streams", "-", "SUCCESS"},
			{"server-sse-streams-functional", "-", "SUCCESS"},
		}, theGatewaysSession},
		{withoutSessions, "server-sse-polling", []change{{"server-sse-polling-session", "WARNING", "-"}}, theGatewaysSession},
		{everything, "server-session-lifecycle", []change{
			{"server-session-terminated-returns-404", "FAILURE (Expected 404 on terminated session ID, got 400)", "SUCCESS"},
		}, "The gateway answers for sessions itself, and with the status that the specification wants: clients tell by it that they must initialize again."},
		{[]string{"server-everything", "typescript 2"}, "dns-rebinding-protection", []change{
			{"localhost-host-rebinding-rejected", "FAILURE (Expected HTTP 4xx for invalid Host/Origin headers, got 200)", "SUCCESS"},
		}, "The gateway checks Host and Origin itself, and a server behind it need not."},
	}
}

const theGatewaysSession = "This server keeps no sessions, and clients of the protocols that have them get one from the gateway all the same: " +
	"what it journals, and whom a session belongs to, hangs on that. The suite then tests more of it."
