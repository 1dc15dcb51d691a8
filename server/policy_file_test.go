package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// written is a file with a text.
func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// databaseEnv is the environment of a DBA who is a member of the server's role and no superuser.
func databaseEnv(db *pgtest.DB) []string { return []string{"DATABASE_URL=" + db.As(pgtest.DBARole)} }

// aliceAndBob is what the documentation shows, with everything in it that a file may hold.
const aliceAndBob = `
setup: |
  insert into public.rooms (id, name) values (77, 'new');
  insert into public.members (user_id, room_id) values ('b0b00000-0000-4000-8000-000000000002', 77);
cases:
  - name: bob talks
    as: &bob {sub: b0b00000-0000-4000-8000-000000000002, role: authenticated, claims: {plan: pro}}
    topic: room:77
    may: [receive, send]
  - as: &anyone {role: anon}
    topic: room:77
    extension: presence
    headers: {x-test: "yes"}
    may_not: [receive, send]
then:
  - after: update public.members set muted = true where room_id = 77;
    cases:
      - {name: bob listens, as: *bob, topic: room:77, may: [receive], may_not: [send]}
      - {name: 'he is # still present', as: *bob, topic: room:77, extension: presence, may: [receive, send]}
  - after: |
      -- on top of that
      delete from public.members where room_id = 77;
    cases:
      - {name: bob is out, as: *bob, topic: room:77, may_not: [receive, send]}
`

func TestPolicyTest(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	if _, err := db.Admin.Exec(t.Context(), "grant select, insert, update, delete on rooms, members to dba; create policy dba on rooms to dba using (true); create policy dba on members to dba using (true)"); err != nil {
		t.Fatal(err)
	}
	got := runProgram(t, databaseEnv(db), "policy", "test", written(t, "chat.yaml", aliceAndBob))
	want := "1..5\nok 1 - bob talks\nok 2 - as anon on room:77\nok 3 - bob listens\nok 4 - he is \\# still present\nok 5 - bob is out\n"
	if got != (result{exitGood, want, ""}) {
		t.Errorf("%+v", got)
	}
	wrong := strings.NewReplacer("may: [receive], may_not: [send]", "may: [receive, send]", "may_not: [receive, send]}", "may: [receive]}").Replace(aliceAndBob)
	got = runProgram(t, databaseEnv(db), "policy", "test", written(t, "chat.yaml", wrong))
	for _, line := range []string{
		"ok 1 - bob talks", "not ok 3 - bob listens", "# line 18: " + bobID + " as authenticated may not send on room:77 (broadcast)",
		"# after: update public.members set muted = true where room_id = 77;",
		"not ok 5 - bob is out", "# line 24: " + bobID + " as authenticated may not receive on room:77 (broadcast)",
	} {
		if !strings.Contains(got.out, "\n"+line+"\n") {
			t.Errorf("no line %q in %s", line, got.out)
		}
	}
	if got.code != exitFinding || got.errout != "rowcast policy: not as expected: 2\n" {
		t.Errorf("%+v", got)
	}
	if rooms := scalar[int](t, db, "select count(*) from rooms where id = 77"); rooms != 0 {
		t.Errorf("%d rooms were kept", rooms)
	}
}

// Whatever a file's SQL does, it is undone, and what cannot be tried is no success.
func TestPolicyTestUndoesEverything(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	for _, tt := range []struct{ sql, want string }{
		{"commit", "no statement may begin or end a transaction"},
		{"delete from members; CoMMit /* now */ ; select 1", "no statement may begin or end a transaction"},
		{"delete from members; end; begin", "no statement may begin or end a transaction"},
		{"savepoint a", "no statement may begin or end a transaction"},
		{"do $$ begin delete from public.members; commit; end $$", "no statement may begin or end a transaction"},
		{"create procedure p() language plpgsql as $$ begin commit; end $$; call p()", "no statement may begin or end a transaction"},
		{"prepare transaction 'x'", "no statement may begin or end a transaction"},
		{"vacuum", "VACUUM cannot"},
		{"select 1;\nselect *\nfrom nowhere", `line 3: relation "nowhere" does not exist`},
		{"select 1;\nselct", `line 2: syntax error at or near "selct"`},
		{"\\i file.sql", "syntax error"},
		{"select 1/0", "division by zero"},
		{"create table a (id int primary key); create table b (id int references a deferrable initially deferred); insert into b values (1)", "violates foreign key constraint"},
		{"set role anon; set search_path = nowhere; set statement_timeout = 1; set request.jwt.claims = 'x'", ""},
	} {
		file := fmt.Sprintf("setup: %q\ncases: [{as: {sub: %s, role: authenticated}, topic: room:1, may: [receive]}]\n", tt.sql, aliceID)
		got := runProgram(t, []string{"DATABASE_URL=" + db.AdminURL}, "policy", "test", written(t, "file.yaml", file))
		if tt.want == "" {
			if got.code != exitGood || !strings.Contains(got.out, "\nok 1 ") {
				t.Errorf("%s: %+v", tt.sql, got)
			}
			continue
		}
		if got.code != exitFinding || !strings.Contains(got.errout, tt.want) || !strings.Contains(got.out, "\nBail out! setup: ") || strings.Contains(got.out, "ok 1") {
			t.Errorf("%s: %+v", tt.sql, got)
		}
	}
	if members := scalar[int](t, db, "select count(*) from members"); members != 4 {
		t.Errorf("%d members are left", members)
	}
}

