package explain_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// matrixSets is how many sets of policies are made; each is asked about every role and topic, for four rights. EXPLAIN_SETS
// makes more of them.
const matrixSets = 70

// matrixTables are what the policies of the matrix read and call. Some of it is not granted to everybody.
const matrixTables = `
	create schema app; grant usage on schema app to public;
	create schema hidden; grant usage on schema hidden to rowcast;
	create function app.sub() returns text language sql stable return current_setting('request.jwt.claims', true)::jsonb ->> 'sub';
	create table app.members (who text, room int, muted boolean); grant select on app.members to public;
	insert into app.members values ('ann', 1, false), ('ann', 2, true), ('bob', 1, null), ('cat', 3, false);
	create table app.orgs (who text, open boolean); grant select on app.orgs to authenticated, anon;
	insert into app.orgs values ('ann', true), ('bob', false);
	alter table app.orgs enable row level security;
	create policy own on app.orgs for select using (who = app.sub());
	create table app.secrets (who text); grant select on app.secrets to authenticated;
	insert into app.secrets values ('ann');
	create table hidden.bans (who text); grant select on hidden.bans to anon, authenticated; insert into hidden.bans values ('bob');
	create function hidden.banned(who text) returns boolean language sql security definer set search_path = '' as 'select exists (select from hidden.bans b where b.who = $1)';
	create function app.member(topic text) returns boolean language plpgsql stable security definer set search_path = '' as
		$$ begin return exists (select from app.members m where m.who = app.sub() and 'room:' || m.room = topic); end $$;
	create function app.fails(topic text) returns boolean language plpgsql as
		$$ begin if topic = 'room:3' then raise 'not %', topic; end if; return topic = 'room:1'; end $$;
	create function app.closed() returns boolean language sql as 'select true'; revoke execute on function app.closed() from public; grant execute on function app.closed() to anon;
	create function app.writes(topic text) returns boolean language plpgsql security definer set search_path = '' as
		$$ begin insert into app.members values (topic, 9, false); perform set_config('role', 'none', true); return true; exception when others then return topic <> 'lobby'; end $$;
	create function app.whole(m realtime.messages) returns boolean language sql as 'select m.extension = ''presence'' or m.payload is null and m.topic = ''room:1''';`

// matrixTerms are what expressions are made of.
var matrixTerms = []string{
	"true", "false", "null::boolean",
	"topic = realtime.topic()", "topic = 'room:1'", "topic like 'room:%'", "realtime.topic() ~ '^room:[12]$'", "topic = any (array['lobby', 'room:2'])",
	"extension = 'broadcast'", "extension = 'presence'", "extension in ('broadcast', 'presence')", "messages.extension <> ''",
	"private is not true", "payload is null", "id::text <> ''", "inserted_at <= timezone('utc', now())", "messages is distinct from null", "app.whole(messages)",
	"app.sub() = 'ann'", "app.sub() is null", "(select app.sub()) in ('ann', 'bob')",
	"current_setting('request.jwt.claims', true)::jsonb ->> 'plan' = 'pro'", "(current_setting('request.jwt.claims', true)::jsonb ->> 'age')::int > 17",
	"current_user = 'authenticated'", "current_setting('request.jwt.claim.role', true) = 'anon'", "length(topic) between 5 and 6",
	"exists (select from app.members m where m.who = app.sub() and 'room:' || m.room = realtime.topic())",
	"exists (select from app.members m where m.who = app.sub() and 'room:' || m.room = topic and (extension = 'presence' or not muted))",
	"(select muted from app.members where who = app.sub() order by room limit 1)",
	"(select open from app.orgs)", "exists (select from app.orgs messages where messages.who = 'bob' and realtime.messages.topic <> 'x')",
	"app.sub() in (select who from app.secrets)", "not hidden.banned(app.sub())", "exists (select from hidden.bans where who = app.sub())",
	"app.member(topic)", "app.fails(topic)", "app.closed()", "app.writes(topic)",
	"1 / (length(topic) - 5) < 1", "topic::text = format('%s:%s', 'room', 1)", `topic <> '%I%s"'`,
}

