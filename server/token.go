package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"rowcast/server/auth"
	"rowcast/server/jwks"
	"rowcast/server/metrics"
	"rowcast/server/printable"
)

// tokenSettings are those that decide whether a token is accepted.
var tokenSettings = []string{"JWT_SECRET", "JWT_JWKS", "JWT_JWKS_URL", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_ROLE_CLAIM", "JWT_DEFAULT_ROLE", "ALLOWED_ROLES"}

func runToken(ctx context.Context, args []string, std stdio) error {
	if len(args) > 0 && args[0] == "inspect" {
		return runTokenInspect(ctx, args[1:], std)
	}
	return runTokenMint(args, std)
}

func runTokenMint(args []string, std stdio) error {
	flags := newFlags("token --sub ID --role R [--claim k=v ...] [--ttl 1h]",
		`Mints a JWT, signed with JWT_SECRET, and prints it alone on standard output. It also gets the first
of JWT_ISSUER and of JWT_AUDIENCE, where these are set.

rowcast token inspect T says what is wrong with a token.`, settingsNamed(tokenSettings...))
	sub := flags.String("sub", "", "who the token is for, an `ID`; without it the token has no claim sub")
	role := flags.String("role", "", "the Postgres `role`, written to the claim that JWT_ROLE_CLAIM names")
	ttl := flags.Duration("ttl", time.Hour, "time until the token expires, a `duration` (default 1h); a negative one makes an expired token")
	claims := map[string]any{}
	flags.Func("claim", "a further claim `k=v`, may be repeated; v is JSON where it reads as a JSON object, array, number, true,\n"+
		"      false or quoted string, else the text itself; wins over claims that are made from other flags",
		func(text string) error { return addClaim(claims, text) })
	config, err := flags.parseOnly(args, std.env)
	if err != nil {
		return err
	}
	if err := config.require("JWT_SECRET"); err != nil {
		return err
	}
	if *role == "" && config.JWTDefaultRole == "" && config.JWTRoleClaim == "role" && claims["role"] == nil {
		return usagef("no role: give --role, one of %s", strings.Join(config.AllowedRoles, ", "))
	}
	if *ttl == 0 {
		return usagef("--ttl 0 would expire at once: give a duration such as 1h")
	}
	addExpected(claims, "iss", config.JWTIssuers)
	addExpected(claims, "aud", config.JWTAudiences)
	token, err := auth.Mint([]byte(config.JWTSecret), auth.MintOptions{
		Subject: *sub, Role: *role, RoleClaim: config.JWTRoleClaim, TTL: *ttl, Claims: claims,
	})
	if err != nil {
		return err
	}
	if problems := auth.Inspect(token, config.verifierOptions()).Problems; len(problems) > 0 {
		fmt.Fprintln(std.err, printable.Text("rowcast token: a server with these settings will refuse this token: "+problems[0]))
	}
	_, err = fmt.Fprintln(std.out, token)
	return err
}

// addClaim reads k=v. The text null stays text, because a null claim counts as absent.
func addClaim(claims map[string]any, text string) error {
	name, v, found := strings.Cut(text, "=")
	if !found || name == "" {
		return fmt.Errorf("want name=value")
	}
	if v != "null" && json.Valid([]byte(v)) {
		claims[name] = json.RawMessage(v)
	} else {
		claims[name] = v
	}
	return nil
}

func addExpected(claims map[string]any, name string, accepted []string) {
	if _, given := claims[name]; !given && len(accepted) > 0 {
		claims[name] = accepted[0]
	}
}

func runTokenInspect(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("token inspect T",
		"Prints what a token says and everything that is wrong with it. Exit code 0: a server with these settings\naccepts it now, 1: it does not. The keys are fetched once from JWT_JWKS_URL, where that is set.",
		settingsNamed(tokenSettings...))
	config, words, err := flags.parse(args, std.env)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return usagef("want one token; see rowcast token inspect --help")
	}
	options := config.verifierOptions()
	if len(config.JWTJWKSURLs) > 0 {
		keys := config.fetchedKeys(nil, slog.New(slog.DiscardHandler), metrics.New())
		if err := keys.Fetch(ctx); err != nil {
			fmt.Fprintf(std.out, "note       %s\n", printable.Text(strings.ReplaceAll(err.Error(), "\n", "; ")))
		}
		options.Source = keys
	}
	found := auth.Inspect(words[0], options)
	if err := printInspection(std, found); err != nil {
		return err
	}
	switch n := len(found.Problems); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("a server with these settings refuses this token: %s", found.Problems[0])
	default:
		return fmt.Errorf("a server with these settings refuses this token: %d problems", n)
	}
}

func printInspection(std stdio, found auth.Inspection) error {
	var b strings.Builder
	if found.Claims.Raw != nil {
		fmt.Fprintf(&b, "algorithm  %q\n", found.Algorithm)
		if found.KeyID != "" {
			fmt.Fprintf(&b, "key id     %q\n", found.KeyID)
		}
		fmt.Fprintf(&b, "subject    %q\nrole       %q\n", found.Claims.Subject, found.Claims.Role)
		if at := found.Claims.Expires; !at.IsZero() {
			fmt.Fprintf(&b, "expires    %s (in %s)\n", at.UTC().Format(time.RFC3339), time.Until(at).Round(time.Second))
		}
		fmt.Fprintf(&b, "claims     %s\n", printable.Text(string(found.Claims.Raw)))
	}
	for _, problem := range found.Problems {
		fmt.Fprintf(&b, "wrong      %s\n", problem)
	}
	if len(found.Problems) == 0 {
		b.WriteString("good       a server with these settings accepts it\n")
	}
	_, err := fmt.Fprint(std.out, b.String())
	return err
}

// verifierOptions is what the settings say about tokens, but for the keys that have to be fetched.
func (c Config) verifierOptions() auth.VerifierOptions {
	return auth.VerifierOptions{
		Keys:         c.keySet(),
		Secret:       []byte(c.JWTSecret),
		Issuers:      slices.Clone(c.JWTIssuers),
		Audiences:    slices.Clone(c.JWTAudiences),
		RoleClaim:    c.JWTRoleClaim,
		DefaultRole:  c.JWTDefaultRole,
		AllowedRoles: slices.Clone(c.AllowedRoles),
	}
}

// keySet is the one that is given as a setting, nil if there is none.
func (c Config) keySet() *auth.KeySet {
	if c.JWTJWKS == "" {
		return nil
	}
	set, err := auth.ParseKeySet([]byte(c.JWTJWKS), false)
	if err != nil {
		panic("a key set that was checked: " + err.Error())
	}
	return set
}

// fetchedKeys are those of the addresses that the settings name.
func (c Config) fetchedKeys(transport http.RoundTripper, logger *slog.Logger, m *metrics.Metrics) *jwks.Fetcher {
	return jwks.New(jwks.Options{URLs: c.JWTJWKSURLs, Transport: transport, Logger: logger, Metrics: m})
}
