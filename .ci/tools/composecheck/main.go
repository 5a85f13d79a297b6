// Command composecheck loads Compose files as Docker does, against the specification's schema, and says what is wrong
// with them: composecheck FILE... Variables come from the environment.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: composecheck FILE...")
		os.Exit(2)
	}
	if err := check(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(files []string) error {
	o, err := cli.NewProjectOptions(files, cli.WithOsEnv, cli.WithResolvedPaths(true), cli.WithInterpolation(true))
	if err != nil {
		return err
	}
	p, err := o.LoadProject(context.Background())
	if err != nil {
		return err
	}
	for _, name := range p.ServiceNames() {
		s, err := p.GetService(name)
		if err != nil {
			return err
		}
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == "bind" && err != nil {
				return fmt.Errorf("service %s: %w", name, err)
			}
		}
		fmt.Printf("%-12s %s %v\n", name, s.Image, s.Command)
	}
	return nil
}
