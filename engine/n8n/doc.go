// Package n8n knows what a tenant of an n8n MCP server brings along: the instance context in its request
// headers, which addresses such a context may point at, and the built-in tools over n8n's public REST API.
//
// A context comes from the client's own headers or not at all. There is no fallback to credentials of the
// operator: a context that is incomplete is an error, and a session without one gets tools that say
// which headers to send.
//
// Addresses are judged twice: by [Policy.Validate] when a session is created, from the URL alone and
// without DNS, and by [Policy.Control] each time a connection is made, from the address that the name
// resolved to. The second check is the one that holds against a name that changes its mind.
package n8n
