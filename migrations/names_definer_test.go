package migrations_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// Whoever may log in has a temporary schema, in which Postgres looks for types and relations before all others, also under an
// empty search_path. What he puts there must not be run by functions that run as the server.
func TestDefinersFindNothingTemporary(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	super := admin(t, db)
	role := db.NewRole(t, "login")
	exec(t, super, sql.EventTriggers, `
		create table public.members (user_id text, room int, note text, muted boolean);
		create type public.kind as enum ('a', 'b');
		create table public.noted (user_id text, room int, kind public.kind, open boolean);
		grant select, insert, update, delete, truncate on public.members, public.noted to `+role+`;
		grant insert on realtime.messages to `+role+`;
		create policy app on realtime.messages for insert to `+role+` with check (true);
		grant execute on function realtime.disconnect(text, text), realtime.sync(interval), realtime.invalidate(text, text) to `+role+`;
		grant create on schema public to `+role+`;
		-- Rows that stand for a server.
		insert into realtime._nodes values ('n', 'host:1', now(), now() + interval '1 h');
		insert into realtime.decisions values ('n', 1, now(), 1, 'admitted', 't', 's', 'r', true, true, true, true, '', '', '', 1, '0');
		grant usage on schema realtime to `+role+`;
		create function public.stop_node() returns void language sql security definer set search_path = pg_catalog as $$ delete from realtime._nodes $$`,
		`select realtime.watch('public.members', 'user_id', 'room:{room}', '{muted}')`)
	// As the server watches by itself: the columns that count are in the arguments.
	exec(t, super, `select realtime._watch('public.noted', 'user_id', 'room:{room}', '{room}', true)`)
	db.Shadow(t)

	for _, path := range []string{`''`, "public", "pg_catalog", "pg_catalog, public, pg_temp"} {
		conn := dial(t, db.As(role))
		exec(t, conn, "set search_path = "+path, "select hostile.fill('pg_temp')")
		try := func(statement string) {
			t.Helper()
			if _, err := conn.Exec(within(t), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Errorf("search_path %s: %s: %v", path, statement, err)
			}
		}
		exercised := map[string][]string{
			"_broadcast": {
				`insert into realtime.messages (topic, extension, event, payload) values ('t', 'broadcast', 'e', '{}')`,
				`select realtime.send('{"a": 1}', 'e', 't')`,
			},
			"_max_payload_bytes": {`select realtime.send(pg_catalog.jsonb_build_object('a', pg_catalog.repeat('x', 2000)), 'e', 't')`},
			"_rights_changed": {
				`insert into public.members values ('ann', 1, 'x', false), ('bob', null, null, null), (pg_catalog.repeat('x', 3000), 1, null, null)`,
				`update public.members set muted = true, room = 2`,
				`delete from public.members`,
				`begin; insert into public.members select n::pg_catalog.text, n from pg_catalog.generate_series(1, 1200) as n (n); rollback`,
				`truncate public.members`,
				`insert into public.noted values ('ann', 1), (null, null)`,
				`update public.noted set room = 2`,
				`update public.noted set room = room`,
				`delete from public.noted`,
				`truncate public.noted`,
			},
			"invalidate":   {`select realtime.invalidate()`, `select realtime.invalidate('ann', 't')`, `select realtime.invalidate(pg_catalog.repeat('x', 3000))`},
			"disconnect":   {`select realtime.disconnect('ann', 'goodbye')`, `select realtime.disconnect('ann')`},
			"sync":         {`select realtime.sync('0')`, `select realtime.sync('10 ms')`},
			"_ddl_changed": {`create table public.mine (a int)`, `alter table public.mine enable row level security`, `create policy p on public.mine using (true)`, `drop table public.mine`},
			"_node_gone":   {`begin; select public.stop_node(); commit`},
		}
		if path == "public" {
			exercised["_ddl_changed"] = append(exercised["_ddl_changed"], `create function public.mine() returns int language sql return 1`, `drop function public.mine()`)
		}
		for _, name := range values[string](t, super, `select proname::text from pg_proc where prosecdef and pronamespace in ('realtime'::regnamespace, (select oid from pg_namespace where nspname = 'auth')) order by 1`) {
			if exercised[name] == nil {
				t.Errorf("SECURITY DEFINER realtime.%s() is not exercised here", name)
			}
			for _, statement := range exercised[name] {
				try(statement)
			}
			delete(exercised, name)
		}
		for name := range exercised {
			t.Errorf("realtime.%s() is no SECURITY DEFINER", name)
		}
		if times, names := db.Caught(t); times != 0 {
			slices.Sort(names)
			t.Fatalf("search_path %s: found %d times what was temporary: %v", path, times, names)
		}
		_ = conn.Close(within(t))
		// What is temporary goes with the session, and after it.
		for value[bool](t, super, `select exists (select from pg_stat_activity where usename = $1)`, role) {
			exec(t, super, "select pg_sleep(0.005)")
		}
		exec(t, super, `insert into realtime._nodes values ('n', 'host:1', now(), now() + interval '1 h') on conflict do nothing; delete from realtime.decisions where number = 0`)
	}
}