// What is put off until COMMIT has been done when the policies are asked.
func TestPolicyTestIsAsAfterCommit(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	file := fmt.Sprintf(`
setup: |
  create function mute() returns trigger language plpgsql as $$ begin update public.members set muted = true where user_id = new.user_id; return null; end $$;
  create constraint trigger mute after update on members deferrable initially deferred for each row when (not new.muted) execute function mute();
cases:
  - {as: &alice {sub: %s, role: authenticated}, topic: room:1, may: [receive, send]}
then:
  - after: update public.members set muted = false where user_id = '%[1]s'
    cases: [{as: *alice, topic: room:1, may: [receive], may_not: [send]}]
`, aliceID)
	if got := runProgram(t, []string{"DATABASE_URL=" + db.AdminURL}, "policy", "test", written(t, "file.yaml", file)); got.code != exitGood {
		t.Errorf("%+v", got)
	}
}

// Nobody is refused for a slip of the pen, or for a policy that fails, without being told.
func TestPolicyTestTellsWhyNot(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	file := written(t, "file.yaml", `
cases:
  - {name: a slip, as: {sub: `+bobID+`, role: authentcated}, topic: room:1, may_not: [receive, send]}
  - {name: a member, as: {sub: `+bobID+`, role: authenticated}, topic: room:1, may_not: [receive]}
  - {name: no such member, as: {sub: `+daveID+`, role: authenticated}, topic: room:1, may_not: [receive, send]}
then:
  - after: revoke select on public.members from authenticated
    cases:
      - {name: out, as: {sub: `+daveID+`, role: authenticated}, topic: room:1, may_not: [receive, send]}
`)
	got := runProgram(t, []string{"DATABASE_URL=" + db.AdminURL}, "policy", "test", file)
	want := `1..4
not ok 1 - a slip
# line 3: there is no role authentcated
not ok 2 - a member
# line 4: ` + bobID + ` as authenticated may receive on room:1 (broadcast)
ok 3 - no such member
ok 4 - out
# an error refuses: `
	if got.code != exitFinding || !strings.HasPrefix(got.out, want) || !strings.Contains(got.out, "permission denied for table members") {
		t.Errorf("%+v", got)
	}
}

// Who is refused at the door may do nothing, whatever policies say; realtime.can() knows only the database.
func TestPolicyTestKnowsTheServersRoles(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), `create policy everybody on realtime.messages using (true) with check (true)`); err != nil {
		t.Fatal(err)
	}
	role, free := db.NewRole(t, ""), db.NewRole(t, "bypassrls")
	if _, err := db.Admin.Exec(t.Context(), "grant usage on schema realtime to "+role+", "+free+"; grant select, insert on realtime.messages to "+role+", "+free); err != nil {
		t.Fatal(err)
	}
	if !scalar[bool](t, db, "select realtime.can('receive', 'a', role => '"+role+"')") {
		t.Error("can() asks for more than the policies")
	}
	file := written(t, "file.yaml", `
cases:
  - {name: may, as: {role: `+role+`}, topic: a, may: [receive, send]}
  - {name: may not, as: {role: `+role+`}, topic: a, may_not: [send]}
  - {name: free, as: {role: `+free+`}, topic: a, may: [receive]}
`)
	database := "DATABASE_URL=" + db.AdminURL
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{[]string{database}, "1..3\nnot ok 1 - may\n# line 3: as " + role + " may not receive, may not send on a (broadcast)\n# refused: role " + role + " is not in ALLOWED_ROLES\n" +
			"ok 2 - may not\n# refused: role " + role + " is not in ALLOWED_ROLES\n" +
			"not ok 3 - free\n# line 5: as " + free + " may not receive on a (broadcast)\n# refused: role " + free + " is not in ALLOWED_ROLES\n"},
		{[]string{database, "ALLOWED_ROLES=" + role + " " + free, "BYPASS_ROLES="}, "1..3\nok 1 - may\nnot ok 2 - may not\n# line 4: as " + role + " may send on a (broadcast)\n" +
			"not ok 3 - free\n# line 5: as " + free + " may not receive on a (broadcast)\n# role " + free + " bypasses row level security and is not in BYPASS_ROLES\n"},
		{[]string{database, "ALLOWED_ROLES=" + role + " " + free, "BYPASS_ROLES=" + free}, "1..3\nok 1 - may\nnot ok 2 - may not\n# line 4: as " + role + " may send on a (broadcast)\nok 3 - free\n"},
	} {
		if got := runProgram(t, tt.env, "policy", "test", file); got.code != exitFinding || got.out != tt.want {
			t.Errorf("%q: %+v, want %s", tt.env[1:], got, tt.want)
		}
	}
}

