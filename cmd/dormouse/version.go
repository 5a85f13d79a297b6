package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/journal"
)

type versionCmd struct {
	jsonFlag
}

type versionInfo struct {
	Version   string   `json:"version"`
	Revision  string   `json:"revision,omitempty"`
	Modified  bool     `json:"modified,omitempty"`
	Time      string   `json:"time,omitempty"`
	Go        string   `json:"go"`
	Platform  string   `json:"platform"`
	Protocols []string `json:"protocols"`
	Kinds     []string `json:"kinds"`
}

// Run shows what this binary is and what it understands.
func (c *versionCmd) Run(s console.Streams) error {
	v := version()
	if c.JSON {
		return console.JSON(s.Out, v)
	}
	revision := v.Revision
	if v.Modified {
		revision += " (with uncommitted changes)"
	}
	fmt.Fprintf(s.Out, "dormouse %s\n", v.Version)
	pairs := [][2]string{{"go", v.Go + " " + v.Platform}}
	if revision != "" {
		pairs = append(pairs, [2]string{"revision", strings.TrimSpace(revision + "  " + v.Time)})
	}
	pairs = append(pairs,
		[2]string{"MCP", strings.Join(v.Protocols, ", ")},
		[2]string{"events", wrap(v.Kinds, 8)},
	)
	console.Fields(s.Out, pairs)
	return nil
}

func version() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocols: protocols()}
	for k := journal.Kind(1); k <= journal.LastKind; k++ {
		v.Kinds = append(v.Kinds, k.String())
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = strings.Trim(info.Main.Version, "()")
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}

// protocols are the MCP versions that the gateway speaks to clients.
func protocols() []string { return []string{"2025-11-25", "2025-06-18", "2025-03-26"} }

// wrap joins words by commas, n to a line.
func wrap(words []string, n int) string {
	var lines []string
	for i := 0; i < len(words); i += n {
		lines = append(lines, strings.Join(words[i:min(i+n, len(words))], ", "))
	}
	return strings.Join(lines, ",\n")
}
