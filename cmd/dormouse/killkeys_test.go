package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
)

// TestKilledWhileKeysChange kills the daemon, again and again, somewhere in a rotation or an erasure. The next
// start ends what was begun; every session answers that was not erased, and none that was.
func TestKilledWhileKeysChange(t *testing.T) {
	t.Parallel()
	gw := &serveChild{t: t, data: filepath.Join(t.TempDir(), "data"), args: []string{"--listen", "127.0.0.1:0"}}
	listen := gw.start().Listen
	defer func() { gw.kill() }()
	sessions := map[string]string{}
	for i := range 12 {
		name := fmt.Sprintf("tenant-%02d", i)
		status, id, err := send(t.Context(), listen, name, "", initializeMessage)
		if err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		sessions[name] = id
	}
	for round := range 6 {
		victim := fmt.Sprintf("tenant-%02d", round)
		interrupted(t, gw, victim, round%2 == 0)
		listen = gw.start().Listen
		c, err := control.Connect(t.Context(), gw.data)
		if err != nil {
			t.Fatal(err)
		}
		settled(t, c)
		tenant, err := c.Tenant(t.Context(), victim)
		if err != nil {
			t.Fatal(err)
		}
		if tenant.State == control.TenantErased {
			answersWith(t, listen, victim, sessions[victim], http.StatusNotFound)
			delete(sessions, victim)
		}
		for name, id := range sessions {
			answersWith(t, listen, name, id, http.StatusOK)
		}
	}
}

// interrupted begins a rotation or the erasure of a tenant and kills the daemon some milliseconds later.
func interrupted(t *testing.T, gw *serveChild, victim string, rotate bool) {
	t.Helper()
	c, err := control.Connect(t.Context(), gw.data)
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := c.Tenant(t.Context(), victim)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if rotate { // whether it was in time does not matter
			_, _ = c.Rotate(ctx, control.RotateQuery{Rings: []string{"journal", "tenant"}})
		} else {
			_, _ = c.EraseTenant(ctx, tenant.Tenant, "")
		}
	}()
	window := 60 * time.Millisecond
	if !rotate {
		window = 10 * time.Millisecond
	}
	<-time.After(rand.N(window))
	gw.kill()
	cancel()
	<-done
}

// settled waits until all data keys are under the current tenant key alone and no erasure is half done.
func settled(t *testing.T, c *control.Client) {
	t.Helper()
	give := time.Now().Add(hung)
	for {
		k, err := c.Keys(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		tenants, err := c.Tenants(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		older := slices.ContainsFunc(k.Keys, func(k control.Key) bool { return k.State == control.KeyOlder && k.Wraps != nil && *k.Wraps > 0 })
		half := slices.ContainsFunc(tenants, func(t control.Tenant) bool {
			return t.State != control.TenantActive && t.State != control.TenantErased
		})
		if !older && !half {
			return
		}
		if time.Now().After(give) {
			t.Fatalf("never settled: %+v %+v", k, tenants)
		}
	}
}

func answersWith(t *testing.T, listen, instance, session string, want int) {
	t.Helper()
	status, _, err := send(t.Context(), listen, instance, session, listMessage)
	if err != nil || status != want {
		t.Errorf("%s: %d, %v, want %d", instance, status, err, want)
	}
}
