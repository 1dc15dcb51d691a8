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

func rulesTable(all []title) string {
	var b strings.Builder
	b.WriteString("| rule | | what is wrong | why it matters |\n|---|---|---|---|\n")
	for _, t := range all {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", t.name, t.severity, t.text, strings.ReplaceAll(t.why, "|", `\|`))
	}
	return b.String()
}
