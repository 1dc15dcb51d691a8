package migrations_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

func TestMessagesTable(t *testing.T) {
	t.Parallel()
	conn := admin(t, pgtest.New(t))
	got := values[string](t, conn, `
		select concat_ws(' ', attname, format_type(atttypid, atttypmod), case when attnotnull then 'not null' end, pg_get_expr(adbin, adrelid))
		  from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
		 where attrelid = 'realtime.messages'::regclass and attnum > 0 order by attnum`)
	want := []string{
		"topic text not null",
		"extension text not null",
		"payload jsonb",
		"event text",
		"private boolean false",
		"updated_at timestamp without time zone not null timezone('utc'::text, now())",
		"inserted_at timestamp without time zone not null timezone('utc'::text, now())",
		"id uuid not null gen_random_uuid()",
		"binary_payload bytea",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns:\n%s", diff)
	}
	if key := value[string](t, conn, "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'realtime.messages'::regclass and contype = 'p'"); key != "PRIMARY KEY (id, inserted_at)" {
		t.Error(key)
	}
	if by := value[string](t, conn, "select pg_get_partkeydef('realtime.messages'::regclass)"); by != "RANGE (inserted_at)" {
		t.Errorf("partitioned by %s", by)
	}
	if owner := value[string](t, conn, "select relowner::regrole::text from pg_class where oid = 'realtime.messages'::regclass"); owner != pgtest.ServerRole {
		t.Errorf("owned by %s", owner)
	}
	// Both contents at once have no meaning on the wire.
	refused(t, conn, "23514", "messages_payload_exclusive",
		`insert into realtime.messages (topic, extension, event, payload, binary_payload) values ('a', 'broadcast', 'e', '1', 'x')`)
}

// A blanket grant on the schema's tables is a common habit. It must not open messages of any topic, nor let anyone say
// who may bypass policies.
func TestTablesAreSafeFromBlanketGrants(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn,
		"select realtime._maintain(null)",
		"select realtime.send('{}', 'e', 'secret')",
		"grant all on all tables in schema realtime to authenticated",
		"set role authenticated")
	tables := values[string](t, conn, `select oid::regclass::text from pg_class where relnamespace = 'realtime'::regnamespace and relkind in ('r', 'p')`)
	if len(tables) < 8 {
		t.Errorf("tables %v: partitions are missing", tables)
	}
	for _, table := range tables {
		if rows := value[int](t, conn, "select count(*) from "+table); rows > 0 {
			t.Errorf("authenticated reads %s", table)
		}
		if !value[bool](t, conn, "select relrowsecurity from pg_class where oid = $1::text::regclass", table) {
			t.Errorf("row level security is off on %s", table)
		}
	}
	refused(t, conn, "42501", "row-level security", "insert into realtime._settings values ('bypass', '{anon}')")
	refused(t, conn, "42501", "row-level security", "insert into realtime.messages_default (topic, extension, inserted_at) values ('a', 'broadcast', '2000-01-01')")
}

func TestEverythingHasAComment(t *testing.T) {
	t.Parallel()
	conn := admin(t, pgtest.New(t))
	bare := values[string](t, conn, `
		select 'schema realtime' where obj_description('realtime'::regnamespace, 'pg_namespace') is null
		union all
		select format('%s %s', relkind, relname) from pg_class where relnamespace = 'realtime'::regnamespace
		   and relkind in ('r', 'p', 'v', 'm', 'S', 'f') and obj_description(oid, 'pg_class') is null
		   and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'i') -- sequences of identity columns
		   and relname !~ '^messages_\d'
		union all
		select oid::regprocedure::text from pg_proc where pronamespace = 'realtime'::regnamespace and obj_description(oid, 'pg_proc') is null
		union all
		select typname from pg_type where typnamespace = 'realtime'::regnamespace and typtype in ('d', 'e') and obj_description(oid, 'pg_type') is null`)
	if len(bare) > 0 {
		t.Errorf("without a comment: %v", bare)
	}
}

// everyone lists the functions that PUBLIC may execute: those offered to everyone, the two for a table's
// owner, and what these call with the caller's rights.
var everyone = []string{
	"topic", "send", "send_binary", "broadcast_changes", "valid_until", "watch", "_watch", "unwatch",
	"_send", "_max_payload_bytes", "_mark", "_say", "_split", "_truncatable", "_watch_truncate", "_rights_changed",
}

