package main

import (
	"context"
	"slices"
	"strings"

	"rowcast/server/lint"
	"rowcast/server/postgres"
)

// check is something that doctor looks at by itself; what is a question to the database is a rule of package lint.
type check struct {
	title
	run func(ctx context.Context, p *patient) []lint.Finding
}

func doctorChecks() []check { return slices.Concat(configChecks, databaseChecks) }

// patient is a configuration and its database.
type patient struct {
	Config
	check title // under way

	asked    bool // what follows is known
	pool     *postgres.Pool
	away     error // why the database cannot be asked
	unready  error // why it could, but not as a server needs it
	migrated bool
}

// finding is one of the check under way.
func (p *patient) finding(object, finding, mend string) []lint.Finding {
	return []lint.Finding{{Rule: p.check.name, Severity: p.check.severity, Object: object, Finding: finding, Mend: mend}}
}

// rulesOfDoctor are those about the database, and of lint those without which no private channel works.
func rulesOfDoctor() []lint.Rule {
	vital := slices.DeleteFunc(lint.Policies(), func(r lint.Rule) bool {
		return !slices.Contains([]string{"rls_off", "rls_forced", "role_owns_messages", "role_bypasses_rls"}, r.Name)
	})
	return slices.Concat(lint.Database(), vital)
}

// doctorTitles lists checks and rules by name.
func doctorTitles() []title {
	all := titles(rulesOfDoctor())
	for _, c := range doctorChecks() {
		all = append(all, c.title)
	}
	slices.SortFunc(all, func(a, b title) int { return strings.Compare(a.name, b.name) })
	return all
}

func runDoctor(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("doctor [--check NAME ...] [--list] [--json]",
		"Checks a configuration and its database for what makes realtime fail quietly, and prints what it finds, each with\n"+
			"its mend. Give it the settings of the server, and run it on the server's machine. It changes nothing, and sends a\n"+
			"few notifications to find out whether they are heard. Exit code 0: nothing but hints, 1: errors or warnings.", settings)
	show := newShow(flags, "check")
	config, err := flags.parseOnly(args, std.env)
	if err != nil {
		return err
	}
	chosen, err := show.chosen(flags, doctorTitles())
	if err != nil {
		return err
	}
	if show.list {
		return show.printList(std.out, chosen)
	}
	if err := config.require("DATABASE_URL"); err != nil {
		return err
	}
	p := &patient{Config: config}
	defer p.close()
	found, err := p.examine(ctx, chosen)
	if err != nil {
		return err
	}
	return show.printFindings(std.out, found)
}

// examine goes on as far as it can. What cannot be asked for want of a database is not asked, and that there is none is
// a finding.
func (p *patient) examine(ctx context.Context, chosen []title) ([]lint.Finding, error) {
	wanted := func(c check) bool {
		return slices.ContainsFunc(chosen, func(t title) bool { return t.name == c.name })
	}
	rules := named(rulesOfDoctor(), chosen)
	asks := len(rules) > 0 || slices.ContainsFunc(databaseChecks, wanted)
	var all []lint.Finding
	for _, c := range doctorChecks() {
		if wanted(c) || asks && c.name == databaseChecks[0].name {
			p.check = c.title
			all = append(all, c.run(ctx, p)...)
		}
	}
	if len(rules) > 0 && p.reach(ctx) == nil {
		found, err := p.apply(ctx, rules)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	lint.Sort(all)
	return all, nil
}