// What a file and the policies say does not steer the terminal.
func TestPolicyTestIsPrintable(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	if _, err := db.Admin.Exec(t.Context(), `create function steers() returns boolean language plpgsql as $$ begin raise E'a\x1b[2Jb'; end $$;
		create policy steers on realtime.messages for select to anon using (steers())`); err != nil {
		t.Fatal(err)
	}
	file := written(t, "file.yaml", `cases: [{name: "c\e[2Jd", as: {role: anon}, topic: room:1, may_not: [receive]}]`)
	got := runProgram(t, []string{"DATABASE_URL=" + db.AdminURL}, "policy", "test", file)
	if got.code != exitGood || strings.Contains(got.out, "\x1b") || !strings.Contains(got.out, "\nok 1 - c\ufffd[2Jd\n") || !strings.Contains(got.out, "a\ufffd[2Jb") {
		t.Errorf("%+v", got)
	}
}

func TestPolicyTestUsage(t *testing.T) {
	t.Parallel()
	const person = "as: {sub: a, role: anon}"
	for file, want := range map[string]string{
		"":                          "no cases",
		"cases: []":                 "no cases",
		"cases: [":                  "at L2.C1",
		"cases: []\nthem: []":       "line 2: field them not found",
		"cases:\n- topic: a\n  may": "at L3.C3",
		"cases:\n- {" + person + ", topic: a, may: [receive], might: [send]}":              "line 2: field might not found",
		"cases:\n- {as: {sub: a, rule: anon}, topic: a, may: [receive]}":                   "line 2: field rule not found",
		"cases:\n- {" + person + ", topic: a}":                                             "line 2: expects nothing",
		"cases:\n- {" + person + ", topic: a, may: [read]}":                                `line 2: unknown action "read"`,
		"cases:\n- {" + person + ", topic: a, may: [send], may_not: [send]}":               "line 2: send is said twice",
		"cases:\n- {" + person + ", may: [send], name: lost}":                              `case "lost" has no topic`,
		"cases:\n- {as: {sub: a}, topic: a, may: [send]}":                                  "line 2: no role",
		"cases:\n- {" + person + ", topic: a, extension: braodcast, may_not: [send]}":      `line 2: unknown extension "braodcast"`,
		"cases:\n- {" + person + ", topic: 'realtime:a', may_not: [send]}":                 `line 2: the topic "realtime:a" begins with realtime:`,
		"cases:\n- {" + person + ", topic: [a], may: [send]}":                              "line 2: want a text",
		"cases:\n- {" + person + ", topic: a, may: [send]}\n- {name: b}\n---\ncases: []\n": "second document",
	} {
		got := runProgram(t, []string{"DATABASE_URL=postgres://nobody@127.0.0.1:1/none"}, "policy", "test", written(t, "file.yaml", file))
		if got.code != exitUsage || !strings.Contains(got.errout, want) || got.out != "" {
			t.Errorf("%s: %+v, want %q", file, got, want)
		}
	}
	good := written(t, "file.yaml", "cases:\n- {"+person+", topic: a, may: [send]}")
	for _, args := range [][]string{{"policy"}, {"policy", "tests"}, {"policy", "test"}, {"policy", "test", "nowhere.yaml"}, {"policy", "test", good, good}, {"policy", "test", good}} {
		if got := runProgram(t, nil, args...); got.code != exitUsage || got.errout == "" || got.out != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	away := "connect: failed to connect to `user=nobody database=none`: 127.0.0.1:1 (127.0.0.1): dial error: dial tcp 127.0.0.1:1: connect: connection refused"
	for _, args := range [][]string{{"policy", "test", good}, {"policy", "lint"}} {
		got := runProgram(t, []string{"DATABASE_URL=postgres://nobody@127.0.0.1:1/none"}, args...)
		if want := "rowcast policy: " + away + "; rowcast doctor says what to do\n"; got.code != exitFinding || got.errout != want {
			t.Errorf("%q without a database: %+v", args, got)
		}
	}
	for _, name := range []string{"test", "diff"} {
		if got := runProgram(t, nil, "policy", name, "--help"); got.code != exitGood || !strings.HasPrefix(got.out, "Usage: rowcast policy "+name) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
