package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// flip DIR STREAM FILE PERCENT: invert a bit of a stopped store's file, so far into it. FILE is the last part of its path
// within the stream's folder, such as meta.inf, index.db or 1.blk.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	path := streamFile(ts, args[0], args[1], args[2])
	data, err := os.ReadFile(path)
	ts.Check(err)
	percent, err := strconv.Atoi(args[3])
	ts.Check(err)
	data[(len(data)-1)*percent/100] ^= 0x10
	ts.Check(os.WriteFile(path, data, 0o600))
}

// cut DIR STREAM FILE PERCENT: keep only so much of a stopped store's file.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	path := streamFile(ts, args[0], args[1], args[2])
	info, err := os.Stat(path)
	ts.Check(err)
	percent, err := strconv.ParseInt(args[3], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()*percent/100))
}

func streamFile(ts *testscript.TestScript, dir, stream, file string) string {
	root := filepath.Join(ts.MkAbs(dir), "jetstream")
	var found string
	ts.Check(filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		if err == nil && strings.Contains(path, "/"+stream+"/") && filepath.Base(path) == file {
			found = path
		}
		return err
	}))
	if found == "" {
		ts.Fatalf("%s has no %s of %s", dir, file, stream)
	}
	return found
}
