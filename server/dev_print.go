package main

import (
	"fmt"
	"io"
	"strings"

	"rowcast/server/auth"
	"rowcast/sql"
)

// devGuest is who listens in "try this": the statements of chat_try.sql are about him.
const devGuest = "bob"

// devPage is what dev tells whoever started it.
type devPage struct {
	source  string // which Postgres
	url     string
	admin   string
	psql    string
	secret  string
	program string // how to call this program
	people  []person
}

// print writes everything ready to paste, in one piece.
func (p devPage) print(out io.Writer) error {
	var b strings.Builder
	var failed error
	line := func(name, text string) { fmt.Fprintf(&b, "%-16s  %s\n", name, text) }
	key := func(name, role, subject string, claims map[string]any) (token string) {
		token, err := auth.Mint([]byte(p.secret), auth.MintOptions{Subject: subject, Role: role, TTL: devKeyLife, Claims: claims})
		if err != nil {
			failed = err
		}
		line(name, token)
		return token
	}
	fmt.Fprintf(&b, "\nThe chat sample runs on %s. Ctrl-C stops and removes it.\n\n", p.source)
	line("URL", p.url)
	key("anon key", "anon", "", nil)
	key("service_role key", "service_role", "", nil)
	guest := ""
	for _, who := range p.people {
		token := key(who.Name, "authenticated", who.ID, map[string]any{"email": who.Name + "@example.com"})
		if who.Name == devGuest {
			guest = token
		}
	}
	line("JWT secret", p.secret)
	line("admin", p.admin)
	line("psql", p.psql)
	fmt.Fprintf(&b, "\nTry this: in a second terminal, listen as %s; in a third, open psql as above and paste these, one by one.\n\n", devGuest)
	fmt.Fprintf(&b, "%s listen %s --topic room:1 --private --token %s\n\n%s\n", p.program, p.url, guest, sql.ChatTry)
	if failed != nil {
		return failed
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// programName is how to call this program again; what `go run` builds has no name to speak of.
func programName(started string) string {
	if strings.Contains(started, "go-build") {
		return "go run ./server"
	}
	return started
}
