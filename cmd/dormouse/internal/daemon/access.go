package daemon

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// tokenPoll is how often the token file is looked at. A change is taken over when it has been seen twice, so that a
// file that is being written is not read halfway.
const tokenPoll = 2 * time.Second

// checkAccess says what is wrong with how callers are told apart.
func (c *Config) checkAccess() error {
	ways := 0
	for _, is := range []bool{c.AuthTokenFile != "", c.Passthrough, c.JWT != nil} {
		if is {
			ways++
		}
	}
	switch {
	case ways > 1:
		return fmt.Errorf("%w: --auth-token-file, --auth passthrough and --auth jwt exclude each other", ErrConfig)
	case c.Passthrough && c.Upstream == "":
		return fmt.Errorf("%w: --auth passthrough needs an --upstream that checks the credentials", ErrConfig)
	case !IsLoopback(c.Listen) && ways == 0:
		return fmt.Errorf("%w: --listen %s", ErrUnsafe, c.Listen)
	}
	return nil
}

// checksTokens reports whether the clients' tokens are checked here, so that they are nobody else's business.
func (c *Config) checksTokens() bool { return c.AuthTokenFile != "" || c.JWT != nil }

// openAccess reads the token file, or makes the check of JWTs, which must be closed.
func (d *daemon) openAccess() (err error) {
	if d.c.AuthTokenFile != "" {
		if d.tokens, err = gateway.OpenTokenFile(d.c.AuthTokenFile); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if d.c.JWT != nil {
		o := *d.c.JWT
		o.Logger = d.log
		if d.jwt, err = gateway.NewJWT(o); err != nil {
			return fmt.Errorf("%w: --auth jwt wants --auth-issuer, --auth-audience and --auth-jwks-url: %w", ErrConfig, err)
		}
	}
	return nil
}

func (d *daemon) closeAccess() {
	if d.jwt != nil {
		_ = d.jwt.Close() // never fails
	}
}

// metadata tells clients where to get a token (RFC 9728).
func (d *daemon) metadata(mux *http.ServeMux) {
	if d.jwt == nil || d.jwt.MetadataPath() == "" {
		return
	}
	const root = "/.well-known/oauth-protected-resource"
	mux.Handle("GET "+root, d.jwt.Metadata())
	if path := d.jwt.MetadataPath(); path != root {
		mux.Handle("GET "+path, d.jwt.Metadata())
	}
}

// reloadTokens reads the token file again, as asked by SIGHUP.
func (d *daemon) reloadTokens() {
	if d.tokens == nil {
		return
	}
	if err := d.tokens.Reload(); err != nil {
		d.log.Error().Err(err).Msg("SIGHUP: the former tokens stay")
	} else {
		d.log.Info().Msg("SIGHUP: token file read again")
	}
}

// watchTokens takes over changes of the token file until ctx ends.
func (d *daemon) watchTokens(ctx context.Context) {
	if d.tokens == nil {
		return
	}
	tick := time.NewTicker(tokenPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch changed, err := d.tokens.Poll(); {
		case err != nil:
			d.log.Error().Err(err).Msg("the token file has changed; the former tokens stay")
		case changed:
			d.log.Info().Msg("the token file has changed: its tokens are taken over")
		}
	}
}
