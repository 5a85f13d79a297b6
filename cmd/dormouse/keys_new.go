package main

import (
	"fmt"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

type keysNewCmd struct {
	File string `arg:"" help:"File to write, mode 0600. One that holds a keyring already is kept as it is."`
}

// Help implements kong.HelpProvider.
func (*keysNewCmd) Help() string {
	return `For replicas, which all need the same keys before the first one starts, and for keys that are kept apart from the data. A single 'dormouse serve' makes its own in the data folder.

Examples:

    dormouse keys new /etc/dormouse/keys
    dormouse serve --key-file /etc/dormouse/keys`
}

// Run makes the file, unless there is one.
func (c *keysNewCmd) Run(s console.Streams) error {
	_, created, err := seal.LoadOrCreate(c.File, true)
	if err != nil {
		return hinted(err, "")
	}
	if !created {
		fmt.Fprintf(s.Out, "kept: %s is a keyring already\n", c.File)
		return nil
	}
	fmt.Fprintf(s.Out, "made %s\nnext: back it up, apart from the data, and give it to every replica: dormouse serve --key-file %s\n", c.File, c.File)
	return nil
}
