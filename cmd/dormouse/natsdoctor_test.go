package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// run runs dormouse to its end and returns what it said on both outputs.
func (f *fleet) run(args ...string) (text string, code int) {
	f.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.CommandContext(f.t.Context(), exe, args...)
	cmd.Args[0] = "dormouse"
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		f.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestCommandsOnNATS: beside a replica, and on a stopped one's folder, commands see the journal in NATS, and the doctor says
// what the servers guarantee.
func TestCommandsOnNATS(t *testing.T) {
	t.Parallel()
	f, acme := newFleet(t, 1), newTenant(t)
	a, b := f.add(), f.add()
	_ = acme.open(t, a)
	f.await("they hear one another", func() bool { return a.readiness().Replica.Others == 1 && b.readiness().Replica.Others == 1 })
	check := func(what, text string, code, want int, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) || code != want {
				t.Errorf("%s: code %d, want %d and %q in\n%s", what, code, want, part, text)
			}
		}
	}
	where := []string{"--data", a.data, "--key-file", f.keys, "--nats-url", f.url, "--nats-monitor", f.monitors[0]}
	text, code := f.run(append([]string{"doctor"}, where...)...)
	check("doctor beside a replica", text, code, 0, "replica r1", "stream's clock", "lag", "acknowledged and synced to disk by one NATS server")
	text, code = f.run("sessions", "ls", "--data", a.data)
	check("sessions beside a replica", text, code, 0, "acme")

	a.end(syscall.SIGTERM)
	text, code = f.run(append([]string{"doctor"}, where...)...)
	check("doctor on a stopped one's folder", text, code, 0, "1 session restored", "stream's clock", "the streams have one replica", "acknowledged and synced to disk by one NATS server")
	text, code = f.run(append([]string{"doctor"}, where[:6]...)...)
	check("doctor that is told of no monitoring port", text, code, 0, "cannot be seen from here", "sync_interval: always")
	text, code = f.run(append([]string{"sessions", "ls"}, where...)...)
	check("sessions on a stopped one's folder", text, code, 0, "acme")
	text, code = f.run(append([]string{"verify"}, where...)...)
	check("verify on a stopped one's folder", text, code, 0, "whole")
}

// TestSameNameTwice: of two replicas of one name the second one stops, and says why.
func TestSameNameTwice(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	a := f.add()
	b := f.prepare("--replica-name", a.name)
	text, code := f.run(b.args...)
	if code != 3 || !strings.Contains(text, "another replica has this name") || !strings.Contains(text, "--replica-name") {
		t.Errorf("code %d: %s", code, text)
	}
	if x := a.readiness(); x.State != "ready" {
		t.Errorf("the first one is %s", x.State)
	}
}
