package gateway

// Denial is why a request was not let through. There are few of them, and none names anybody: they may label a metric.
type Denial string

// The denials.
const (
	DeniedTenantRate      Denial = "tenant-rate"      // 429: Limits.PerTenant
	DeniedPrincipalRate   Denial = "principal-rate"   // 429: Limits.PerPrincipal
	DeniedSessions        Denial = "sessions"         // 429: the engine's limits of sessions
	DeniedSubscriptions   Denial = "subscriptions"    // a session's
	DeniedUnauthenticated Denial = "unauthenticated"  // 401
	DeniedSession         Denial = "unknown-session"  // 404: unknown, ended, or somebody else's
	DeniedContext         Denial = "instance-context" // 400
	DeniedHost            Denial = "host"             // 403
	DeniedOrigin          Denial = "origin"           // 403
	DeniedSize            Denial = "size"             // 413, and parameters of initialize that are too large
	DeniedTime            Denial = "time"             // 408: the body came too slowly
)

// Denials returns all of them.
func Denials() []Denial {
	return []Denial{
		DeniedTenantRate, DeniedPrincipalRate, DeniedSessions, DeniedSubscriptions, DeniedUnauthenticated, DeniedSession,
		DeniedContext, DeniedHost, DeniedOrigin, DeniedSize, DeniedTime,
	}
}

// Observer hears what is worth counting. Its methods must be quick and safe for concurrent use.
type Observer interface {
	// RequestDenied tells that a request was not let through.
	RequestDenied(why Denial)

	// UpstreamReachable tells that a shared upstream has stopped answering, or answers again.
	UpstreamReachable(yes bool)
}

type nobodyHears struct{}

func (nobodyHears) RequestDenied(Denial)   {}
func (nobodyHears) UpstreamReachable(bool) {}
