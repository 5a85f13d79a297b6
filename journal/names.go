package journal

import "fmt"

var (
	kindNames = [...]string{
		KindCreated: "created", KindOpened: "opened", KindAccessed: "accessed", KindTouched: "touched",
		KindChanged: "changed", KindBound: "bound", KindExpired: "expired", KindClosed: "closed",
		KindReplicaStarted: "replica-started", KindReplicaStopped: "replica-stopped",
		KindExported: "exported", KindImported: "imported", KindKeyRotated: "key-rotated",
		KindTenantErased: "tenant-erased", KindLossAccepted: "loss-accepted", KindHistoryRead: "history-read",
	}
	sourceNames  = [...]string{SourceClient: "client", SourceImport: "import"}
	reasonNames  = [...]string{ReasonClient: "client", ReasonAdmin: "admin", ReasonEvicted: "evicted", ReasonErased: "erased", ReasonLostKey: "lost-key"}
	outcomeNames = [...]string{
		OutcomeOK: "ok", OutcomeToolError: "tool-error", OutcomeRPCError: "rpc-error", OutcomeRefused: "refused",
		OutcomeUnavailable: "unavailable", OutcomeCanceled: "canceled", OutcomeBroken: "broken",
	}
)

func name(names []string, i uint8, what string) string {
	if int(i) < len(names) && names[i] != "" {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", what, i)
}

// String returns the kind's name in lower case.
func (k Kind) String() string { return name(kindNames[:], uint8(k), "kind") }

// ParseKind reads what String wrote. It fails with ErrMalformed.
func ParseKind(s string) (Kind, error) {
	for k, n := range kindNames {
		if n != "" && n == s {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("kind %q: %w: no such kind of event", clip(s), ErrMalformed)
}

// ForRecord reports whether events of this kind concern no session and are always accepted.
func (k Kind) ForRecord() bool { return k >= KindReplicaStarted && k < kindEnd }

func (s Source) String() string  { return name(sourceNames[:], uint8(s), "source") }
func (r Reason) String() string  { return name(reasonNames[:], uint8(r), "reason") }
func (o Outcome) String() string { return name(outcomeNames[:], uint8(o), "outcome") }
