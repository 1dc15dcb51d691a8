package migrations_test

import (
	"fmt"
	"testing"

	"rowcast/server/pgtest"
)

// Whoever owns a type decides what is done to its values: by casts, by the CHECK of a domain within. And whoever may make an operator, on
// anybody's type. None of that is run with the rights of the server's role.
func TestTypesRunNothingAsTheServer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	super := admin(t, db)
	role := db.NewRole(t, "login")
	exec(t, super, `create table public.ran (what text, by name); grant insert on public.ran to public;
		create sequence public.runs; grant usage, select on sequence public.runs to public;
		create type public.state as enum ('on', 'off');
		create table public.docs (id varchar(9) primary key, state public.state, tags varchar[]); insert into public.docs values ('a', 'on', '{x}'), ('b', 'off', '{y}');
		grant select on public.docs to authenticated; alter table public.docs enable row level security; create policy p on public.docs using (true);
		create schema theirs authorization `+role+`;`)
	login := dial(t, db.As(role))
	exec(t, login, `grant usage on schema theirs to public`,
		`create function theirs.steal(what text) returns boolean language plpgsql volatile security invoker set search_path = pg_catalog as $$
			begin
				if current_user = '`+pgtest.ServerRole+`' then
					perform nextval('public.runs');
					raise warning 'stolen: %', what;
				end if;
				return true;
			end $$`,
		// Casts of a type of theirs: to_jsonb() uses the one to json.
		`create type theirs.mood as enum ('sad', 'glad')`,
		`create function theirs.to_json(m theirs.mood) returns json language plpgsql as $$ begin perform theirs.steal('cast to json'); return '"x"'; end $$`,
		`create cast (theirs.mood as json) with function theirs.to_json(theirs.mood)`,
		`create function theirs.to_text(m theirs.mood) returns text language plpgsql as $$ begin perform theirs.steal('cast to text'); return 'x'; end $$`,
		`create cast (theirs.mood as text) with function theirs.to_text(theirs.mood) as implicit`,
		// A domain within another type is checked by its input.
		`create domain theirs.part as text check (theirs.steal('check of a domain'))`,
		`create type theirs.whole as (part theirs.part)`,
		`create table theirs.things (id text, room theirs.mood, mood theirs.mood, parts theirs.part[], whole theirs.whole, primary key (id))`,
		`grant select on theirs.things to authenticated`,
		`create table theirs.wholes (whole theirs.whole primary key)`, `grant select on theirs.wholes to authenticated`,
		// Operators on types of others.
		`create function theirs.same(a varchar, b varchar) returns boolean language sql as $$ select theirs.steal('operator on varchar') $$`,
		`create operator theirs.= (function = theirs.same, leftarg = varchar, rightarg = varchar)`,
		`create operator theirs.> (function = theirs.same, leftarg = varchar, rightarg = varchar)`,
		`create operator theirs.~~ (function = theirs.same, leftarg = varchar, rightarg = varchar)`,
		`create function theirs.same(a public.state, b public.state) returns boolean language sql as $$ select theirs.steal('operator on an enum') $$`,
		`create operator theirs.= (function = theirs.same, leftarg = public.state, rightarg = public.state)`,
		`create function theirs.same(a varchar[], b varchar[]) returns boolean language sql as $$ select theirs.steal('operator on an array') $$`,
		`create operator theirs.= (function = theirs.same, leftarg = varchar[], rightarg = varchar[])`,
		// Their own watch.
		`select realtime.watch('theirs.things', 'id', 'room:{room}')`,
		`insert into theirs.things values ('a', 'sad', 'glad', '{x}', '(x)')`, `update theirs.things set mood = 'sad'`, `delete from theirs.things`)

	stolen := func(what string) {
		t.Helper()
		if n := value[int](t, super, "select case when is_called then last_value else 0 end from public.runs"); n != 0 {
			t.Errorf("%s: ran %d times as the server", what, n)
			exec(t, super, "alter sequence public.runs restart")
		}
	}
	stolen("watch()")

	// A watch of the server's own, whose column is gone: its name is a function's, too.
	exec(t, login, `create table theirs.gone (id int, to_jsonb int, mood theirs.mood)`, `insert into theirs.gone values (1, 1, 'sad')`)
	exec(t, super, `select realtime._watch('theirs.gone', null, null, '{to_jsonb}', true)`)
	exec(t, login, `alter table theirs.gone drop to_jsonb`, `update theirs.gone set id = 2`)
	stolen("a watch of the server's own")

	conn := server(t, db)
	do := func(query string, args ...any) string {
		t.Helper()
		var got *string
		if err := conn.QueryRow(within(t), query, args...).Scan(&got); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		stolen(fmt.Sprint(query, args))
		return orNothing(got)
	}
	docs, things := value[uint32](t, super, "select 'public.docs'::regclass::oid"), value[uint32](t, super, "select 'theirs.things'::regclass::oid")
	for _, relation := range []struct {
		oid    uint32
		column string
		value  string
	}{{docs, "id", "a"}, {docs, "state", "on"}, {docs, "tags", "{x}"}, {things, "mood", "sad"}, {things, "parts", "{x}"}, {things, "whole", "(x)"}} {
		for _, op := range []string{"eq", "neq", "gt", "in", "isdistinct", "like", "ilike", "match"} {
			do("select pg_catalog.concat_ws(' ', c.code, c.problem) from realtime._check_entry('authenticated', $1, '{id}', pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('Column', $2::text, 'Op', $3::text, 'Value', $4::text)), '{}', '{}') as c",
				relation.oid, relation.column, op, relation.value)
			do("select pg_catalog.concat_ws(' ', m.truths, m.code, m.reason) from realtime._matches($1, $2, $3, $4, $5) as m", relation.oid, relation.column, op, []string{relation.value}, []string{relation.value, relation.value})
		}
	}
	for _, of := range []struct{ typ, value, want string }{{"theirs.mood", "sad", `"sad"`}, {"theirs.part[]", "{x}", `"{x}"`}, {"theirs.whole", "(x)", `"(x)"`}, {"theirs.mood[]", "{sad,NULL}", `["sad", null]`}, {"public.state", "on", `"on"`}} {
		if got := do("select (realtime._render(array[$1::pg_catalog.oid], array[$2]))[1]", value[uint32](t, super, "select $1::regtype::oid", of.typ), of.value); got != of.want {
			t.Errorf("%s: %s", of.typ, got)
		}
	}
	// Who has the rights of the server's role anyway is not kept from anything.
	exec(t, super, "create schema ours authorization "+pgtest.DBARole)
	exec(t, dial(t, db.As(pgtest.DBARole)), "create domain ours.part as text check (true)", "create type ours.whole as (part ours.part, n int)", "grant usage on schema ours to public")
	if got := do("select (realtime._render(array[$1::pg_catalog.oid], array['(x,1)']))[1]", value[uint32](t, super, "select 'ours.whole'::regtype::oid")); got != `{"n": 1, "part": "x"}` {
		t.Errorf("a type of a DBA's: %s", got)
	}
	if got := do("select pg_catalog.string_agg(v.visible::pg_catalog.text, ' ') from realtime._visible($1, '{id}', '{b,c}', '{authenticated}', '{\"{}\"}', '{}', '{}', '{null}') as v", docs); got != "{1}" {
		t.Errorf("by a key of varchar: %s", got)
	}
	do("select pg_catalog.string_agg(v.code, ' ') from realtime._visible($1, '{whole}', '{(x),bad}', '{authenticated}', '{\"{}\"}', '{}', '{}', '{null}') as v", value[uint32](t, super, "select 'theirs.wholes'::regclass::oid"))
	do("select pg_catalog.string_agg(p.texts::pg_catalog.text, ' ') from realtime._snapshot_page($1, '{id}', '{a}', 'authenticated', '{}', '{}', '{id}', 10, 1000, '') as p", docs)

	// A policy of theirs, with a value of their type in it.
	exec(t, login, "alter table theirs.things enable row level security", "create policy p on theirs.things using (whole is distinct from '(y)'::theirs.whole and id = 'a')", "grant usage on schema theirs to authenticated")
	if got := do("select pg_catalog.string_agg(s.visible::pg_catalog.text, ' ') from realtime._still($1, '{id}', '{a,b}', 2, '{authenticated}', '{\"{}\"}') as s", things); got != "{1}" {
		t.Errorf("of rows that are gone: %s", got)
	}
	exec(t, login, "drop policy p on theirs.things", "create policy p on theirs.things using (id in ('a', null))")
	if got := do("select pg_catalog.string_agg(s.visible::pg_catalog.text, ' ') from realtime._still($1, '{id}', '{a,b}', 2, '{authenticated}', '{\"{}\"}') as s", things); got != "{1}" {
		t.Errorf("of rows that are gone: %s", got)
	}
}
