package migrations_test

import (
	"slices"
	"testing"

	"rowcast/server/pgtest"
)

func TestWatchSeesEveryWayToWrite(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn,
		"create table public.rooms (id int primary key)",
		"create table public.members (room_id int references public.rooms on delete cascade on update cascade, user_id text)",
		"select realtime.watch('public.members', 'user_id', 'room:{room_id}')",
		"insert into public.rooms values (1), (2), (3)",
		"create table public.parted (id int, user_id text) partition by range (id)",
		"create table public.parted_1 partition of public.parted for values from (0) to (10)",
		"create table public.parted_2 partition of public.parted for values from (10) to (20) partition by range (id)",
		"create table public.parted_2a partition of public.parted_2 for values from (10) to (15)",
		"select realtime.watch('public.parted', 'user_id', 'p:{id}')",
		"create table public.parted_3 partition of public.parted for values from (20) to (30)", // after watch()
		"create table public.early (user_id text)",
		"create function public.change_again() returns trigger language plpgsql as $$ begin update public.early set user_id = 'late' where user_id = new.user_id and user_id <> 'late'; return null; end $$",
		"create trigger a after insert on public.early for each row execute function public.change_again()",
		"select realtime.watch('public.early', 'user_id')")
	for _, test := range []struct {
		statement string
		want      []string
	}{
		{"insert into public.members values (1, 'ann'), (2, 'bob'), (3, 'eve')", []string{"ann@room:1", "bob@room:2", "eve@room:3"}},
		{"delete from public.rooms where id = 1", []string{"ann@room:1"}},
		{"update public.rooms set id = 20 where id = 2", []string{"bob@room:2", "bob@room:20"}},
		{"truncate public.rooms cascade", []string{"*@*"}},
		{"insert into public.parted values (1, 'ann'), (11, 'bob'), (21, 'eve')", []string{"ann@p:1", "bob@p:11", "eve@p:21"}},
		{"insert into public.parted_1 values (2, 'direct')", []string{"direct@p:2"}},
		{"delete from public.parted_2a", []string{"bob@p:11"}},
		{"update public.parted_3 set user_id = 'x'", []string{"eve@p:21", "x@p:21"}},
		{"update public.parted set id = 12 where id = 1", []string{"ann@p:1", "ann@p:12"}}, // to another partition
		{"truncate public.parted", []string{"*@*"}},
		{"insert into public.parted values (2, 'ann')", []string{"ann@p:2"}},
		{"truncate public.parted_1", []string{"*@*"}},
		{"set session_replication_role = replica", nil},
		{"insert into public.parted values (3, 'copied')", []string{"copied@p:3"}},
		{"truncate public.parted", []string{"*@*"}},
		{"reset session_replication_role", nil},
		{"insert into public.early values ('soon')", []string{"soon@*", "late@*"}},
	} {
		got := marks(t, db, func() { exec(t, conn, test.statement) })
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.statement, got, test.want)
		}
	}
}

// Two triggers may see the same row of a partition: the parent's and its own.
func TestWatchPartitionAndParent(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn,
		"create table public.parted (id int, user_id text) partition by range (id)",
		"create table public.parted_1 partition of public.parted for values from (0) to (10)",
		"select realtime.watch('public.parted', 'user_id')")
	refused(t, conn, "42809", "public.parted_1 is a partition of a watched table", "select realtime.watch('public.parted_1', 'user_id')")
	exec(t, conn, "set search_path = ''", "select realtime.unwatch('public.parted')", "select realtime.watch('public.parted_1', 'user_id')",
		"insert into public.parted values (1, 'ann')", "select realtime.watch('public.parted', 'user_id', 'p:{id}')")
	for _, test := range []struct {
		statement string
		want      []string
	}{
		{"update public.parted set id = 2", []string{"ann@p:1", "ann@p:2"}},
		{"truncate public.parted_1", []string{"*@*"}},
	} {
		if got := marks(t, db, func() { exec(t, conn, test.statement) }); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.statement, got, test.want)
		}
	}
	exec(t, conn, "select realtime.unwatch('public.parted')")
	if left := values[string](t, conn, "select tgname::text from pg_trigger where tgname like 'zz%'"); len(left) > 0 {
		t.Errorf("after unwatch(): %v", left)
	}
}

