package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
)

type tenantsCmd struct {
	List  tenantsListCmd  `cmd:"" help:"List tenants with their sessions and data keys."`
	Erase tenantsEraseCmd `cmd:"" help:"Make a tenant's credentials and session IDs unreadable for ever, and close its sessions."`
}

type tenantsListCmd struct {
	storeFlags
	jsonFlag
}

// Help implements kong.HelpProvider.
func (*tenantsListCmd) Help() string {
	return `A tenant is listed while it has sessions or data keys, and after it was erased. Labels of tenants without sessions come from the history, which is read for it.

Example:

    dormouse tenants list`
}

// Run lists the tenants.
func (c *tenantsListCmd) Run(ctx context.Context, s console.Streams) error {
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	list, err := client.Tenants(ctx)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, list)
	}
	views.Tenants(s, list)
	return nil
}

type tenantsEraseCmd struct {
	storeFlags
	jsonFlag
	Tenant string `arg:"" help:"The tenant's label, or its ID, which may be abbreviated while it is unique."`
	Yes    bool   `help:"Do not ask. Required where nobody can be asked."`
}

// Help implements kong.HelpProvider.
func (*tenantsEraseCmd) Help() string {
	return `The tenant's data keys are securely deleted: its session IDs, upstream sessions and instance contexts can no longer be opened, in the journal and wherever else they were copied to. Its sessions are closed; their clients get 404. That it happened, and who asked, stays in the journal, as does the history without its secrets. It cannot be undone. See docs/keys.md for what is outside the promise.

Example:

    dormouse tenants erase acme`
}

// Run erases a tenant.
func (c *tenantsEraseCmd) Run(ctx context.Context, s console.Streams) error {
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	t, err := client.Tenant(ctx, c.Tenant)
	if err != nil {
		return answered(err)
	}
	if err := c.confirm(s, &t); err != nil {
		return err
	}
	e, err := client.EraseTenant(ctx, t.Tenant, whoami())
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, e)
	}
	views.Erased(s, &t, &e)
	return nil
}

// confirm asks, unless --yes was given.
func (c *tenantsEraseCmd) confirm(s console.Streams, t *control.Tenant) error {
	if c.Yes {
		return nil
	}
	if !s.InTTY {
		return console.Usage(errors.New("nobody is there to ask"), "say --yes to erase tenant %s for ever", views.Tenant(t.Label, t.Tenant))
	}
	fmt.Fprintf(s.Err, "Tenant %s (%s): %s will be closed and what they hold made unreadable for ever.\nErase it? Type yes: ",
		console.Clean(views.Tenant(t.Label, t.Tenant)), t.Tenant, views.Plural(t.Sessions, "session"))
	// What went wrong with reading, if anything, is no yes.
	answer, _ := bufio.NewReader(s.In).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return console.Failed(errors.New("nothing was erased"), "")
	}
	return nil
}