// generator makes policies, the same from the same seed.
type generator struct{ *rand.Rand }

func (g generator) one(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) expression(depth int) string {
	if depth == 0 || g.IntN(3) == 0 {
		return g.one(matrixTerms...)
	}
	a, b := g.expression(depth-1), g.expression(depth-1)
	switch g.IntN(6) {
	case 0, 1:
		return "(" + a + " and " + b + ")"
	case 2, 3:
		return "(" + a + " or " + b + ")"
	case 4:
		return "(not " + a + ")"
	default:
		return "(case when " + a + " then " + b + " else " + g.expression(0) + " end)"
	}
}

// set is the statements that make one set of policies, on a table that has none.
func (g generator) set(group string) []string {
	statements := []string{"revoke all on realtime.messages from anon, authenticated", "grant select, insert on realtime.messages to authenticated, service_role"}
	statements = append(statements, g.one("grant select, insert on realtime.messages to anon", "grant select on realtime.messages to anon",
		"grant insert (id, topic, extension), select (id, inserted_at) on realtime.messages to anon", "grant insert (topic), select (topic) on realtime.messages to anon"))
	if g.IntN(20) == 0 {
		statements = append(statements, g.one("alter table realtime.messages disable row level security", "alter table realtime.messages force row level security",
			"update realtime._settings set value = '{}' where name = 'bypass_roles'"))
	}
	for i := range g.IntN(7) {
		name := pgx.Identifier{fmt.Sprintf("%s%d", g.one("a", "Z", "m", `it's "%s"`, "zz"), i)}.Sanitize()
		command, kind := g.one("all", "all", "select", "select", "insert", "insert", "update"), g.one("permissive", "permissive", "permissive", "restrictive")
		statement := fmt.Sprintf("create policy %s on realtime.messages as %s for %s to %s", name, kind, command,
			g.one("public", "public", "authenticated", "authenticated, anon", "anon", group, "service_role"))
		if command != "insert" && g.IntN(15) > 0 {
			statement += " using (" + g.expression(2) + ")"
		}
		if (command == "insert" || command == "all" && g.IntN(3) == 0) && g.IntN(15) > 0 {
			statement += " with check (" + g.expression(2) + ")"
		}
		statements = append(statements, statement)
	}
	return statements
}

// matrixCases are asked of every set.
type matrixCases struct{ topics, claims, roles []string }

func newMatrixCases(editor string) (c matrixCases) {
	for _, topic := range []string{"room:1", "room:2", "room:3", "lobby"} {
		for role, claims := range map[string][]string{
			"anon":          {"{}", `{"sub": "ann", "age": 30}`},
			"authenticated": {`{"sub": "ann", "plan": "pro", "age": 30}`, `{"sub": "bob", "age": 7}`, `{"sub": "cat", "plan": "free"}`},
			editor:          {`{"sub": "ann"}`},
			"service_role":  {"{}"},
			"nobody_here":   {"{}"},
			"rowcast":       {"{}"},
		} {
			for _, one := range claims {
				c.topics, c.claims, c.roles = append(c.topics, topic), append(c.claims, one), append(c.roles, role)
			}
		}
	}
	return c
}

// right is one answer of the matrix.
type right struct {
	number            int
	action, extension string
}

