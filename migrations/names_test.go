package migrations_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/migrations"
	"rowcast/server/pgtest"
	"rowcast/sql"
)

// callersPath are the functions that have no search_path of their own: one hands its caller's on, the other is called by one that has.
// All in them has its schema.
var callersPath = []string{"broadcast_changes", "_look"}

// What a name means in a function of ours does not depend on who calls it: it has a search_path of its own, or was parsed when it was made.
func TestFunctionsHaveTheirOwnSearchPath(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, server(t, db), sql.Auth)
	rows, err := admin(t, db).Query(within(t), `
		select proname::text, prosecdef, prosqlbody is not null,
		       coalesce((select substr(c, 13) from unnest(proconfig) as c where c like 'search\_path=%'), 'that of the session')
		  from pg_proc where pronamespace in ('realtime'::regnamespace, 'auth'::regnamespace) order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	var name, path string
	var definer, parsed bool
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&name, &definer, &parsed, &path}, func() error {
		n++
		switch {
		case definer && path != `""`:
			t.Errorf("%s() is SECURITY DEFINER, and its search_path is %s", name, path)
		case !definer && !parsed && path != "pg_catalog, pg_temp" && !slices.Contains(callersPath, name):
			t.Errorf("%s() finds names by %s", name, path)
		}
		return nil
	})
	if err != nil || n < 70 {
		t.Fatal(n, err)
	}
}

// The migrations make the same wherever names lead in the session that applies them.
func TestMigrationsFindNothingHostile(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	exec(t, admin(t, db), "create schema realtime authorization "+pgtest.ServerRole,
		"create table realtime.schema_version (version int)", "alter table realtime.schema_version owner to "+pgtest.ServerRole)
	db.Shadow(t)
	conn := server(t, db)
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, down bool) {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		up, undo, found := strings.Cut(string(text), "-- +goose Down\n")
		if !found {
			t.Fatalf("%s has no way down", name)
		}
		if down {
			up = undo
		}
		if _, err := conn.Exec(within(t), "begin;"+up+";commit", pgx.QueryExecModeSimpleProtocol); err != nil {
			_, found := db.Caught(t)
			t.Fatalf("%s (down: %t): %v; found: %v", name, down, err, found)
		}
	}
	for _, name := range names {
		run(name, false)
	}
	exec(t, conn, "begin", sql.Auth, "commit")
	if times, found := db.Caught(t); times != 0 {
		t.Errorf("up: found %d times what was hostile: %v", times, found)
	}
	// What is stored means what was written.
	made := value[string](t, admin(t, db), `select coalesce(string_agg(distinct format('%s %s', d.classid::regclass, d.objid), ', '), '')
		from pg_depend d where d.classid <> 0 and d.refobjid in (select oid from pg_proc where pronamespace = 'hostile'::regnamespace
			union all select oid from pg_operator where oprnamespace = 'hostile'::regnamespace union all select oid from pg_type where typnamespace = 'hostile'::regnamespace)
		  and not exists (select from pg_identify_object(d.classid, d.objid, 0) as o where o.schema = 'hostile' or o.identity like '%hostile%')`)
	if made != "" {
		t.Errorf("what is made depends on what was hostile: %s", made)
	}
	slices.Reverse(names)
	for _, name := range names {
		run(name, true)
	}
	if times, found := db.Caught(t); times != 0 {
		t.Errorf("down: found %d times what was hostile: %v", times, found)
	}
}

// keyed are tables with keys of many types, three rows of which the second is ann's, and a condition for the planner to get wrong.
var keyed = []struct{ name, columns, key, rows, one, three string }{
	{"ints", "id int primary key", "{id}", "(1), (2), (3)", "{2}", "{1,2,3}"},
	{"texts", "id text primary key", "{id}", "('a'), ('b'), ('c')", "{b}", "{a,b,c}"},
	{"varchars", "id varchar(9) primary key", "{id}", "('a'), ('b'), ('c')", "{b}", "{a,b,c}"},
	{"uuids", "id uuid primary key", "{id}", "('00000000-0000-4000-8000-000000000001'), ('00000000-0000-4000-8000-000000000002'), ('00000000-0000-4000-8000-000000000003')",
		"{00000000-0000-4000-8000-000000000002}", "{00000000-0000-4000-8000-000000000001,00000000-0000-4000-8000-000000000002,00000000-0000-4000-8000-000000000003}"},
	{"numerics", "id numeric primary key", "{id}", "(1.5), (2.5), (3.5)", "{2.5}", "{1.5,2.5,3.5}"},
	{"moods", "id public.mood primary key", "{id}", "('sad'), ('so'), ('glad')", "{so}", "{sad,so,glad}"},
	{"domains", "id public.short primary key", "{id}", "('a'), ('b'), ('c')", "{b}", "{a,b,c}"},
	{"pairs", "a int, b public.mood, primary key (a, b)", "{a,b}", "(1, 'sad'), (1, 'so'), (2, 'sad')", "{1,so}", "{1,1,2,sad,so,sad}"},
	{"rows", "id public.pair primary key", "{id}", "('(1,a)'), ('(2,b)'), ('(3,c)')", `{"(2,b)"}`, `{"(1,a)","(2,b)","(3,c)"}`},
	{"mixed", "a int, b public.own, primary key (a, b)", "{a,b}", "(1, '(1)'), (1, '(2)'), (2, '(1)')", `{1,(2)}`, `{1,1,2,(1),(2),(1)}`},
}

// Whatever the server or a DBA calls finds nothing in schemas that come before pg_catalog, and says what it is to say.
func TestFunctionsFindNothingHostile(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	super := admin(t, db)
	filters := value[int](t, super, "select current_setting('server_version_num')::int") >= 150000
	exec(t, super, sql.EventTriggers, fmt.Sprintf("alter database %s set track_functions = 'all'", db.Name), `
		create type public.mood as enum ('sad', 'so', 'glad'); create domain public.short as text check (length(value) < 9);
		create type public.pair as (n int, t text);
		create schema far; grant usage on schema far to public;
		-- A type with operators in a schema of its own, as those of extensions.
		create type public.own as (n int);
		create function far.lt(a public.own, b public.own) returns boolean language sql immutable strict return (a).n < (b).n;
		create function far.gt(a public.own, b public.own) returns boolean language sql immutable strict return (a).n > (b).n;
		create function far.eq(a public.own, b public.own) returns boolean language sql immutable strict return (a).n = (b).n;
		create operator far.< (function = far.lt, leftarg = public.own, rightarg = public.own);
		create operator far.> (function = far.gt, leftarg = public.own, rightarg = public.own, commutator = operator(far.<));
		create operator far.= (function = far.eq, leftarg = public.own, rightarg = public.own);
		create table public.members (user_id text, room int, muted boolean); create table public.partly (user_id text, at int) partition by range (at);
		create table public.partly_1 partition of public.partly for values from (0) to (9);
		alter table public.members owner to `+pgtest.ServerRole+`; alter table public.partly owner to `+pgtest.ServerRole+`; alter table public.partly_1 owner to `+pgtest.ServerRole+`;
		grant select on public.members to authenticated; insert into public.members values ('ann', 1, false);
		insert into realtime._nodes values ('n', 'host:1', now(), now() + interval '1 h');
		insert into realtime.decisions values ('n', 1, now() - interval '1 s', 1, 'admitted', 't', 's', 'r', true, true, true, true, '', '', '', 1, '0');
		create table public.bare (id int primary key, note text); grant select on public.bare to authenticated; insert into public.bare values (1, 'x');
		create table public.raising (id int primary key, note text); grant select on public.raising to authenticated; insert into public.raising values (1, 'x'), (2, null), (3, 'z');
		alter table public.raising enable row level security; create policy p on public.raising using (case id when 2 then 1 / (id - 2) = 1 else true end);`)
	for _, table := range keyed {
		exec(t, super, fmt.Sprintf(`create table public.%[1]s (%[2]s); insert into public.%[1]s values %[3]s; alter table public.%[1]s add column who text, add column note text, add column secret text;
			update public.%[1]s t set note = 'of row', who = case (select count(*) from public.%[1]s u where u.ctid <= t.ctid) when 2 then 'ann' end;
			alter table public.%[1]s enable row level security; create policy p on public.%[1]s using (who = current_setting('request.jwt.claim.sub') or realtime.valid_until('-infinity'));`, table.name, table.columns, table.rows))
		exec(t, super, fmt.Sprintf("grant select (%s, who, note) on public.%s to authenticated", strings.Trim(table.key, "{}"), table.name))
	}
	if filters {
		exec(t, super, "create publication sifted for table public.ints where (id in (1, 2) and note like '%row' and coalesce(who, '') = lower('ANN'))")
	}
	db.Shadow(t)

	conn := server(t, db)
	exec(t, conn, sql.Auth)
	exec(t, super, `
		create policy good on realtime.messages for all using (topic like 'good:%' and topic = realtime.topic() and current_setting('request.jwt.claims', true)::jsonb ->> 'sub' = 'ann');
		create policy timed on realtime.messages for all using (topic = 'timed' and realtime.valid_until(now() + interval '1 h') and realtime.valid_until(now() + interval '1 min'));
		create policy raises on realtime.messages for all using (case when topic = 'raises' then 1 / (length(topic) - 6) = 1 end);
		create policy none on realtime.messages for select to authenticated using (null::boolean);
		create policy always on realtime.messages for all to anon using (true);
		create policy member on realtime.messages for select to authenticated using (topic = 'room' and exists (select from public.members));
		create policy claims on realtime.messages for all using (topic = 'mine' and auth.uid() = '00000000-0000-4000-8000-000000000001' and auth.role() = 'authenticated' and auth.email() = 'a@b' and auth.jwt() ->> 'x' = 'y');`)
	oid := func(table string) uint32 { return value[uint32](t, super, "select $1::regclass::oid", table) }
	check := func(want, query string, args ...any) {
		t.Helper()
		var got *string
		if err := conn.QueryRow(within(t), query, args...).Scan(&got); err != nil {
			t.Errorf("%s: %v", query, err)
		} else if said := strings.TrimSpace(orNothing(got)); said != want {
			t.Errorf("%s %v:\n got %s\nwant %s", query, args, said, want)
		}
		if times, names := db.Caught(t); times != 0 {
			t.Fatalf("%s: found %d times what was hostile: %v", query, times, names)
		}
	}
	const ann = `{"sub": "ann", "role": "authenticated"}`
	const decision = `select pg_catalog.string_agg(pg_catalog.concat_ws(' ', d.receive, d.send, d.code, d.reason, case when d.valid_for is not null then 'for a time' end), '; ')
		from realtime._decide(array[$1], array['broadcast'], array[$2], array[$3], array['{}'], '{service_role}') as d`
	decide := func() {
		t.Helper()
		check("t t", decision, "good:x", "authenticated", ann)
		check("f f receive: no policy lets this role see the topic; send: new row violates row-level security policy for table \"messages\"", decision, "bad:x", "authenticated", ann)
		check("t f send: new row violates row-level security policy for table \"messages\"", decision, "room", "authenticated", ann)
		check("t t for a time", decision, "timed", "authenticated", ann)
		check("f f 22012 receive: division by zero; send: division by zero", decision, "raises", "authenticated", ann)
		check("t t", decision, "x", "anon", "{}")
		check("t t", decision, "x", "service_role", "{}")
		check("f f 42501 role nobody does not exist", decision, "x", "nobody", "{}")
		check("t t", decision, "mine", "authenticated", `{"sub": "00000000-0000-4000-8000-000000000001", "role": "authenticated", "email": "a@b", "x": "y"}`)
	}
	decide()
	exec(t, super, `create function public.stamps() returns trigger language plpgsql set search_path = '' as $$ begin new.event := 'stamped'; return new; end $$;
		create trigger stamps before insert on realtime.messages for each row execute function public.stamps()`)
	decide()
	exec(t, super, `create or replace function public.stamps() returns trigger language plpgsql set search_path = '' as $$ begin new.topic := 'stamped'; return new; end $$`)
	check("t f RB001 send: a trigger or a policy changes the probe, which was stored", decision, "x", "anon", "{}")
	exec(t, super, "drop function public.stamps() cascade")
	check("true", `select realtime.can('send', 'good:x', claims => $1)::pg_catalog.text`, ann)
	check("false", `select realtime.can('receive', 'x', 'presence', $1, 'authenticated')::pg_catalog.text`, ann)

	const explained = `select pg_catalog.string_agg(pg_catalog.concat(e.name, ' ', e.value), ', ' order by e.name)
		from realtime.explain($1, $2, $3) as e where e.subject operator(pg_catalog.=) 'policy' and e.action operator(pg_catalog.=) 'receive' and e.extension operator(pg_catalog.=) 'broadcast'`
	check("claims false, good false, member false, none null, raises error 22012: division by zero, timed false", explained, "raises", ann, "authenticated")
	check("always true always, claims false, good true, raises null, timed false", explained, "good:x", `{"sub": "ann"}`, "anon")
	check("claims false, good false, member true, none null, raises null, timed false", explained, "room", ann, "authenticated")
	const summary = `select pg_catalog.string_agg(e.sentence, ', ') from realtime.explain($1, $2, $3) as e where e.subject operator(pg_catalog.=) 'summary'`
	check(`authenticated sub=ann may receive and send on good:x: policy "good" is true`, summary, "good:x", ann, "authenticated")
	check("service_role may receive and send on x: service_role bypasses row level security", summary, "x", "{}", "service_role")
	check("nobody may neither receive nor send on x: role nobody does not exist", summary, "x", "{}", "nobody")
	check("0", `select pg_catalog.count(*)::pg_catalog.text from realtime.explain('room', $1) as e where e.subject operator(pg_catalog.=) 'difference'`, ann)

	const visible = `select pg_catalog.string_agg(pg_catalog.concat_ws(' ', v.row_security, v.visible, v.texts, v.failed, v.code, v.refusal, v.missing, v.columns), '; ')
		from realtime._visible($1, $2, $3, array['authenticated', 'authenticated'], array[$4, '{"sub": "bob"}'], '{}', $5, array[null, $6]) as v`
	const page = `select pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.refusal, p.missing, p.texts, p.code, p.reason), '; ')
		from realtime._snapshot_page($1, $2, $3, 'authenticated', $4, '{}', $5, 10, 1000, $6) as p`
	const still = `select pg_catalog.string_agg(pg_catalog.concat_ws(' ', s.grp, s.visible), '; ')
		from realtime._still($1, '{who}', '{NULL,ann,bob}', 3, array['authenticated', 'authenticated'], array[$2, '{"sub": "bob"}']) as s`
	for _, table := range keyed {
		relation := oid("public." + table.name)
		columns := "{" + strings.Trim(table.key, "{}") + ",who,note}"
		check("t {2} {{\"of row\",NULL}} "+columns+"; t {} "+columns, visible, relation, table.key, table.three, ann, "{note,secret}", "{2,3}")
		check("t {1} "+columns+"; t {} "+columns, visible, relation, table.key, table.one, ann, "{}", "{1}")
		first, last := "{}", "{}"
		check("{{\"vof row\",vann,NULL}}", page, relation, table.key, first, ann, "{note,who,secret}", "")
		two := strings.Split(strings.Trim(table.one, "{}"), ",")
		if table.name != "rows" {
			last = "{" + strings.Join(two, ",") + "}"
		} else {
			last = table.one
		}
		check("", page, relation, table.key, last, ann, "{note,who,secret}", "")
		check("1 {2}; 2 {3}", still, relation, ann)
	}
	check("t {2} {id,who,note}; t {} {id,who,note}", visible, oid("public.ints"), "{id}", "{none,2,2147483648}", ann, "{}", "{1}")
	check("t {1,2} {3} 22012 {id,note}; t 22012 {id,note}", visible, oid("public.raising"), "{id}", "{1,3,2}", ann, "{}", "{3}")
	check(`f {1} {{x}} {id,note}; f {} {id,note}`, visible, oid("public.bare"), "{id}", "{1,2}", ann, "{note}", "{2}")
	check("f {id,note}; f {id,note}", visible, oid("public.bare"), "{id}", "{1,2}", ann, "{}", nil)
	check("role rowcast_none does not exist", `select v.refusal from realtime._visible($1, '{id}', '{1}', '{rowcast_none}', '{null}', '{}', '{}', '{null}') as v`, oid("public.bare"))
	check("grant select on public.members_2 to anon;", `select pg_catalog.replace(v.missing, 'public.bare', 'public.members_2') from realtime._visible($1, '{id}', '{1}', '{anon}', '{null}', '{}', '{}', '{null}') as v`, oid("public.bare"))
	check("42P01 the table is not there", `select pg_catalog.concat_ws(' ', v.code, v.reason) from realtime._visible('1', '{id}', '{1}', '{anon}', '{null}', '{}', '{}', '{null}') as v`)
	if filters {
		const filtered = `(id = ANY (ARRAY[1, 2])) AND (note ~~ '%row'::text) AND (COALESCE(who, ''::text) = lower('ANN'::text))`
		check("{{v2}}", page, oid("public.ints"), "{id}", "{}", ann, "{id}", "("+filtered+")")
		check("55000 the publication's row filter is another by now", page, oid("public.ints"), "{id}", "{}", ann, "{id}", "true")
	}

	const entry = `select pg_catalog.concat_ws(' ', c.code, c.problem, c.missing) from realtime._check_entry('authenticated', $1, $2, $3, $4, '{}') as c`
	check("", entry, oid("public.ints"), "{id}", `[{"Column": "id", "Op": "gte", "Value": "1"}, {"Column": "note", "Op": "match", "Value": "^x"}, {"Column": "who", "Op": "in", "Values": ["a", "b"]}, {"Column": "note", "Op": "is", "Value": "null"}]`, "{note}")
	check("22P02 invalid input syntax for type integer: \"x\"", entry, oid("public.ints"), "{id}", `[{"Column": "id", "Op": "eq", "Value": "x"}]`, "{}")
	check("P0001 invalid column for select secret", entry, oid("public.ints"), "{id}", `[]`, "{secret}")
	check("P0001 invalid value for filter note: is takes null, true, false or unknown", entry, oid("public.ints"), "{id}", `[{"Column": "note", "Op": "is", "Value": "x"}]`, "{}")
	check("2201B invalid regular expression: parentheses () not balanced", entry, oid("public.ints"), "{id}", `[{"Column": "note", "Op": "imatch", "Value": "("}]`, "{}")
	const matches = `select pg_catalog.concat_ws(' ', m.truths, m.code, m.reason) from realtime._matches($1, $2, $3, $4, $5) as m`
	check("{f,t,NULL}", matches, oid("public.ints"), "id", "gt", "{1}", "{1,2,NULL}")
	check("{f,NULL} 22P02 invalid input syntax for type integer: \"x\"", matches, oid("public.ints"), "id", "gt", "{1}", "{1,x}")
	check("{t,f}", matches, oid("public.ints"), "note", "ilike", "{A%}", "{abc,b}")
	check("{f,t,t}", matches, oid("public.moods"), "id", "isdistinct", "{sad}", "{sad,so,NULL}")
	check("{t,f,t}", matches, oid("public.moods"), "id", "in", "{sad,glad}", "{sad,so,glad}")
	check("{f,t}", matches, oid("public.mixed"), "b", "gt", "{(1)}", "{(1),(2)}")
	check(`{1,"\"a\"","{\"n\": 1, \"t\": \"a\"}","null"}`, `select realtime._render(array[$1, $2, $3, $1]::pg_catalog.oid[], '{1,a,"(1,a)",NULL}')::pg_catalog.text`, 23, 25, value[uint32](t, super, "select 'public.pair'::regtype::oid"))
	check(`{"\"x\"",1}`, `select realtime._render(array[$1, $1]::pg_catalog.oid[], '{x,1}')::pg_catalog.text`, 23)

	exec(t, conn, "select realtime._discover(true)", "select realtime._discover(false)", "select realtime._plan_anew()", "select realtime._digest_after()", "select realtime._plan_anew()")
	check("public.members", `select pg_catalog.string_agg(w.name, ' ') from realtime._to_watch() as w where w.own is not true`)
	check("true", `select realtime._watch_found($1, 'user_id', 'room:{room}', '{muted}', null)::pg_catalog.text`, oid("public.members"))
	check("true", `select realtime._watch_found($1, null, null, null, 'why')::pg_catalog.text`, oid("public.members"))
	exec(t, conn, "insert into public.members values ('ann', 1, false)", "update public.members set muted = true", "delete from public.members", "truncate public.members")
	check("public.members table traced trigger why", `select pg_catalog.concat_ws(' ', w.object, w.kind, w.how, w.noticed_by, w.reason, w.mend) from realtime.watched as w where w.object operator(pg_catalog.=) 'public.members'`)
	exec(t, super, "drop policy member on realtime.messages", "drop policy claims on realtime.messages")
	exec(t, conn, "select realtime._discover(true)")
	check("public.members", `select w.name from realtime._to_unwatch() as w`)
	for _, statement := range []string{
		"select realtime._outgrown('public.members'::pg_catalog.regclass)", "select realtime._unwatch_found('public.members'::pg_catalog.regclass)",
		"select realtime._observed(array['public.members'::pg_catalog.regclass]::pg_catalog.oid[])",
		"select realtime.watch('public.members', 'user_id', 'room:{room}', '{muted}')",
		"insert into public.members values ('ann', 1, false), (null, 1, null)", "update public.members set muted = true", "delete from public.members", "truncate public.members",
		"select realtime.unwatch('public.members')", "select realtime.watch('public.partly', 'user_id')", "truncate public.partly_1", "select realtime.unwatch('public.partly')",
		`select realtime.send('{"a": 1}', 'e', 't')`, `select realtime.send_binary('\x00', 'e', 't', false)`, "select realtime.send(pg_catalog.jsonb_build_object('a', pg_catalog.repeat('x', 2000)), 'e', 't')",
		"select realtime.broadcast_changes('t', 'e', 'INSERT', 'bare', 'public', row(1), null::pg_catalog.record)",
		"select realtime.invalidate('ann', 't')", "select realtime.disconnect('ann', 'goodbye')", "select realtime.sync('0')",
		"select realtime._hear('n', 'both')", "select realtime.send('{}', 'e', 't')", "select realtime._hear('n', 'wal')", "select realtime._hear('n', 'notify')",
		"create table realtime.another (a int)", "drop table realtime.another",
		"select realtime._maintain('1 day')", "select realtime._maintain_decisions('1 day')", "select realtime._create_publication('made')", "select realtime._publication_digest('made')",
		"select realtime._policies_digest('{1}', '{1}')", "select realtime._holders('{1}', '{anon}')", "select realtime._rewritten('{1}')",
	} {
		exec(t, conn, statement)
		if times, names := db.Caught(t); times != 0 {
			t.Fatalf("%s: found %d times what was hostile: %v", statement, times, names)
		}
	}
	check("s r", `select pg_catalog.concat_ws(' ', w.subject, w.role) from realtime.who_could('t', 'now') as w`)
	exec(t, conn, "delete from realtime._nodes")
	check("", `select pg_catalog.concat_ws(' ', w.subject, w.role) from realtime.who_could('t', 'infinity') as w union all select '' limit 1`)
	refused(t, conn, "22023", "expected receive or send", "select realtime.who_could('t', 'now', 'x')")
	refused(t, conn, "22023", "expected receive or send", "select realtime.can('x', 't')")
	refused(t, conn, "22023", "unmatched brace", "select realtime.watch('public.members', topic => 'x{')")
	refused(t, conn, "42703", "has no column", "select realtime.watch('public.members', 'nobody')")
	refused(t, conn, "22001", "at most 246 fit", "select realtime.send('{}', 'e', pg_catalog.repeat('x', 300))")
	refused(t, conn, "P0001", "Unexpected operation type", "select realtime.broadcast_changes('t', 'e', 'TRUNCATE', 'bare', 'public', row(1), null::pg_catalog.record)")
	if times, names := db.Caught(t); times != 0 {
		t.Fatalf("found %d times what was hostile: %v", times, names)
	}

	// What Postgres has parsed already finds nothing any more; all else must have been called.
	_ = conn.Close(within(t))
	const uncalled = `select coalesce(string_agg(p.oid::regprocedure::text, ', '), '') from pg_proc p
		where pronamespace in ('realtime'::regnamespace, 'auth'::regnamespace) and prosqlbody is null and coalesce(pg_stat_get_function_calls(p.oid), 0) = 0`
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		switch missing := value[string](t, super, uncalled); {
		case missing == "":
			return
		case time.Now().After(deadline):
			t.Fatalf("not called here: %s", missing)
		}
	}
}

func orNothing(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// What follows in the transaction of who loads the helpers finds names as before.
func TestAuthLeavesTheSearchPath(t *testing.T) {
	t.Parallel()
	conn := server(t, pgtest.NewEmpty(t))
	exec(t, conn, "begin", "set local search_path = pg_catalog, public", sql.Auth)
	if got := value[string](t, conn, "select current_setting('search_path')"); got != "pg_catalog, public" {
		t.Errorf("search_path is %s", got)
	}
}
