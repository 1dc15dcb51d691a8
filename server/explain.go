package main

import (
	"context"
	"encoding/json"
	"errors"

	"rowcast/server/explain"
	"rowcast/server/postgres"
	"rowcast/server/printable"
)

func runExplain(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("explain --topic T --sub S [--role R] [--claims JSON]",
		`Tells why a user may or may not receive and send on a topic: role, grants, each policy with its value, what the
server decides, and one sentence. Exit code 0: may receive broadcasts, 1: may not, or what is listed leads to another
verdict than the server's (what decide says counts).`, settingsNamed("DATABASE_URL"))
	var q explain.Question
	flags.StringVar(&q.Topic, "topic", "", "the channel's `NAME`, such as room:1; with or without realtime: before it")
	flags.StringVar(&q.Subject, "sub", "", "the claim sub, an `ID`; without it the claims have none")
	flags.StringVar(&q.Role, "role", "", "the Postgres `role` (default: the claim role, else authenticated)")
	claims := flags.String("claims", "", "further claims, a `JSON` object; --sub wins over its sub")
	c, err := flags.parseOnly(args, std.env)
	if err != nil {
		return err
	}
	if q.Topic == "" {
		return usagef("give --topic; see rowcast explain --help")
	}
	if err := c.require("DATABASE_URL"); err != nil {
		return err
	}
	q.Claims = json.RawMessage(*claims)
	pool, err := postgres.Open(ctx, c.DatabaseURL, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	report, err := explain.Ask(ctx, pool, q)
	switch {
	case errors.Is(err, explain.ErrQuestion):
		return usagef("%v", err)
	case err != nil:
		return err
	}
	if err := report.Print(std.out); err != nil {
		return err
	}
	switch {
	case report.Differs:
		return errors.New("what is listed leads to another verdict than the server's: what decide says counts")
	case !report.Receive:
		return errors.New(printable.Text(report.Summary))
	}
	return nil
}
