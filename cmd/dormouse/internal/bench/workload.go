package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

const (
	benchTenants = 50
	sealedBytes  = 300 // of a session's ID and context as sealed, about
	mixedPart    = 10  // one event of so many creates a session, the others are accesses
)

const initializeParams = `{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"sampling":{}},` +
	`"clientInfo":{"name":"client","version":"1.0.0"}}`

// minter makes the events that a gateway journals. Safe for concurrent use.
type minter struct {
	vault   *seal.Vault
	tenants []mintTenant
}

type mintTenant struct {
	id          journal.TenantID
	label       string
	key         journal.KeyID
	fingerprint journal.Fingerprint
}

// newMinter makes the tenants' data keys in a store.
func newMinter(ctx context.Context, k *seal.Keyring, s seal.KeyStore) (*minter, error) {
	m := &minter{vault: seal.NewVault(k, s)}
	for i := range benchTenants {
		t := mintTenant{label: fmt.Sprintf("instance-%d", i)}
		t.id = journal.TenantID(k.Name("bench tenant", t.label))
		var err error
		if t.key, t.fingerprint, err = m.vault.Key(ctx, t.id); err != nil {
			return nil, err
		}
		m.tenants = append(m.tenants, t)
	}
	return m, nil
}

// created returns the begin of a session of one of the tenants, with a context of 200 bytes. ID and context
// are sealed by the vault.
func (m *minter) created(ctx context.Context, n int, at journal.Instant) (journal.Event, error) {
	t := &m.tenants[n%len(m.tenants)]
	id := journal.NewSessionID()
	ref := id.Ref()
	sealedID, err := m.vault.Seal(ctx, t.id, t.key, journal.PurposeSessionID, ref, []byte(id.Reveal()))
	if err != nil {
		return journal.Event{}, err
	}
	sealedContext, err := m.vault.Seal(ctx, t.id, t.key, journal.PurposeContext, ref, instanceContext(t.label))
	if err != nil {
		return journal.Event{}, err
	}
	return journal.Event{Kind: journal.KindCreated, Ref: ref, At: at, Created: &journal.Created{
		Source: journal.SourceClient, ID: sealedID, Context: sealedContext,
		Tenant: t.id, Label: t.label, Key: t.key, Fingerprint: t.fingerprint, URLHash: journal.URLHash(t.id),
		Principal: "token:bench", Protocol: "2025-11-25", Initialize: json.RawMessage(initializeParams),
		Timeout: 24 * time.Hour, CreatedAt: at, LastAccess: at,
	}}, nil
}

// instanceContext returns 200 bytes of JSON.
func instanceContext(label string) []byte {
	var key [48]byte
	_, _ = rand.Read(key[:]) // never fails
	b := make([]byte, 0, 200)
	b = append(b, `{"n8nApiUrl":"https://n8n.example.com","instanceId":"`...)
	b = append(append(b, label...), `","n8nApiKey":"`...)
	b = hex.AppendEncode(b, key[:])
	b = append(b, `","sessionId":"`...)
	for len(b) < cap(b)-2 {
		b = append(b, 's')
	}
	return append(b, `"}`...)
}

// access returns an event of a request: every other one begins it, the next completes it.
func access(ref journal.Ref, n int, at journal.Instant) journal.Event {
	e := journal.Event{Kind: journal.KindOpened, Ref: ref, At: at, Call: journal.Call{
		Number: uint64(n / 2), Method: "tools/call", Tool: benchTool(n / 2),
	}}
	if n%2 == 1 {
		e.Kind, e.Call.Outcome = journal.KindAccessed, journal.OutcomeOK
		e.Call.Duration = time.Duration(1000+n%977*37) * time.Microsecond
	}
	return e
}

func benchTool(n int) string {
	switch n % 4 {
	case 0:
		return "n8n_list_workflows"
	case 1:
		return "n8n_get_workflow"
	case 2:
		return "n8n_list_executions"
	default:
		return "search_nodes"
	}
}