func TestWatchNeedsTheOwnersRights(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	a := admin(t, db)
	owner, helper, stranger := db.NewRole(t, "nologin"), db.NewRole(t, "nologin"), db.NewRole(t, "nologin")
	exec(t, a, "create schema app", "create table app.members (user_id text)", "alter table app.members owner to "+owner,
		"grant all on schema app to public", "grant trigger on app.members to "+helper, "grant select, insert, update, delete on app.members to authenticated")

	conn := admin(t, db)
	exec(t, conn, "set role "+stranger)
	refused(t, conn, "42501", "members", "select realtime.watch('app.members', 'user_id')")

	enabled := func() []string {
		return values[string](t, a, "select distinct tgenabled::text from pg_trigger where tgrelid = 'app.members'::regclass")
	}
	exec(t, conn, "reset role", "set role "+helper, "select realtime.watch('app.members', 'user_id')")
	if got := enabled(); !slices.Equal(got, []string{"O"}) {
		t.Errorf("by one with TRIGGER: enabled %v", got)
	}
	refused(t, conn, "42501", "must be owner", "select realtime.unwatch('app.members')")
	exec(t, conn, "reset role", "set role "+owner, "select realtime.watch('app.members', 'user_id')")
	if got := enabled(); !slices.Equal(got, []string{"A"}) {
		t.Errorf("by the owner: enabled %v", got)
	}
	// What the owner gave is not taken back by somebody who may do less.
	exec(t, conn, "reset role", "set role "+helper)
	refused(t, conn, "42501", "watched by its owner already", "select realtime.watch('app.members')")

	// Whoever writes needs no right on anything of ours.
	exec(t, conn, "reset role", "revoke usage on schema realtime from public", "set role authenticated")
	if got := marks(t, db, func() { exec(t, conn, "insert into app.members values ('ann')") }); !slices.Equal(got, []string{"ann@*"}) {
		t.Errorf("written by authenticated: %q", got)
	}
	exec(t, conn, "reset role", "grant usage on schema realtime to public", "set role "+owner, "select realtime.unwatch('app.members')")
	if got := enabled(); len(got) > 0 {
		t.Errorf("after unwatch(): %v", got)
	}
}

func TestWatchRefusesWhatItCannotSee(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "create table public.members (id int, user_id text, \"Ünquoted \"\"Name\" text)",
		"create view public.v as select * from public.members", "create materialized view public.m as select * from public.members",
		"create sequence public.s", "create foreign data wrapper w", "create server srv foreign data wrapper w",
		"create foreign table public.f (user_id text) server srv", "select realtime._maintain(null)",
		"create table public.parent (user_id text)", "create table public.child () inherits (public.parent)",
		"create temp table mine (user_id text)")
	for _, test := range []struct{ arguments, state, words string }{
		{"null", "22004", "no table"},
		{"'public.v'", "42809", "v is not a table"},
		{"'public.m'", "42809", "m is not a table"},
		{"'public.s'", "42809", "s is not a table"},
		{"'public.f'", "42809", "f is not a table"},
		{"'pg_class'", "42501", "pg_class"},
		{"'realtime.messages'", "42809", "belongs to realtime itself"},
		{"'realtime.messages_default'", "42809", "belongs to realtime itself"},
		{"'realtime._journal'", "42809", "belongs to realtime itself"},
		{"'public.nothing'", "42P01", "nothing"},
		{"'public.members', 'uid'", "42703", "public.members has no column uid"},
		{"'public.members', topic => 'r:{room}'", "42703", "has no column room"},
		{"'public.members', columns => '{id,nope}'", "42703", "has no column nope"},
		{"'public.members', 'ctid'", "42703", "has no column ctid"},
		{"'public.members', topic => 'r:{'", "22023", "unmatched brace"},
		{"'public.members', topic => 'r:}'", "22023", "unmatched brace"},
		{"'public.members', topic => 'r:{}'", "22023", "unmatched brace"},
		{"'public.members', topic => '{{id}}'", "22023", "unmatched brace"},
		{"'public.members', topic => '{id}{'", "22023", "unmatched brace"},
	} {
		refused(t, conn, test.state, test.words, "set search_path = pg_catalog; select realtime.watch("+test.arguments+")")
	}
	exec(t, conn, "reset search_path")
	for _, arguments := range []string{`'public.members', 'Ünquoted "Name', '{Ünquoted "Name}''s {id}%s'`, "'public.members', topic => ''", "'public.parent'", "'mine'"} {
		exec(t, conn, "select realtime.watch("+arguments+")")
	}
	exec(t, conn, `select realtime.watch('public.members', 'Ünquoted "Name', '{Ünquoted "Name}''s {id}%s%I')`)
	if got := marks(t, db, func() { exec(t, conn, "insert into public.members values (3, 'x', 'ann')") }); !slices.Equal(got, []string{"ann@ann's 3%s%I"}) {
		t.Errorf("%q", got)
	}
}

