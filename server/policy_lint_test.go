package main

import (
	"encoding/json"
	"strings"
	"testing"

	"rowcast/server/lint"
	"rowcast/server/pgtest"
)

func TestPolicyLint(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	env := []string{"DATABASE_URL=" + db.URL}
	if got := runProgram(t, env, "policy", "lint", "--rule", "rls_off", "--rule", "anybody_sends"); got != (result{exitGood, "nothing found\n", ""}) {
		t.Errorf("nothing wrong: %+v", got)
	}
	if got := runProgram(t, env, "policy", "lint", "--json", "--rule", "rls_off"); got != (result{exitGood, "[]\n", ""}) {
		t.Errorf("nothing wrong, as JSON: %+v", got)
	}
	if _, err := db.Admin.Exec(t.Context(), `alter table realtime.messages disable row level security;
		create policy "talk`+"\x1b"+`" on realtime.messages for insert to anon with check (true);
		create policy asked on realtime.messages for update using (realtime.topic() = 'a')`); err != nil {
		t.Fatal(err)
	}
	rules := []string{"policy", "lint", "--rule", "topic_unchecked", "--rule", "anybody_sends", "--rule", "rls_off"}
	got := runProgram(t, env, rules...)
	want := "error    anybody_sends: policy \"talk\ufffd\"\n" +
		"         lets anon send on every topic, whatever other permissive policies say\n" +
		"         mend: drop policy \"talk\ufffd\" on realtime.messages;  -- or compare topic with realtime.topic() and say who may\n" +
		"error    rls_off: table realtime.messages\n" +
		"         row level security is switched off: no policy is applied, and every private join is refused\n" +
		"         mend: alter table realtime.messages enable row level security;\n" +
		"hint     topic_unchecked: policy asked\n" +
		"         asks for realtime.topic() and never looks at the column topic\n" +
		"         mend: add topic = realtime.topic()\n"
	if got != (result{exitFinding, want, "rowcast policy: found 2 errors, 1 hint\n"}) {
		t.Errorf("got %+v", got)
	}
	got = runProgram(t, env, append(rules, "--json")...)
	var found []lint.Finding
	if err := json.Unmarshal([]byte(got.out), &found); err != nil || len(found) != 3 || got.code != exitFinding ||
		found[1] != (lint.Finding{Rule: "rls_off", Severity: lint.Error, Object: "table realtime.messages",
			Finding: "row level security is switched off: no policy is applied, and every private join is refused",
			Mend:    "alter table realtime.messages enable row level security;"}) {
		t.Errorf("as JSON: %+v, %v", got, err)
	}
	if got := runProgram(t, env, "policy", "lint", "--rule", "topic_unchecked"); got.code != exitGood || !strings.HasPrefix(got.out, "hint ") || got.errout != "" {
		t.Errorf("hints alone: %+v", got)
	}
	if got := runProgram(t, append(env, "ALLOWED_ROLES=authenticated"), "policy", "lint", "--rule", "anybody_sends"); got.code != exitGood {
		t.Errorf("roles that no token may name: %+v", got)
	}
	empty := runProgram(t, nil, "policy", "lint", "--database-url", pgtest.NewEmpty(t).URL)
	if empty.code != exitFinding || empty.errout != "rowcast policy: there is no table realtime.messages: run rowcast migrate up\n" {
		t.Errorf("without the schema: %+v", empty)
	}
}

func TestPolicyUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "no subcommand; see rowcast policy --help"},
		{[]string{"lnit"}, `unknown subcommand "lnit"; see rowcast policy --help`},
		{[]string{"lint"}, "DATABASE_URL is required: set it in the environment or give --database-url"},
		{[]string{"lint", "--rule", "none"}, `there is no rule "none"; see rowcast policy lint --list`},
		{[]string{"lint", "now"}, `unexpected argument "now"; see rowcast policy lint --help`},
	} {
		if got := runProgram(t, nil, append([]string{"policy"}, tt.args...)...); got.code != exitUsage || !strings.HasPrefix(got.errout, "rowcast policy: "+tt.want) {
			t.Errorf("%q: %+v", tt.args, got)
		}
	}
	for _, c := range policyCommands().commands {
		got := runProgram(t, nil, "policy", c.name, "--help")
		if got.code != exitGood || !strings.HasPrefix(got.out, "Usage: rowcast policy "+c.name) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	got := runProgram(t, nil, "policy", "lint", "--list", "--rule", "rls_off")
	if got != (result{exitGood, "error    rls_off                   Row level security is switched off on realtime.messages.\n", ""}) {
		t.Errorf("the list: %+v", got)
	}
	got = runProgram(t, nil, "policy", "lint", "--list", "--json")
	var list []map[string]string
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || len(list) != len(lint.Policies()) {
		t.Errorf("the list as JSON: %+v, %v", got, err)
	}
}
