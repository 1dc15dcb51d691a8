package migrations_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// finding is one row of explain().
type finding struct{ Subject, Action, Extension, Name, Value, Sentence, Kind, Roles, Expression string }

const explained = `select subject, coalesce(action, ''), coalesce(extension, ''), coalesce(name, ''), coalesce(value, ''), coalesce(sentence, ''),
	coalesce(kind, ''), coalesce(roles, ''), coalesce(expression, '') from realtime.explain($1, $2::jsonb, $3) order by step`

// findings is an explanation whose parts fit each other.
type findings []finding

func explain(t *testing.T, conn *pgx.Conn, topic, claims string, role any) findings {
	t.Helper()
	rows, err := conn.Query(within(t), explained, topic, claims, role)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[finding])
	if err != nil {
		t.Fatalf("explain %s: %v", topic, err)
	}
	return all
}

// where gives the findings of a subject: those of one action and extension where these are named.
func (f findings) where(subject, action, extension string) (list findings) {
	for _, one := range f {
		if one.Subject == subject && (action == "" || one.Action == action) && (extension == "" || one.Extension == extension) {
			list = append(list, one)
		}
	}
	return list
}

// policy is the value of a policy for broadcasts, and what is said of it.
func (f findings) policy(t *testing.T, name, action string) (value, sentence string) {
	t.Helper()
	for _, one := range f.where("policy", action, "") {
		if one.Name == name && one.Extension != "presence" {
			return one.Value, one.Sentence
		}
	}
	t.Fatalf("%s is not listed for %s", name, action)
	return "", ""
}

func (f findings) summary(t *testing.T) string {
	t.Helper()
	list := f.where("summary", "", "")
	if len(list) != 1 || f[len(f)-1] != list[0] {
		t.Fatalf("%d summaries, not one at the end", len(list))
	}
	return list[0].Sentence
}

const ann = `{"sub": "ann", "role": "authenticated"}`

