package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/lint"
	"rowcast/server/postgres"
	"rowcast/sql"
)

// inspectLimits leave time for many policies, and none for a lock: catalogs are hardly ever locked.
var inspectLimits = postgres.Limits{Statement: 10 * time.Second, Lock: 2 * time.Second}

// lintSettings are those that rules know of.
var lintSettings = []string{"DATABASE_URL", "JWT_JWKS_URL", "JWT_ISSUER", "ALLOWED_ROLES", "BYPASS_ROLES"}

func runPolicyLint(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("policy lint [--rule NAME ...] [--list] [--json]",
		"Asks the database for policies on realtime.messages, grants and roles that are unsafe, and prints what it finds,\n"+
			"each with its mend. It changes nothing. Give it the settings of the server. Exit code 0: nothing but hints,\n"+
			"1: errors or warnings.", settingsNamed(lintSettings...))
	show := newShow(flags, "rule")
	config, err := flags.parseOnly(args, std.env)
	if err != nil {
		return err
	}
	rules, err := show.chosen(flags, titles(lint.Policies()))
	if err != nil {
		return err
	}
	if show.list {
		return show.printList(std.out, rules)
	}
	if err := config.require("DATABASE_URL"); err != nil {
		return err
	}
	var found []lint.Finding
	err = postgres.Inspect(ctx, config.DatabaseURL, inspectLimits, func(ctx context.Context, tx pgx.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, sql.TableExists, "realtime.messages").Scan(&exists); err != nil {
			return fmt.Errorf("look for realtime.messages: %w", err)
		}
		if !exists {
			return errors.New("there is no table realtime.messages: run rowcast migrate up")
		}
		found, err = lint.Run(ctx, tx, named(lint.Policies(), rules), config.lintSettings())
		return err
	})
	if err != nil {
		return err
	}
	return show.printFindings(std.out, found)
}

// lintSettings is what rules may know of this configuration.
func (c Config) lintSettings() lint.Settings {
	return lint.Settings{
		AllowedRoles: c.AllowedRoles,
		BypassRoles:  c.BypassRoles,
		Issuers:      max(len(c.JWTIssuers), len(c.JWTJWKSURLs)),
		PoolSize:     c.PoolSize,
		Publication:  c.Publication,
		ChangesSlot:  c.ChangesSlot,
		FeedSource:   c.FeedSource,
	}
}