func TestExecuteRights(t *testing.T) {
	t.Parallel()
	conn := admin(t, pgtest.New(t))
	rows, err := conn.Query(within(t), `
		select proname, oid::regprocedure::text as signature, prosecdef, coalesce(proconfig @> '{"search_path=\"\""}', false),
		       array(select rolname::text from pg_roles where rolname in ('anon', 'authenticated', 'service_role', 'rowcast', 'dba')
		             and has_function_privilege(rolname, p.oid, 'execute') order by 1),
		       coalesce(array_to_string(proacl, ' ') ~ '(^| )=', true)
		  from pg_proc p where pronamespace = 'realtime'::regnamespace order by 2`)
	if err != nil {
		t.Fatal(err)
	}
	var name, signature string
	var definer, emptyPath, public bool
	var roles []string
	seen := map[string]bool{}
	_, err = pgx.ForEachRow(rows, []any{&name, &signature, &definer, &emptyPath, &roles, &public}, func() error {
		seen[name] = true
		want := []string{"dba", "rowcast"}
		if slices.Contains(everyone, name) {
			want = []string{"anon", "authenticated", "dba", "rowcast", "service_role"}
		}
		if diff := cmp.Diff(want, roles); diff != "" {
			t.Errorf("who may call %s:\n%s", signature, diff)
		}
		if public != slices.Contains(everyone, name) {
			t.Errorf("%s: granted to PUBLIC: %t", signature, public)
		}
		if definer && !emptyPath {
			t.Errorf("%s is SECURITY DEFINER without an empty search_path", signature)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"topic", "send", "send_binary", "broadcast_changes", "watch", "unwatch", "can", "invalidate", "disconnect", "sync", "_decide"} {
		if !seen[name] {
			t.Errorf("there is no %s()", name)
		}
	}
}

func TestTableRights(t *testing.T) {
	t.Parallel()
	conn := admin(t, pgtest.New(t))
	got := values[string](t, conn, `
		select concat_ws(' ', relname, grantee::regrole, string_agg(privilege_type, ',' order by privilege_type))
		  from pg_class cross join lateral aclexplode(relacl) where relnamespace = 'realtime'::regnamespace and grantee <> relowner
		 group by relname, grantee order by 1`)
	want := []string{"_source - SELECT", "messages anon INSERT,SELECT", "messages authenticated INSERT,SELECT", "messages service_role INSERT,SELECT"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants:\n%s", diff)
	}
	if !value[bool](t, conn, "select has_schema_privilege('anon', 'realtime', 'usage') and not has_schema_privilege('anon', 'realtime', 'create')") {
		t.Error("anon must have usage of the schema and no more")
	}
}

// definitions lists what schema realtime holds, by definition, and what of ours hangs on tables elsewhere.
func definitions(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return values[string](t, conn, `
		with tables as (select * from pg_class where relnamespace = to_regnamespace('realtime') and relname !~ '^messages_\d')
		select format('class %s %s %s %s %s %s %s', relkind, relname, relpersistence, relrowsecurity, relforcerowsecurity, relacl, reloptions) from tables
		union all select format('column %s.%s %s %s %s %s %s', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
		       pg_get_expr(adbin, adrelid)) from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
		 where attrelid in (select oid from tables) and attnum > 0 and not attisdropped
		union all select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint where conrelid in (select oid from tables)
		union all select format('trigger %s %s %s', tgrelid::regclass, tgenabled, pg_get_triggerdef(oid)) from pg_trigger
		 where not tgisinternal and (tgrelid in (select oid from tables) or tgfoid in (select oid from pg_proc where pronamespace = to_regnamespace('realtime')))
		union all select format('policy %s %s', polrelid::regclass, polname) from pg_policy where polrelid in (select oid from tables)
		union all select format('index %s', pg_get_indexdef(indexrelid)) from pg_index where indrelid in (select oid from tables)
		union all select concat('function ', pg_get_functiondef(oid), proacl, proowner::regrole) from pg_proc where pronamespace = to_regnamespace('realtime')
		union all select format('comment %s %s', objid, description) from (
			select oid::regclass::text, obj_description(oid, 'pg_class') from tables
			union all select attrelid::regclass || '.' || attname, col_description(attrelid, attnum) from pg_attribute where attrelid in (select oid from tables) and attnum > 0 and not attisdropped
			union all select oid::regprocedure::text, obj_description(oid, 'pg_proc') from pg_proc where pronamespace = to_regnamespace('realtime')) as c (objid, description)
		union all select format('schema %s %s %s', nspname, nspacl, obj_description(oid, 'pg_namespace')) from pg_namespace where nspname = 'realtime'
		order by 1`)
}

func TestDownUndoesUp(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t) // its cluster has anon, authenticated and service_role already
	conn := admin(t, db)
	m := postgres.Migrator{URL: db.URL}
	applied, err := m.Up(within(t))
	if err != nil {
		t.Fatal(err)
	}
	first := definitions(t, conn)
	if len(first) < 100 {
		t.Errorf("the catalog has %d entries, hardly all", len(first))
	}
	// Step by step: each migration undoes exactly what it did.
	var after [][]string
	for range applied {
		after = append(after, definitions(t, conn))
		if _, err := m.Down(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if left := definitions(t, conn); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for i := len(applied) - 1; i >= 0; i-- {
		upTo := applied[len(applied)-1-i].Version
		if _, err := (postgres.Migrator{URL: db.URL, Files: upToVersion(t, upTo)}).Up(within(t)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(after[i], definitions(t, conn)); diff != "" {
			t.Errorf("version %d differs the second time:\n%s", upTo, diff)
		}
	}

	// In use: partitions, messages, a user's policy and watched tables do not stand in the way of down.
	exec(t, conn, "create table public.members (id int, user_id text)", "select realtime.watch('public.members', 'user_id')",
		"create policy p on realtime.messages for select using (true)", "select realtime._maintain(null)", "select realtime.send('1', 'e', 't')")
	if _, err := m.DownTo(within(t), 0); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "insert into public.members values (1, 'ann')")
	if left := definitions(t, conn); len(left) > 0 {
		t.Errorf("left behind after use: %v", left)
	}
	// A superuser may have made the publication: it is used, and left to him.
	exec(t, conn, "create publication realtime_feed")
	for range 2 {
		if _, err := m.Up(within(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.DownTo(within(t), 0); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, conn, "drop publication realtime_feed")
	if _, err := m.Up(within(t)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, definitions(t, conn)); diff != "" {
		t.Errorf("the last up made something else:\n%s", diff)
	}
}

// Roles belong to the whole server, so that one cannot be missing for one test alone: the migration's own text is run with
// names that do not exist.
func TestMissingRolesAreNoError(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	files := rewritten(t, func(text string) string {
		return strings.NewReplacer("'anon'", "'absent_one'", "to anon", "to absent_one").Replace(text)
	})
	if _, err := (postgres.Migrator{URL: db.URL, Files: files}).Up(within(t)); err != nil {
		t.Fatal(err)
	}
	conn := admin(t, db)
	if value[bool](t, conn, "select has_table_privilege('anon', 'realtime.messages', 'select')") {
		t.Error("the text was not rewritten")
	}
	if !value[bool](t, conn, "select has_table_privilege('authenticated', 'realtime.messages', 'select')") {
		t.Error("the roles that exist got no grants")
	}
}

// TestQueriesPrepare prepares every statement that the server runs, as its ordinary role.
func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	conn := server(t, pgtest.New(t))
	// Scripts of several statements are applied as they are, in tests of their own.
	scripts := []string{"auth.sql", "create_schema.sql", "drop_schema.sql", "event_triggers.sql", "script_end.sql"}
	texts := queries(t)
	if len(texts) < 10 {
		t.Fatalf("only %d files found", len(texts))
	}
	for name, text := range texts {
		if slices.Contains(scripts, name) || strings.HasPrefix(name, "chat") { // the sample's need the sample's tables
			continue
		}
		if _, err := conn.Prepare(within(t), "", text); err != nil {
			t.Errorf("prepare %s: %v", name, err)
		}
		if !strings.HasPrefix(text, "-- ") {
			t.Errorf("%s does not say what it asks", name)
		}
	}
	exec(t, conn, sql.CreateSchema, sql.CreateSchema) // may be run any number of times
}
