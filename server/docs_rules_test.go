package main

import (
	"fmt"
	"strings"

	"rowcast/server/lint"
)

// lintPage and doctorPage are made from what the rules say of themselves.
func lintPage() string {
	return "# What `rowcast policy lint` finds\n\n" +
		"It asks the database, by one query for each rule, and changes nothing. Give it the settings of the server: rules know\n" +
		"`ALLOWED_ROLES` and `BYPASS_ROLES`, and how many issuers `JWT_ISSUER` and `JWT_JWKS_URL` name.\n\n" +
		"```sh\nrowcast policy lint                  # exit code 1 if there are errors or warnings\nrowcast policy lint --rule rls_off   # one rule\n" +
		"rowcast policy lint --json           # [{rule, severity, object, finding, mend}, …]\nrowcast policy lint --list\n```\n\n" +
		"An *error* is a right that somebody has who should not, or private channels that do not work. A *warning* is one that may\n" +
		"come to be. A *hint* may be as it is meant. Each finding comes with what mends it. Expressions are read as text, as Postgres\n" +
		"prints them, and what functions do is not known: lint finds usual mistakes, and proves nothing.\n\n" +
		rulesTable(titles(lint.Policies()))
}

func doctorPage() string {
	return "# What `rowcast doctor` finds\n\n" +
		"It checks a configuration and its database for what makes realtime fail quietly. Give it all settings of the server, and run\n" +
		"it on the server's machine, before the first start or when something is odd. It changes nothing. It may run beside a server.\n\n" +
		"```sh\nrowcast doctor                          # exit code 1 if there are errors or warnings\nrowcast doctor --check listen_unheard   # one check\n" +
		"rowcast doctor --json                   # [{rule, severity, object, finding, mend}, …]\nrowcast doctor --list\n```\n\n" +
		"An *error* keeps a server, or somebody's private channels, from working. With a *warning* it works, until circumstances come. A\n" +
		"*hint* may be as it is meant. Where the database cannot be reached, or lacks migrations, what can be checked without it is. About\n" +
		"policies, doctor asks only whether they count at all; [lint](lint.md) looks at what they say.\n\n" +
		rulesTable(doctorTitles())
}

func rulesTable(all []title) string {
	var b strings.Builder
	b.WriteString("| name | | what is wrong | why it matters |\n|---|---|---|---|\n")
	for _, t := range all {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", t.name, t.severity, t.text, strings.ReplaceAll(t.why, "|", `\|`))
	}
	return b.String()
}
