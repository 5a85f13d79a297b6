package stdio

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// inherited are the names that every child gets as they are here. None of them holds a secret.
func inherited() []string { return []string{"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"} }

// environment returns a child's whole environment, sorted. lookup reads this process's own.
func environment(lookup func(string) (string, bool), extra []string, ref journal.Ref, ic engine.InstanceContext) []string {
	env := map[string]string{}
	take := func(name string) {
		if v, ok := lookup(name); ok {
			env[name] = v
		}
	}
	for _, name := range inherited() {
		take(name)
	}
	for _, e := range extra {
		if name, value, set := strings.Cut(e, "="); set {
			env[name] = value
		} else {
			take(name)
		}
	}
	env["DORMOUSE_SESSION"] = ref.String()
	for name, value := range map[string]string{
		"N8N_API_URL": ic.N8nAPIURL, "N8N_API_KEY": ic.N8nAPIKey, "DORMOUSE_INSTANCE_ID": ic.InstanceID,
		"DORMOUSE_CONTEXT_SESSION_ID": ic.SessionID, "DORMOUSE_CONTEXT_METADATA": string(ic.Metadata),
		// n8n-mcp takes no 0 here: it would have no API at all (its config/n8n-api.js).
		"N8N_API_TIMEOUT": number(ic, "n8nApiTimeout"), "N8N_API_MAX_RETRIES": number(ic, "n8nApiMaxRetries"),
		"N8N_MCP_ACCESS_TOKEN": ic.Text(n8nMCPAccess),
	} {
		if value != "" && !strings.ContainsRune(value, 0) {
			env[name] = value
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// n8nMCPAccess is n8n-mcp's name of a further credential in an imported context.
const n8nMCPAccess = "n8nMcpAccessToken"

func number(ic engine.InstanceContext, name string) string {
	n, ok := ic.Number(name)
	if !ok {
		return ""
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}
