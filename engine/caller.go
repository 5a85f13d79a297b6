package engine

import (
	"encoding/json"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
)

// InstanceContext is a tenant's context, in the wire names of the seed API. It holds credentials: it is
// never logged, and outside memory it is sealed under the tenant's data key.
type InstanceContext struct { //nolint:recvcheck // a copy must not be shown either
	N8nAPIURL  string          `json:"n8nApiUrl,omitempty"`
	N8nAPIKey  string          `json:"n8nApiKey,omitempty"`
	InstanceID string          `json:"instanceId,omitempty"`
	SessionID  string          `json:"sessionId,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`

	// Extra are further members of its JSON: n8n-mcp has n8nApiTimeout, n8nApiMaxRetries and n8nMcpAccessToken. They come
	// with an import and go out again, as they were, with an export. Their names are none of those above.
	Extra map[string]json.RawMessage `json:"-"`
}

// Complete reports whether ic has what a request to the tenant's instance needs: URL and key.
func (ic InstanceContext) Complete() bool { return ic.N8nAPIURL != "" && ic.N8nAPIKey != "" }

// String tells nothing of ic, so that a formatted context leaks nothing.
func (ic InstanceContext) String() string { return "instance context" }

// GoString is String: %#v leaks nothing either.
func (ic InstanceContext) GoString() string { return ic.String() }

// Caller is who makes a request, as the gateway has established it.
type Caller struct {
	Principal journal.Principal
	Tenant    journal.TenantID
	Label     string
	URLHash   journal.URLHash
	Context   *InstanceContext // as presented with this request; nil when there is none

	// Opaque says that Principal is the hash of a credential that nobody here can check: the upstream does. Such a
	// caller may come with a new credential; see Lease.Unproven.
	Opaque bool

	// ContextTenant is the tenant that Context names by itself where the operator has put the caller into
	// another. Imported sessions are that one's: whoever imports knows nothing of callers. Zero = Tenant.
	ContextTenant journal.TenantID
}

// hashedPrefix begins a principal that is derived from the credential itself: such a caller with
// another credential is another caller.
const hashedPrefix = "credential:"

func (c *Caller) isCredential() bool { return isCredential(c.Principal) }

func isCredential(p journal.Principal) bool { return strings.HasPrefix(string(p), hashedPrefix) }
