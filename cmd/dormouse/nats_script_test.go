package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"
)

// nats: start a NATS server with JetStream on loopback, in this process; sets $NATS to its URL.
func nats(ts *testscript.TestScript, _ bool, _ []string) {
	n, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: ts.MkAbs("nats"), SyncAlways: true,
	})
	ts.Check(err)
	n.Start()
	ts.Defer(func() {
		n.Shutdown()
		n.WaitForShutdown()
	})
	if !n.ReadyForConnections(30 * time.Second) {
		ts.Fatalf("the NATS server is not ready")
	}
	ts.Setenv("NATS", n.ClientURL())
}

// misname FILE: give a key file another naming key, and leave its rings as they are.
func misname(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o600))
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(line, "naming "); ok {
			first := "A"
			if rest[0] == 'A' {
				first = "B"
			}
			lines[i] = "naming " + first + rest[1:]
		}
	}
	ts.Check(os.WriteFile(filepath.Clean(ts.MkAbs(args[0])), []byte(strings.Join(lines, "\n")), 0o600))
}
