package main

import (
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// accessFlags say who gets in with a JWT, and how much of what everybody gets.
type accessFlags struct {
	AuthIssuer      string `help:"With --auth jwt: the issuer, to the letter of the iss claim." placeholder:"URL" group:"access"`
	AuthAudience    string `help:"With --auth jwt: what the aud claim must hold; by the MCP specification the URL under which clients reach the gateway." placeholder:"URL" group:"access"`
	AuthJWKSURL     string `help:"With --auth jwt: where the issuer publishes its keys." placeholder:"URL" name:"auth-jwks-url" group:"access"`
	AuthTenantClaim string `help:"With --auth jwt: the claim that names the tenant. Tokens without it are refused then." placeholder:"CLAIM" group:"access"`

	MaxSessionsPerPrincipal int `help:"Most sessions of one caller; 0 = no limit of its own." default:"0" group:"limits"`

	RateLimitPerTenant    config.Rate `help:"Most requests of one tenant, as 10/s, 600/m or 1000/h, all at once or evenly; as many new sessions besides. 0 = no limit." default:"0" group:"limits"`
	RateLimitPerPrincipal config.Rate `help:"Most requests of one caller, likewise. 0 = no limit." default:"0" group:"limits"`

	ForwardedFor string `help:"What an --upstream learns of the clients' addresses in X-Forwarded-For: none; set (the address that the gateway sees); append (that behind what the client sent, for a gateway that only trusted proxies reach)." enum:"none,set,append" default:"none" group:"upstream"`
}

// access turns the flags into configuration; auth is --auth.
func (f *accessFlags) access(auth string, c *daemon.Config) {
	if auth == "jwt" || f.AuthIssuer != "" || f.AuthAudience != "" || f.AuthJWKSURL != "" || f.AuthTenantClaim != "" {
		c.JWT = &gateway.JWTOptions{Issuer: f.AuthIssuer, Audience: f.AuthAudience, JWKS: f.AuthJWKSURL, TenantClaim: f.AuthTenantClaim}
	}
	c.MaxPerPrincipal = f.MaxSessionsPerPrincipal
	c.Limits = gateway.Limits{PerTenant: gateway.Rate(f.RateLimitPerTenant), PerPrincipal: gateway.Rate(f.RateLimitPerPrincipal)}
	switch f.ForwardedFor {
	case "set":
		c.ForwardedFor = gateway.ForwardedSet
	case "append":
		c.ForwardedFor = gateway.ForwardedAppend
	default:
		c.ForwardedFor = gateway.ForwardedNone
	}
}