// A table that changes its shape after watch() is written as before; what is not known of a row makes the mark coarser.
func TestWatchedTableChangesItsShape(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "create table public.members (id int, user_id text, room_id int)", "select realtime.watch('public.members', 'user_id', 'room:{room_id}')",
		"create table public.listed (id int, user_id text, role text, hits int)", "select realtime.watch('public.listed', 'user_id', columns => '{role}')")
	for _, test := range []struct {
		statement string
		want      []string
	}{
		{"insert into public.members values (1, 'ann', 1)", []string{"ann@room:1"}},
		{"alter table public.members add extra json", nil},
		{"update public.members set extra = '{}'", []string{"ann@room:1"}},
		{"alter table public.members alter room_id type bigint", nil},
		{"update public.members set extra = '[]'", []string{"ann@room:1"}},
		{"alter table public.members rename room_id to channel_id", nil},
		{"update public.members set id = 2", []string{"ann@*"}},
		{"alter table public.members drop channel_id", nil},
		{"update public.members set id = 3", []string{"ann@*"}},
		{"alter table public.members drop user_id", nil},
		{"update public.members set id = 4", []string{"*@*"}},
		{"delete from public.members", []string{"*@*"}},
		{"alter table public.members rename to people", nil},
		{"insert into public.people values (1)", []string{"*@*"}},
		{"insert into public.listed values (1, 'ann', 'host', 0)", []string{"ann@*"}},
		{"alter table public.listed rename user_id to uid", nil},
		{"alter table public.listed rename role to rank", nil},
		{"update public.listed set hits = 1", nil},
		{"update public.listed set rank = 'guest'", []string{"*@*"}},
		{"alter table public.listed drop hits", nil},
		{"update public.listed set uid = 'bob'", []string{"*@*"}},
	} {
		if got := marks(t, db, func() { exec(t, conn, test.statement) }); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.statement, got, test.want)
		}
	}
	// Postgres guards the columns that a trigger compares: nobody loses the mark without noticing.
	refused(t, conn, "2BP01", "other objects depend on it", "alter table public.listed drop rank")
}

