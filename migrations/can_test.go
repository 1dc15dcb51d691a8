package migrations_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
)

func TestCan(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		"create policy p on realtime.messages for select to authenticated using (topic = 'read only' and extension = 'presence')",
		"create policy q on realtime.messages for select to anon using (topic = 'lobby')")
	const ann = `claims => '{"sub": "ann", "role": "authenticated"}'`
	for _, test := range []struct {
		arguments string
		want      bool
	}{
		{"'receive', 'good:x', " + ann, true},
		{"'send', 'good:x', " + ann, true},
		{"'receive', 'read only', " + ann, false}, // broadcast is the default
		{"'receive', 'read only', 'presence', " + ann, true},
		{"'send', 'read only', 'presence', " + ann, false},
		{`'send', 'good:x', claims => '{"sub": "bob", "role": "authenticated"}'`, false},
		{`'receive', 'lobby', claims => '{}', role => 'anon'`, true},
		{`'receive', 'lobby', claims => '{"role": "authenticated"}', role => 'anon'`, true}, // what is given counts
		{`'receive', 'x', claims => '{"role": "service_role"}'`, true},
		{`'receive', 'x', claims => '{"role": "rowcast"}'`, false},
		{`'receive', 'x', claims => '{"role": "nobody_here"}'`, false},
		{`'receive', 'x', claims => '{"role": ""}'`, false},
	} {
		leavesNothing(t, db, conn, func() {
			if got := value[bool](t, conn, "select realtime.can("+test.arguments+")"); got != test.want {
				t.Errorf("can(%s) is %t", test.arguments, got)
			}
		})
	}

	for _, test := range []struct{ arguments, state, words string }{
		{"'listen', 'x', " + ann, "22023", "action is 'listen'"},
		{"null, 'x', " + ann, "22023", "action is null"},
		{"'send', null, " + ann, "22004", "topic"},
		{"'send', 'x', null, " + ann, "22004", "extension"},
		{"'send', 'x'", "22023", "no role"},
		{"'send', 'x', claims => '{\"sub\": \"ann\"}'", "22023", "no role"},
		{"'send', 'x', claims => '[]'", "22023", "no role"},
	} {
		refused(t, conn, test.state, test.words, "select realtime.can("+test.arguments+")")
	}
}

// Without claims, those of the session count, as inside a request of PostgREST; never the role that calls.
func TestCanTakesTheSessionsClaims(t *testing.T) {
	t.Parallel()
	_, conn := withPolicies(t)
	exec(t, conn, "begin", `set local request.jwt.claims = '{"sub": "ann", "role": "authenticated"}'`, "set local realtime.topic = 'outer'")
	if !value[bool](t, conn, "select realtime.can('send', 'good:x')") {
		t.Error("the session's claims do not count")
	}
	if value[bool](t, conn, `select realtime.can('send', 'good:x', claims => '{"sub": "bob", "role": "authenticated"}')`) {
		t.Error("claims that are given do not count")
	}
	if got := value[string](t, conn, "select realtime.topic() || (current_setting('request.jwt.claims')::jsonb ->> 'sub')"); got != "outerann" {
		t.Errorf("settings afterwards: %s", got)
	}
	exec(t, conn, "set local role service_role", "reset role", "set local request.jwt.claims = ''")
	refused(t, conn, "22023", "no role", "select realtime.can('send', 'good:x')")
	exec(t, conn, "rollback")
}

// What the calling transaction changed before counts, as it will for everybody once it commits.
func TestCanSeesItsOwnTransaction(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		"create table public.members (room text)", "grant select on public.members to authenticated", "grant all on public.members to rowcast",
		"create policy p on realtime.messages for all to authenticated using (topic in (select room from public.members))")
	can := func() bool {
		t.Helper()
		return value[bool](t, conn, `select realtime.can('receive', 'den', claims => '{"role": "authenticated"}')`)
	}
	exec(t, conn, "begin")
	if can() {
		t.Error("before: yes")
	}
	exec(t, conn, "insert into public.members values ('den')")
	if !can() {
		t.Error("after the insert: no")
	}
	exec(t, conn, "savepoint a", "delete from public.members")
	if can() {
		t.Error("after the delete: yes")
	}
	exec(t, conn, "rollback to a")
	if !can() {
		t.Error("after taking the delete back: no")
	}
	exec(t, conn, "commit")
	if rows := value[int](t, admin(t, db), "select count(*) from public.members"); rows != 1 {
		t.Errorf("%d members, want the one that was committed", rows)
	}

	exec(t, conn, "begin read only")
	refused(t, conn, "25006", "read-write transaction", `select realtime.can('send', 'x', claims => '{"role": "anon"}')`)
	exec(t, conn, "rollback")
	exec(t, conn, "begin isolation level repeatable read")
	if !can() {
		t.Error("repeatable read: no")
	}
	exec(t, conn, "commit")
}

// can() bypasses where the server does, and says so where it may not.
func TestCanDecidesAsTheServer(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t)
	const asked = `select realtime.can('send', 'x', claims => '{"role": "service_role"}')`
	for _, test := range []struct {
		change string
		want   bool
	}{
		{"update realtime._settings set value = '{}'", false},
		{"update realtime._settings set value = '{anon,service_role}'", true},
		{"delete from realtime._settings", false},
	} {
		exec(t, conn, test.change)
		if got := value[bool](t, conn, asked); got != test.want {
			t.Errorf("after %s: %t", test.change, got)
		}
	}

	config, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	loud, err := pgx.ConnectConfig(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer loud.Close(t.Context())
	if value[bool](t, loud, asked) || len(notices) != 1 || !strings.Contains(notices[0], "BYPASS_ROLES") {
		t.Errorf("notices %q", notices)
	}
}

func TestWhoMayCallCan(t *testing.T) {
	t.Parallel()
	db, _ := withPolicies(t)
	const asked = `select realtime.can('receive', 'good:x', claims => '{"sub": "ann", "role": "authenticated"}')`
	for _, conn := range []*pgx.Conn{server(t, db), dial(t, db.As(pgtest.DBARole)), admin(t, db)} {
		if !value[bool](t, conn, asked) {
			t.Errorf("%s: no", conn.Config().User)
		}
	}
	conn := server(t, db)
	for _, role := range []string{"anon", "authenticated", "service_role"} {
		exec(t, conn, "set role "+role)
		refused(t, conn, "42501", "permission denied for function can", asked)
		refused(t, conn, "42501", "permission denied for function _decide", "select realtime._decide('{}', '{}', '{}', '{}', '{}', '{}')")
		refused(t, conn, "42501", "permission denied for function _become", "select realtime._become('', '', '', '')")
	}
}

// A policy that takes too long is an error, not an answer.
func TestCanDoesNotAnswerInsteadOfASlowPolicy(t *testing.T) {
	t.Parallel()
	_, conn := withPolicies(t,
		"create function public.slow() returns boolean language plpgsql as $$ begin perform pg_sleep(600); return true; end $$",
		"create policy slow on realtime.messages for all using (topic = 'slow' and public.slow())")
	exec(t, conn, "set statement_timeout = '200ms'")
	refused(t, conn, "57014", "statement timeout", `select realtime.can('send', 'slow', claims => '{"role": "anon"}')`)
	if !value[bool](t, conn, `select realtime.can('send', 'good:x', claims => '{"sub": "ann", "role": "anon"}')`) {
		t.Error("afterwards: no")
	}
}