// Every kind of no has its sentence, which names what mends it where something does; and none is another than the server's.
func TestExplainSaysWhy(t *testing.T) {
	t.Parallel()
	const who = "authenticated sub=ann "
	for _, test := range []struct {
		name       string
		statements []string
		want       string // the summary; %R stands for the role of the server
		claims     string
		topic      string
	}{
		{name: "no policy at all", want: who + "may neither receive nor send on x: receive: no policy for SELECT applies to role authenticated: nothing is permitted; send: no policy for INSERT applies to role authenticated: nothing is permitted"},
		{name: "for others", statements: []string{"create policy p on realtime.messages for select to anon using (true)"},
			want: who + "may neither receive nor send on x: receive: no policy for SELECT applies to role authenticated: nothing is permitted; send: no policy for INSERT"},
		{name: "for other commands", statements: []string{"create policy p on realtime.messages for update using (true)", "create policy q on realtime.messages for delete using (true)"},
			want: who + "may neither receive nor send on x: receive: no policy for SELECT applies"},
		{name: "all", statements: []string{"create policy p on realtime.messages using (topic = 'x')"}, want: who + `may receive and send on x: policy "p" is true`},
		{name: "WITH CHECK of FOR ALL", statements: []string{"create policy p on realtime.messages using (topic = 'x') with check (false)"},
			want: who + `may receive but not send on x: policy "p" is false`},
		{name: "restrictive", statements: []string{"create policy p on realtime.messages using (true)", "create policy x on realtime.messages as restrictive for insert with check (topic <> 'x')"},
			want: who + `may receive but not send on x: policy "x" (restrictive) is false`},
		{name: "restrictive alone", statements: []string{"create policy x on realtime.messages as restrictive using (true)"},
			want: who + "may neither receive nor send on x: receive: no policy for SELECT applies"},
		{name: "null", statements: []string{"create policy p on realtime.messages using (topic = nullif(topic, topic))"},
			want: who + `may neither receive nor send on x: policy "p" is null, which counts as false`},
		{name: "without expression", statements: []string{"create policy p on realtime.messages for select", "create policy q on realtime.messages for insert"},
			want: who + "may neither receive nor send on x: receive: no policy for SELECT applies"},
		{name: "several are false", statements: []string{"create policy p on realtime.messages using (topic = 'a')", "create policy q on realtime.messages using (topic = 'b')"},
			want: who + `may neither receive nor send on x: none of the policies "q", "p" is true`},
		{name: "by extension", statements: []string{"create policy p on realtime.messages using (extension = 'presence')"},
			want: who + `on x: broadcast: may neither receive nor send (policy "p" is false); presence: may receive and send (policy "p" is true)`},
		{name: "raises", statements: []string{"create policy p on realtime.messages using (1 / (length(topic) - 1) = 1)"},
			want: who + `may neither receive nor send on x: policy "p" raises 22012: division by zero`},
		{name: "raises before one that is true", statements: []string{"create policy z on realtime.messages using (1 / (length(topic) - 1) = 1)", "create policy a on realtime.messages using (topic = 'x')"},
			want: who + `may neither receive nor send on x: policy "z" raises`},
		{name: "raises behind one that is true", statements: []string{"create policy a on realtime.messages using (1 / (length(topic) - 1) = 1)", "create policy z on realtime.messages using (topic = 'x')"},
			want: who + `may receive and send on x: policy "z" is true`},
		{name: "a table without its grant, behind one that is true", statements: []string{"create table public.orgs (x int)",
			"create policy a on realtime.messages using (exists (select from public.orgs))", "create policy z on realtime.messages using (topic = 'x')"},
			want: who + `may neither receive nor send on x: policy "a" cannot be executed (42501: permission denied for table orgs), so nothing is allowed whatever other policies say: grant select on public.orgs to authenticated;`},
		{name: "the same, but others are not asked", statements: []string{"create table public.orgs (x int)",
			"create policy z on realtime.messages using (exists (select from public.orgs))", "create policy a on realtime.messages using (true)"},
			want: who + `may receive and send on x: policy "a" is true`},
		{name: "the same, for one that turns out to be", statements: []string{"create table public.orgs (x int)",
			"create policy z on realtime.messages using (exists (select from public.orgs))", "create policy a on realtime.messages using (not (topic = 'x' and false))"},
			want: who + `may receive and send on x: policy "a" is true of every row`},
		{name: "a function without its grant", statements: []string{"create schema app", "grant usage on schema app to rowcast", "create function app.ok() returns boolean language sql as 'select true'",
			"revoke execute on function app.ok() from public", "create policy p on realtime.messages using (app.ok())"},
			want: who + `may neither receive nor send on x: policy "p" cannot be executed (42501: permission denied for function ok), so nothing is allowed whatever other policies say: grant execute on function app.ok() to authenticated;`},
		{name: "no SELECT", statements: []string{"revoke select on realtime.messages from authenticated", "create policy p on realtime.messages using (true)"},
			want: who + "may send but not receive on x: authenticated has no SELECT on realtime.messages: grant select on realtime.messages to authenticated;"},
		{name: "no INSERT", statements: []string{"revoke insert on realtime.messages from authenticated", "create policy p on realtime.messages using (true)"},
			want: who + "may receive but not send on x: authenticated has no INSERT on realtime.messages: grant insert on realtime.messages to authenticated;"},
		{name: "INSERT on some columns", statements: []string{"revoke insert on realtime.messages from authenticated", "grant insert (topic, payload) on realtime.messages to authenticated", "create policy p on realtime.messages using (true)"},
			want: who + "may receive but not send on x: authenticated has no INSERT"},
		{name: "grants on columns", statements: []string{"revoke all on realtime.messages from authenticated", "grant insert (id, topic, extension), select (id, inserted_at) on realtime.messages to authenticated", "create policy p on realtime.messages using (true)"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "no USAGE", statements: []string{"revoke usage on schema realtime from public", "create policy p on realtime.messages using (true)"},
			want: who + "may neither receive nor send on x: authenticated has no USAGE on schema realtime: grant usage on schema realtime to authenticated;"},
		{name: "switched off", statements: []string{"alter table realtime.messages disable row level security"},
			want: who + "may neither receive nor send on x: row level security is switched off on realtime.messages"},
		{name: "forced", statements: []string{"alter table realtime.messages force row level security"},
			want: who + "may neither receive nor send on x: FORCE ROW LEVEL SECURITY on realtime.messages blinds the server"},
		{name: "no such role", claims: `{"role": "nobody_here"}`, want: "nobody_here may neither receive nor send on x: role nobody_here does not exist"},
		{name: "the server's role", claims: `{"role": "%R"}`, want: "%R may neither receive nor send on x: role %R owns realtime.messages, directly or through a role it inherits"},
		{name: "bypasses", claims: `{"role": "service_role"}`, want: "service_role may receive and send on x: service_role bypasses row level security"},
		{name: "bypasses and may not", claims: `{"role": "service_role"}`, statements: []string{"update realtime._settings set value = '{}' where name = 'bypass_roles'"},
			want: "service_role may neither receive nor send on x: role service_role bypasses row level security and is not in BYPASS_ROLES"},
		{name: "bypasses without a grant", claims: `{"role": "service_role"}`, statements: []string{"revoke insert on realtime.messages from service_role"},
			want: "service_role may receive but not send on x: service_role has no INSERT on realtime.messages: grant insert"},
		{name: "a schema that the role may not use", statements: []string{"create schema private", "grant usage on schema private to rowcast",
			"create function private.ok(text) returns boolean language sql as 'select $1 = ''x'''", "create policy p on realtime.messages using (private.ok(topic))"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "a schema that the server may not use either", statements: []string{"create schema private",
			"create function private.ok(text) returns boolean language sql as 'select $1 = ''x'''", "create policy p on realtime.messages using (private.ok(topic))"},
			want: who + `may receive and send on x: is allowed; policy "p" could not be evaluated by %R, only by the decision: grant usage on schema private to %R;`},
		{name: "functions that are nobody's by default", statements: []string{"alter default privileges for role rowcast revoke execute on functions from public", "create policy p on realtime.messages using (topic = 'x')"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "a name with quotes", statements: []string{`create policy "it's ""%s"" %I" on realtime.messages using (topic like '%s%I%%' or topic = format('%%%s', 'x'))`}, topic: "%x",
			want: who + `may receive and send on %x: policy "it's "%s" %I" is true`},
		{name: "another table of the same name", statements: []string{"create table public.messages (topic text)", "insert into public.messages values ('x')", "grant select on public.messages to authenticated",
			"create policy p on realtime.messages using (exists (select from public.messages where messages.topic = realtime.topic() and realtime.messages.extension <> ''))"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "the whole row", statements: []string{"create function public.mine(m realtime.messages) returns boolean language sql as 'select m.topic = ''x'' and m.id is not null'",
			"create policy p on realtime.messages using (public.mine(messages) and messages is not null is not null)"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "an expression without end", statements: []string{"create policy p on realtime.messages using (topic in ('x'" + strings.Repeat(", 'some other topic'", 5000) + "))"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "search_path", statements: []string{"create function public.found() returns boolean language plpgsql as $$ begin return helper(); end $$", "create function public.helper() returns boolean language sql as 'select true'",
			"create policy p on realtime.messages using (public.found())"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "its own claims", statements: []string{"create policy p on realtime.messages using (current_user = 'authenticated' and realtime.topic() = topic and current_setting('request.jwt.claim.sub') = 'ann' and current_setting('request.jwt.claims')::jsonb ->> 'sub' = 'ann')"},
			want: who + `may receive and send on x: policy "p" is true`},
		{name: "recursion", statements: []string{"create policy p on realtime.messages using (exists (select from realtime.messages))"},
			want: who + `may neither receive nor send on x: policy "p" cannot be executed (42P17: infinite recursion detected in policy for relation "messages"), so nothing`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			fill := func(text string) string { return strings.ReplaceAll(text, "%R", pgtest.ServerRole) }
			for _, statement := range test.statements {
				exec(t, admin(t, db), strings.ReplaceAll(statement, "to rowcast", "to "+pgtest.ServerRole))
			}
			if test.claims == "" {
				test.claims = ann
			}
			if test.topic == "" {
				test.topic = "x"
			}
			conn := server(t, db)
			var got findings
			leavesNothing(t, db, conn, func() { got = explain(t, conn, test.topic, fill(test.claims), nil) })
			if summary := got.summary(t); !strings.HasPrefix(summary, fill(test.want)) {
				t.Errorf("got  %s\nwant %s", summary, fill(test.want))
			}
			if differs := got.where("difference", "", ""); len(differs) > 0 {
				t.Errorf("%+v", differs)
			}
			if len(got.where("verdict", "", "")) != 4 || len(got.where("server", "", "")) != 4 {
				t.Errorf("not all verdicts: %+v", got)
			}
		})
	}
}

// What policies do that are up to no good is undone, and told of this policy alone.
func TestExplainIsLeftAloneByPolicies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, value string }{
		{"becomes service_role", "perform set_config('role', 'service_role', false); return true;", "true"},
		{"becomes the server", "perform set_config('role', 'none', false); return true;", "true"},
		{"writes a row", "insert into public.seen values (topic); return true;", "true"},
		{"broadcasts", "perform realtime.send('{}', 'e', 'good:a'); return false;", "false"},
		{"leaks claims", `perform set_config('request.jwt.claims', '{"sub": "eve"}', false), set_config('realtime.topic', 'eve', false), set_config('search_path', 'hostile', false); return null;`, "null"},
		{"raises RB001", "raise exception using errcode = 'RB001';", "error RB001: RB001"},
		{"fails an assertion", "assert false; return true;", "error P0004: assertion failed"},
		{"raises without end", "raise '%', repeat('%s', 100000);", "error P0001: " + strings.Repeat("%s", 500)},
		{"recurses", "return hostile.acts(topic);", "error 54001: stack depth limit exceeded"},
		{"drops what evaluates it", "execute format('drop function realtime._policy_%s(realtime.messages[])', pg_backend_pid()); return true;", "error 42501: "},
		{"locks", "lock table public.held in access exclusive mode; return true;", "unknown 55P03: canceling statement due to lock timeout"},
		{"sleeps", "perform pg_sleep(600); return true;", "unknown 57014: canceling statement due to statement timeout"},
		{"swallows the timer", "begin perform pg_sleep(600); exception when query_canceled then return true; end; return true;", "true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db, conn := withPolicies(t,
				"create schema hostile", "create table public.seen (topic text)", "create table public.held ()",
				"grant usage on schema hostile to public", "grant all on public.seen, public.held to authenticated",
				"create function hostile.acts(topic text) returns boolean language plpgsql as $$ begin "+test.body+" end $$",
				"create policy bad on realtime.messages for select using (case when topic = 'bad' then hostile.acts(topic) end)",
				"create policy aaa on realtime.messages using (topic = 'bad' and extension = 'presence')") // asked after it
			exec(t, conn, "set lock_timeout = '100ms'")
			slow, locked := strings.Contains(test.body, "pg_sleep"), strings.HasPrefix(test.body, "lock")
			if slow {
				exec(t, conn, "set statement_timeout = '1s'")
			}
			if locked {
				exec(t, admin(t, db), "begin", "lock table public.held")
			}
			var got findings
			leavesNothing(t, db, conn, func() { got = explain(t, conn, "bad", ann, nil) })
			if value, _ := got.policy(t, "bad", "receive"); !strings.HasPrefix(value, test.value) || len(value) > 1100 {
				t.Errorf("bad is %s, want %s", value, test.value)
			}
			stopped := slow || locked
			if value, _ := got.policy(t, "aaa", "send"); !stopped && value != "false" || stopped && !strings.HasPrefix(value, "unknown 57014: ") {
				t.Errorf("the one after it is %s", value)
			}
			for _, one := range got.where("policy", "receive", "presence") {
				if stopped && one.Name == "bad" && one.Value != "unknown 57014: the policies before it have used up statement_timeout" {
					t.Errorf("the same policy, asked once more, is %s", one.Value)
				}
			}
			for _, one := range got.where("server", "receive", "broadcast") {
				if stopped && (one.Value != "" || one.Sentence != "not asked: statement_timeout is used up") {
					t.Errorf("the decision: %+v", one)
				}
			}
			exec(t, conn, "reset statement_timeout")
			if next := explain(t, conn, "good:a", ann, nil).where("server", "receive", "broadcast"); len(next) != 1 || next[0].Value != "true" {
				t.Errorf("the next question on the same connection: %+v", next)
			}
			rows := value[int](t, admin(t, db), `select (select count(*) from public.seen)
				+ (select count(*) from pg_proc where proname like '\_policy\_%' and pronamespace = 'realtime'::regnamespace)`)
			if rows > 0 {
				t.Errorf("%d rows stay", rows)
			}
		})
	}
}

// Where what is listed does not lead to the server's verdict, explain() says so by itself.
func TestExplainSaysThatItDiffers(t *testing.T) {
	t.Parallel()
	_, conn := withPolicies(t,
		"create function public.once() returns boolean language plpgsql as $$ begin perform set_config('public.asked', 'yes', true); return false; end $$",
		"create policy z on realtime.messages using (topic = 'x' and public.once())",
		"create policy a on realtime.messages using (topic = 'x' and current_setting('public.asked', true) = 'yes')")
	got := explain(t, conn, "x", ann, nil)
	differs := got.where("difference", "", "")
	if len(differs) != 4 || differs[0].Name != "decide" || differs[0].Sentence != "what is listed here leads to false, the server decides true: what decide says counts" {
		t.Errorf("%+v", differs)
	}
	if want := "authenticated sub=ann may receive and send on x: is allowed"; got.summary(t) != want {
		t.Errorf("got %s, want %s", got.summary(t), want)
	}
}

func TestExplainListsPoliciesInOrder(t *testing.T) {
	t.Parallel()
	_, conn := withPolicies(t,
		"create policy b on realtime.messages as restrictive for select to authenticated, anon using (true)",
		"create policy a on realtime.messages as restrictive using (true)",
		`create policy "Z" on realtime.messages for update using (true)`,
		"create policy o on realtime.messages for select to service_role using (true)")
	var names []string
	for _, one := range explain(t, conn, "good:x", ann, nil).where("policy", "receive", "") {
		if one.Extension != "presence" {
			names = append(names, strings.Join([]string{one.Name, one.Kind, one.Roles, one.Value, one.Sentence}, " | "))
		}
	}
	want := []string{
		"o | permissive | service_role |  | does not apply: it is for service_role",
		"good_out | permissive | public |  | does not apply: it is for INSERT",
		"good_in | permissive | public | true | is true",
		"Z | permissive | public |  | does not apply: it is for UPDATE",
		"a | restrictive | public | true always | is true of every row",
		"b | restrictive | authenticated, anon | true always | is true of every row",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestExplainAsksLikeCan(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t)
	refused(t, conn, "22004", "topic", "select realtime.explain(null, '{}', 'anon')")
	refused(t, conn, "22023", "no role", "select realtime.explain('x', '{}')")
	refused(t, conn, "22023", "no role", "select realtime.explain('x', null)")
	exec(t, conn, "begin", `set local request.jwt.claims = '{"sub": "ann", "role": "authenticated"}'`)
	if got := value[string](t, conn, "select sentence from realtime.explain('good:x', null) where subject = 'summary'"); !strings.HasPrefix(got, "authenticated sub=ann may receive and send on good:x") {
		t.Errorf("the session's claims: %s", got)
	}
	if got := value[string](t, conn, "select sentence from realtime.explain('good:x', null, 'anon') where subject = 'summary'"); !strings.HasPrefix(got, "anon sub=ann may receive and send on good:x") {
		t.Errorf("another role: %s", got)
	}
	exec(t, conn, "rollback", "begin read only")
	refused(t, conn, "25006", "read-write transaction", "select realtime.explain('x', '{}', 'anon')")
	exec(t, conn, "rollback")

	const asked = "select sentence from realtime.explain('good:x', '" + ann + "') where subject = 'summary'"
	for _, conn := range []*pgx.Conn{conn, dial(t, db.As(pgtest.DBARole)), admin(t, db)} {
		if got := value[string](t, conn, asked); !strings.HasPrefix(got, "authenticated sub=ann may receive and send") {
			t.Errorf("%s: %s", conn.Config().User, got)
		}
	}
	for _, role := range []string{"anon", "authenticated", "service_role"} {
		exec(t, conn, "set role "+role)
		refused(t, conn, "42501", "permission denied for function explain", asked)
		refused(t, conn, "42501", "permission denied for function _evaluate", "select realtime._evaluate('true', '{}', 'anon', '{}', now())")
	}
}

// A superuser may become anybody. What counts is whether the server may.
// Of many policies the sentence names three, and those first that are about this topic and this user.
func TestExplainNamesTheNearest(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for i := range 6 {
		exec(t, admin(t, db), strings.ReplaceAll(`create policy p# on realtime.messages for insert to authenticated with check (topic = 'other#')`, "#", strconv.Itoa(i)))
	}
	exec(t, admin(t, db), `create policy a on realtime.messages for insert to authenticated with check (topic = 'x' and extension = 'presence')`)
	got := explain(t, server(t, db), "x", `{"sub": "ann", "role": "authenticated"}`, nil)
	want := `none of the policies "a", "p5", "p4" and 4 more is true`
	if v := got.where("verdict", "send", "broadcast"); len(v) != 1 || v[0].Sentence != want {
		t.Errorf("%+v, want %s", v, want)
	}
}

func TestExplainKnowsWhomTheServerMayBecome(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t)
	role := db.NewRole(t, "nologin")
	exec(t, admin(t, db), "grant select, insert on realtime.messages to "+role)
	want := role + " sub=ann may neither receive nor send on good:x: the server, " + pgtest.ServerRole + ", may not become " + role + ": grant " + role + " to " + pgtest.ServerRole + ";"
	for _, conn := range []*pgx.Conn{conn, admin(t, db)} {
		if got := explain(t, conn, "good:x", ann, role).summary(t); got != want {
			t.Errorf("%s: got %s, want %s", conn.Config().User, got, want)
		}
	}
}
