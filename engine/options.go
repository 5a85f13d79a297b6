package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Options configures an Engine. Replica, Appender, Table and Vault must be set; Waker as well, unless
// every session stays live from its creation on.
type Options struct {
	Replica        journal.ReplicaID
	Appender       Appender
	Table          Table
	Vault          Vault
	Waker          Waker
	SessionTimeout time.Duration // idle time until a new session expires; whole milliseconds; 0 = 30 minutes
	MaxSessions    int           // of the whole journal; 0 = 10,000
	MaxPerTenant   int           // 0 = no limit of its own
	// MaxPerPrincipal bounds the sessions of one caller; 0 = no limit. Where nobody is told apart it does nothing.
	MaxPerPrincipal int
	MaxLive         int           // live sessions here; leased ones may pass it for a while; 0 = 1,000
	HibernateAfter  time.Duration // idle time of a live session; 0 = 5 minutes
	WakeTimeout     time.Duration // for one wake; 0 = 30 seconds
	OutageGrace     time.Duration // nothing expires so long after the stream was out of reach; 0 = 1 minute
	Logger          zerolog.Logger
	Observer        Observer // nil = none

	// ValidateContext judges the contexts of restored sessions and of rotated credentials; nil = any
	// complete context is good.
	ValidateContext func(InstanceContext) error
	// Identify names the tenant of a restored session by its context, as the gateway would name the
	// same caller. Only RestoreSessionState needs it.
	Identify func(InstanceContext) (Identity, error)
}

// Identity is the tenant to which an instance context belongs.
type Identity struct {
	Tenant  journal.TenantID
	Label   string // for people: the instance ID; may be empty
	URLHash journal.URLHash
}

func (o *Options) complete() error {
	defaults(&o.SessionTimeout, 30*time.Minute)
	defaults(&o.MaxSessions, 10_000)
	defaults(&o.MaxLive, 1000)
	defaults(&o.HibernateAfter, 5*time.Minute)
	defaults(&o.WakeTimeout, 30*time.Second)
	defaults(&o.OutageGrace, time.Minute)
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	if o.ValidateContext == nil {
		o.ValidateContext = func(InstanceContext) error { return nil }
	}
	return o.validate()
}

func (o *Options) validate() error {
	if o.Replica == "" || o.Appender == nil || o.Table == nil || o.Vault == nil {
		return errors.New("engine options: Replica, Appender, Table and Vault must be set")
	}
	if o.SessionTimeout < time.Millisecond || o.SessionTimeout%time.Millisecond != 0 {
		return fmt.Errorf("engine options: session timeout %v: want whole milliseconds, at least one", o.SessionTimeout)
	}
	if o.SessionTimeout > replay.MaxTimeout {
		return fmt.Errorf("engine options: session timeout %v: want at most %v", o.SessionTimeout, replay.MaxTimeout)
	}
	for name, n := range map[string]int64{
		"MaxSessions": int64(o.MaxSessions), "MaxPerTenant": int64(o.MaxPerTenant), "MaxPerPrincipal": int64(o.MaxPerPrincipal), "MaxLive": int64(o.MaxLive),
		"HibernateAfter": int64(o.HibernateAfter), "WakeTimeout": int64(o.WakeTimeout), "OutageGrace": int64(o.OutageGrace),
	} {
		if n < 0 {
			return fmt.Errorf("engine options: %s is negative", name)
		}
	}
	return nil
}

func defaults[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
