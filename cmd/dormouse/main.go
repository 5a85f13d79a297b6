// Command dormouse keeps MCP sessions alive across crashes, deploys and replicas.
//
// This package only wires: flags to options, and the rooms' adapters to one another. See `dormouse --help`.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
)

func main() { os.Exit(run(os.Args[1:], console.Standard())) }

// exited carries the exit code of --help out of kong's parser.
type exited int

// run parses args, runs the command and returns the exit code.
func run(args []string, streams console.Streams) (code int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exited:
			code = int(r)
		default:
			panic(r)
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the process at once.
	defer context.AfterFunc(ctx, stop)()

	parsed, err := parse(args, streams)
	if err != nil {
		return console.Report(streams.Err, err)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return console.Report(streams.Err, parsed.Run(streams))
}

func parse(args []string, streams console.Streams) (*kong.Context, error) {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("dormouse"),
		kong.Description(description),
		kong.Vars{"data": "./dormouse-data"},
		kong.Writers(streams.Out, streams.Err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 110, NoAppDescFormat: true}),
		kong.ExplicitGroups(groups()),
		kong.DefaultEnvars("DORMOUSE"),
	)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		return parsed, nil
	}
	hint := "dormouse --help"
	if pe, ok := errors.AsType[*kong.ParseError](err); ok && pe.Context.Selected() != nil {
		hint = pe.Context.Selected().FullPath() + " --help"
	}
	return nil, console.Usage(err, "see `%s`", hint)
}

// BeforeResolve puts the configuration file below flags and environment.
func (c *cli) BeforeResolve(k *kong.Kong, ctx *kong.Context) error {
	for _, flag := range ctx.Flags() {
		if flag.Name != "config" {
			continue
		}
		path, _ := ctx.FlagValue(flag).(string)
		if path == "" {
			return nil
		}
		file, err := config.Load(path)
		if err != nil {
			return err
		}
		if err := file.Validate(k.Model); err != nil {
			return err
		}
		ctx.AddResolver(file)
	}
	return nil
}
