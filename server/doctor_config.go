package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"rowcast/server/lint"
	"rowcast/server/metrics"
)

// publicSecrets are in the documentation of other programs, and so known to everybody.
var publicSecrets = []string{
	"super-secret-jwt-token-with-at-least-32-characters-long",
	"your-super-secret-jwt-token-with-at-least-32-characters-long",
	"reallyreallyreallyreallyverysafe",
}

// configChecks look at the configuration alone.
var configChecks = []check{
	{title{"keys_missing", "There is no key to verify tokens with.", lint.Error,
		"The server does not start without one of JWT_SECRET, JWT_JWKS and JWT_JWKS_URL."},
		func(_ context.Context, p *patient) []lint.Finding {
			if p.JWTSecret != "" || p.JWTJWKS != "" || len(p.JWTJWKSURLs) > 0 {
				return nil
			}
			return p.finding("JWT_SECRET, JWT_JWKS and JWT_JWKS_URL", "are all empty", "set the one that your identity provider signs with")
		}},
	{title{"secret_short", "JWT_SECRET is short enough to be guessed.", lint.Warning,
		"Who guesses it makes tokens for anybody, service_role included. One token is enough to try guesses on, at home and without bound."},
		func(_ context.Context, p *patient) []lint.Finding {
			if n := len(p.JWTSecret); n > 0 && n < shortSecret {
				return p.finding("JWT_SECRET", fmt.Sprintf("has %d bytes, want %d", n, shortSecret), "set another one: openssl rand -hex 32")
			}
			return nil
		}},
	{title{"secret_public", "JWT_SECRET is known to everybody.", lint.Error,
		"It stands in the documentation or the samples of other programs. Whoever has read these makes tokens for anybody."},
		func(_ context.Context, p *patient) []lint.Finding {
			if slices.Contains(publicSecrets, p.JWTSecret) {
				return p.finding("JWT_SECRET", "is the secret of a sample", "set another one: openssl rand -hex 32")
			}
			return nil
		}},
	{title{"keys_unreachable", "Keys cannot be fetched from JWT_JWKS_URL.", lint.Error,
		"Tokens of that issuer are not accepted until they can: clients are told JwtKeysMissing."}, checkKeys},
	{title{"bypass_not_allowed", "A role of BYPASS_ROLES is not in ALLOWED_ROLES.", lint.Warning,
		"No token may name it. Where it is meant to be used, its tokens are refused; where it is not, it need not stand there."},
		func(_ context.Context, p *patient) []lint.Finding {
			var all []lint.Finding
			for _, role := range p.BypassRoles {
				if !slices.Contains(p.AllowedRoles, role) && !slices.Equal(p.BypassRoles, defaultConfig().BypassRoles) {
					all = append(all, p.finding("role "+role, "may bypass row level security, but no token may name it", "add it to ALLOWED_ROLES, or take it out of BYPASS_ROLES")...)
				}
			}
			return all
		}},
	{title{"admin_exposed", "ADMIN_ADDR is more than loopback.", lint.Warning,
		"Metrics and answers about health are there for whoever reaches the address; it asks for no token. What else it has it gives to this machine alone."},
		func(_ context.Context, p *patient) []lint.Finding {
			host, _, err := net.SplitHostPort(p.AdminAddr)
			if err != nil || host == "localhost" || net.ParseIP(host).IsLoopback() {
				return nil
			}
			return p.finding("ADMIN_ADDR "+p.AdminAddr, "is reachable from other machines", "set ADMIN_ADDR=127.0.0.1:4001, or see to it that only your monitoring reaches it")
		}},
	{title{"second_node_allowed", "ALLOW_SECOND_NODE is set.", lint.Warning,
		"Rooms live in a server's memory. Of two servers on one database, clients of one do not hear clients of the other, and nobody is told."},
		func(_ context.Context, p *patient) []lint.Finding {
			if !p.AllowSecondNode {
				return nil
			}
			return p.finding("ALLOW_SECOND_NODE", "lets a second server serve this database", "set ALLOW_SECOND_NODE=false: a second server then waits, and takes over when the first ends")
		}},
}

// checkKeys fetches them once; package jwks bounds how long that takes.
func checkKeys(ctx context.Context, p *patient) []lint.Finding {
	if len(p.JWTJWKSURLs) == 0 {
		return nil
	}
	err := p.fetchedKeys(nil, slog.New(slog.DiscardHandler), metrics.New()).Fetch(ctx)
	if err == nil {
		return nil
	}
	var all []lint.Finding
	for line := range strings.Lines(err.Error()) {
		all = append(all, p.finding("JWT_JWKS_URL", strings.TrimSpace(line), "open the address from this machine: it has to answer 200 with a JSON object with keys, within ten seconds, without a redirect to another host")...)
	}
	return all
}
