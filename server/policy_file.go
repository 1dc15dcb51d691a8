package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"rowcast/server/policies"
	"rowcast/server/postgres"
)

// testLimits are those of a statement of a test, and of a script.
var testLimits = postgres.Limits{Statement: 30 * time.Second, Lock: 5 * time.Second}

func runPolicyTest(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("policy test FILE",
		`Tries the policies of the database on the people and topics that FILE names, in one transaction, which is
undone. FILE is YAML:

  setup: |                    # optional: SQL to begin with
    insert into members …;
  cases:
    - name: members talk      # optional
      as: {sub: a11ce000-…, role: authenticated, claims: {plan: pro}}
      topic: room:1
      extension: broadcast    # or presence; optional
      may: [receive, send]
      may_not: []
  then:                       # optional: changes, each on top of those before it
    - after: delete from members;
      cases: …                # as above

Writes a line for every case, in the form of the Test Anything Protocol. Exit code 0: all is as expected, 1: something
is not, or could not be tried, 2: FILE is not understood. DATABASE_URL is the server's role, a member of it, or a superuser:
better not that, as policies' functions can then do what a superuser can.
Give it ALLOWED_ROLES and BYPASS_ROLES of the server: tokens of other roles are refused, whatever policies say.`,
		settingsNamed("DATABASE_URL", "ALLOWED_ROLES", "BYPASS_ROLES"))
	config, text, err := flags.parseFile(args, std.env)
	if err != nil {
		return err
	}
	spec, err := policies.ParseSpec(text)
	if err != nil {
		return usagef("%v", err)
	}
	if err := config.require("DATABASE_URL"); err != nil {
		return err
	}
	failed, err := spec.Run(ctx, config.DatabaseURL, testLimits, policies.Roles{Allowed: config.AllowedRoles, Bypass: config.BypassRoles}, std.out)
	if err == nil && failed > 0 {
		err = fmt.Errorf("not as expected: %d", failed)
	}
	return err
}

// maxPolicyFile bounds what is read of a file.
const maxPolicyFile = 16 << 20

// parseFile is parse for subcommands that take one file.
func (f *commandFlags) parseFile(args []string, env environment) (Config, []byte, error) {
	config, words, err := f.parse(args, env)
	if err != nil {
		return config, nil, err
	}
	if len(words) != 1 {
		return config, nil, usagef("want one file; see rowcast %s --help", f.command())
	}
	file, err := os.Open(words[0])
	if err != nil {
		return config, nil, usagef("%v", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxPolicyFile+1))
	if err == nil && len(text) > maxPolicyFile {
		err = fmt.Errorf("%s is longer than %d bytes", words[0], maxPolicyFile)
	}
	if err != nil {
		return config, nil, usagef("%v", err)
	}
	return config, text, nil
}
