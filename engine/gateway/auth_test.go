package gateway_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// A changed token file is taken over by itself, once it is whole; a bad one leaves the former tokens.
func TestTokenFileIsWatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(s string) { must(t, os.WriteFile(path, []byte(s), 0o600)) }
	const alice, bob = "alices-long-token-1", "bobs-very-long-token"
	write("alice:" + alice + "\n")
	f, err := gateway.OpenTokenFile(path)
	must(t, err)
	in := func(what, token string, want bool) {
		t.Helper()
		who, err := ask(t, f, "Bearer "+token)
		if (err == nil) != want || err != nil && (!errors.Is(err, gateway.ErrUnauthenticated) || strings.Contains(err.Error(), token)) {
			t.Errorf("%s: %+v %v", what, who, err)
		}
	}
	poll := func(what string, want, fails bool) {
		t.Helper()
		changed, err := f.Poll()
		if changed != want && !fails || (err != nil) != fails {
			t.Errorf("%s: %v %v", what, changed, err)
		}
	}
	poll("the same", false, false)
	poll("the same", false, false)
	write("alice:" + alice + "\nbob acme bo")
	poll("being written", false, false)
	write("alice:" + alice + "\nbob acme " + bob + "\n")
	poll("written, seen once", false, false)
	in("bob, not yet", bob, false)
	poll("written, seen twice", true, false)
	in("bob", bob, true)
	in("alice", alice, true)
	poll("the same", false, false)
	write("junk")
	poll("bad, seen once", false, false)
	poll("bad", false, true)
	poll("bad, told already", false, false)
	in("bob, after a bad file", bob, true)
	must(t, os.Remove(path))
	poll("gone, seen once", false, false)
	poll("gone", false, true)
	poll("gone, told already", false, false)
	in("bob, after the file is gone", bob, true)
	write("bob acme " + bob + "\n")
	poll("there again, seen once", false, false)
	poll("there again", true, false)
	in("alice, taken out", alice, false)
	write("alice:" + alice + "\n")
	must(t, f.Reload())
	in("alice, by a signal", alice, true)
	poll("taken already", false, false)
	poll("taken already", false, false)
}

// What an upstream learns of a client's address is what the operator wants, never what the client says.
func TestForwardedFor(t *testing.T) {
	for name, c := range map[string]struct {
		how  gateway.ForwardedFor
		want string
	}{
		"none": {gateway.ForwardedNone, ""}, "set": {gateway.ForwardedSet, "127.0.0.1"},
		"append": {gateway.ForwardedAppend, "10.1.1.1, 10.2.2.2, 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan http.Header, 10)
			up := newStubborn(t)
			up.door.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got <- r.Header.Clone()
				up.ServeHTTP(w, r)
			}))
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url(), gateway.HTTPUpstreamOptions{ForwardedFor: c.how}))
			s.session("X-Forwarded-For", "10.1.1.1, 10.2.2.2", "X-Real-Ip", "10.1.1.1", "Forwarded", "for=10.1.1.1", "X-Forwarded-Host", "evil.example")
			h := <-got
			if strings.Join(h["X-Forwarded-For"], "|") != c.want {
				t.Errorf("X-Forwarded-For: %q", h["X-Forwarded-For"])
			}
			for _, name := range []string{"X-Real-Ip", "Forwarded", "X-Forwarded-Host"} {
				if (h.Get(name) == "") == (c.how == gateway.ForwardedAppend) {
					t.Errorf("%s: %q", name, h.Get(name))
				}
			}
		})
	}
}