// TestVerdictsAreTheServers recomputes rights from what is listed, over random policies: it must come to what the server
// decides. What it cannot follow, and says so, is left out of the policies: functions that change settings for those after
// them, expressions that are constant and raise, policies that read realtime.messages itself, inserted_at compared with other
// times than now, system columns, and chance.
func TestVerdictsAreTheServers(t *testing.T) {
	t.Parallel()
	sets := matrixSets
	if text := os.Getenv("EXPLAIN_SETS"); text != "" {
		var err error
		if sets, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	db := pgtest.New(t)
	group := db.NewRole(t, "nologin")
	editor := db.NewRole(t, "nologin in role "+group)
	admin, err := db.Admin.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Release()
	run := func(statement string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	run(strings.ReplaceAll(matrixTables, "to rowcast", "to "+pgtest.ServerRole))
	run("update realtime._settings set value = value || '{nobody_here,rowcast," + editor + "}' where name = 'allowed_roles'; grant " + editor + " to " + pgtest.ServerRole + "; grant select, insert on realtime.messages to " + group)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())

	cases := newMatrixCases(editor)
	asked, allowed, differ := 0, 0, 0
	for seed := range sets {
		statements := generator{rand.New(rand.NewPCG(uint64(seed), 5))}.set(group)
		run(strings.Join(statements, ";"))
		decided := cases.decide(t, conn)
		listed, told := cases.explain(t, conn)
		for one, want := range decided {
			asked++
			if want == "true" {
				allowed++
			}
			if got := listed[one]; got != want || told[one] != "" {
				differ++
				t.Errorf("set %d: %s as %s with %s, %s %s: listed %q, decided %q, told %q\n%s", seed, cases.topics[one.number], cases.roles[one.number],
					cases.claims[one.number], one.action, one.extension, got, want, told[one], strings.Join(statements, ";\n"))
			}
		}
		if differ > 20 {
			t.FailNow()
		}
		run(`do $$ declare p name; begin
			for p in select polname from pg_policy where polrelid = 'realtime.messages'::regclass loop execute format('drop policy %I on realtime.messages', p); end loop; end $$;
			alter table realtime.messages enable row level security, no force row level security;
			update realtime._settings set value = '{service_role}' where name = 'bypass_roles'`)
	}
	t.Logf("%d sets of policies, %d questions, %d rights, of which %d allowed; %d differ", sets, sets*len(cases.roles), asked, allowed, differ)
	if share := float64(allowed) / float64(asked); share < 0.1 || share > 0.9 {
		t.Errorf("%.2f of the rights are allowed: a matrix that says nothing", share)
	}
}

func (c matrixCases) decide(t *testing.T, conn *pgx.Conn) map[right]string {
	t.Helper()
	decided := map[right]string{}
	n := len(c.topics)
	for _, extension := range []string{"broadcast", "presence"} {
		extensions, headers := make([]string, n), make([]string, n)
		for i := range n {
			extensions[i], headers[i] = extension, "{}"
		}
		rows, err := conn.Query(t.Context(), "select request, receive::text, send::text from ("+sql.Decide[:strings.LastIndex(sql.Decide, ";")]+") as d",
			c.topics, extensions, c.roles, c.claims, headers, bypassRoles(t, conn))
		if err != nil {
			t.Fatal(err)
		}
		var request int
		var receive, send *string
		if _, err := pgx.ForEachRow(rows, []any{&request, &receive, &send}, func() error {
			decided[right{request - 1, "receive", extension}] = text(receive)
			decided[right{request - 1, "send", extension}] = text(send)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(decided) != 4*n {
		t.Fatalf("%d rights were decided, want %d", len(decided), 4*n)
	}
	return decided
}

func bypassRoles(t *testing.T, conn *pgx.Conn) (roles []string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "select value from realtime._settings where name = 'bypass_roles'").Scan(&roles); err != nil {
		t.Fatal(err)
	}
	return roles
}

// explain gives the verdicts that are listed, and where explain() itself says that they are not the server's.
func (c matrixCases) explain(t *testing.T, conn *pgx.Conn) (listed, told map[right]string) {
	t.Helper()
	listed, told = map[right]string{}, map[right]string{}
	rows, err := conn.Query(t.Context(), `select number, subject, action, extension, value, e.sentence
		from unnest($1::text[], $2::text[], $3::text[]) with ordinality as c (topic, claims, asked, number), realtime.explain(c.topic, c.claims::jsonb, c.asked) as e
		where subject in ('verdict', 'difference')`, c.topics, c.claims, c.roles)
	if err != nil {
		t.Fatal(err)
	}
	var one right
	var subject string
	var value, sentence *string
	if _, err := pgx.ForEachRow(rows, []any{&one.number, &subject, &one.action, &one.extension, &value, &sentence}, func() error {
		at := one
		at.number--
		if subject == "verdict" {
			listed[at] = text(value)
		} else {
			told[at] = text(sentence)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return listed, told
}

func text(cell *string) string {
	if cell == nil {
		return ""
	}
	return *cell
}