// No value of any type makes the user's own write fail.
func TestWatchTakesAnyType(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "create type public.mood as enum ('calm')", "create type public.pair as (a int, b json)", "create domain public.small as int check (value < 10)",
		"create function public.explode(public.pair) returns json language plpgsql as $$ begin raise 'no json of me'; end $$",
		"create cast (public.pair as json) with function public.explode(public.pair)",
		"create type public.odd as (x int)", "create function public.odd_text(public.odd) returns text language plpgsql as $$ begin raise 'no text of me'; end $$",
		"create cast (public.odd as text) with function public.odd_text(public.odd)")
	for i, test := range []struct{ kind, one, two string }{
		{"json", `'{"a": 1}'`, `'{"a": 1, "a": 2}'`},
		{"json", `'"\u0000"'`, `'1e400'`}, // valid json, not valid jsonb
		{"jsonb", `'1'`, `'{"a": [null]}'`},
		{"xml", `'<a/>'`, `'<b/>'`},
		{"point", "'(1,2)'", "'(3,4)'"},
		{"public.mood", "'calm'", "null"},
		{"public.pair", "'(1,{})'", "'(2,[])'"},
		{"public.odd", "'(1)'", "'(2)'"},
		{"public.small", "1", "2"},
		{"int[]", "'{1,null}'", "'{{1},{2}}'"},
		{"numeric", "'NaN'", "'-Infinity'"},
		{"float8", "'NaN'", "'-Infinity'"},
		{"timestamptz", "'infinity'", "'-infinity'"},
		{"date", "'infinity'", "'4713-01-01 BC'"},
		{"int4range", "'empty'", "'[1,2)'"},
		{"bytea", `'\x00'`, `'\xff'`},
		{"tsvector", "'a b'", "'c'"},
		{"bit varying", "B'1'", "B''"},
		{"money", "'1'", "'2'"},
		{"xid8", "'1'", "'2'"},
		{"regclass", "'pg_class'", "'12345'"},
		{"text", `E'\x01"\\'`, "repeat('x', 2000000)"},
		{"\"char\"", "'a'", "'\\377'"},
		{"interval", "'1 day'", "'24 hours'"},
	} {
		all := []string{"", ", columns => '{v}'"}
		if slices.Contains([]string{"public.mood", "public.small", "text", "\"char\""}, test.kind) { // others name nobody
			all = append(all, ", 'v', 'topic:{v}'", ", 'v', 'topic:{v}', '{v}'")
		}
		for j, arguments := range all {
			table := "public.t" + string(rune('a'+i)) + string(rune('0'+j))
			exec(t, conn, "create table "+table+" (v "+test.kind+")", "select realtime.watch('"+table+"'"+arguments+")")
			for _, statement := range []string{"insert into " + table + " values (" + test.one + ")", "update " + table + " set v = " + test.two, "delete from " + table} {
				if got := marks(t, db, func() { exec(t, conn, statement) }); len(got) == 0 {
					t.Errorf("%s %s: no mark", test.kind, statement)
				}
			}
		}
	}
}

// A table that somebody works on is not queued for: everybody behind us would wait too.
func TestWatchDoesNotQueueForALock(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	busy, conn := admin(t, db), admin(t, db)
	exec(t, conn, "create table public.members (user_id text)")
	exec(t, busy, "begin", "insert into public.members values ('ann')")
	refused(t, conn, "55P03", "lock timeout", "select realtime.watch('public.members', 'user_id')")
	exec(t, busy, "commit")
	exec(t, conn, "select realtime.watch('public.members', 'user_id')")
	exec(t, busy, "begin", "insert into public.members values ('ann')")
	refused(t, conn, "55P03", "lock timeout", "select realtime.unwatch('public.members')")
	if got := value[string](t, conn, "show lock_timeout"); got != "0" {
		t.Errorf("lock_timeout stays at %s", got)
	}
	exec(t, busy, "commit")
	exec(t, conn, "select realtime.unwatch('public.members')")
}

// To a policy 'bob' is who is 'bob  ' in a column of char(5), and 1.0 is 1. A mark that named one would not reach the other.
func TestWatchNamesNobodyAmbiguously(t *testing.T) {
	t.Parallel()
	conn := admin(t, pgtest.New(t))
	exec(t, conn, "create domain public.padded as char(5)", "create domain public.nested as public.padded",
		"create domain public.spelled as uuid", "create type public.mood as enum ('calm')")
	kinds := []string{"char(5)", "numeric", "float8", "timestamptz", "date", "jsonb", "text[]", "bytea", "interval", "public.padded", "public.nested"}
	if value[bool](t, conn, "select exists (select from pg_collation where collprovider = 'i' and collname = 'und-x-icu')") {
		exec(t, conn, "create collation public.lax (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
		kinds = append(kinds, "text collate public.lax")
	}
	for _, kind := range kinds {
		exec(t, conn, "drop table if exists public.t", "create table public.t (v "+kind+")")
		for _, arguments := range []string{"'v'", "topic => 'room:{v}'"} {
			refused(t, conn, "42804", "column v of public.t can name no subject and no topic", "select realtime.watch('public.t', "+arguments+")")
		}
		exec(t, conn, "select realtime.watch('public.t', columns => '{v}')")
	}
	for _, kind := range []string{"text", "varchar(9)", "uuid", "bigint", "name", "bool", "public.spelled", "public.mood"} {
		exec(t, conn, "drop table public.t", "create table public.t (v "+kind+")", "select realtime.watch('public.t', 'v', 'room:{v}')")
	}
}
