package migrations_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/migrations"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

// dependent is a policy on messages that reads a table with policies of its own, a view, partitions and a child, and calls
// functions. $role is a role of this test alone, which authenticated is to be a member of.
const dependent = `
	create schema app;
	grant usage on schema app to authenticated;
	create table app.members (user_id text, room text);
	create table app.bans (user_id text, room text);
	create table app.log (day int, user_id text) partition by range (day);
	create table app.log1 partition of app.log for values from (0) to (10);
	create table app.log2 (day int, user_id text);
	create table app.parent (user_id text);
	create table app.child (user_id text);
	create view app.banned as select * from app.bans where room is not null;
	create function app.may(who text) returns boolean language sql stable begin atomic select not exists (select from app.banned b where b.user_id = who); end;
	create function app.helper() returns text language sql stable as $$ select current_setting('request.jwt.claim.sub', true) $$;
	create function app.note() returns trigger language plpgsql as $$ begin return new; end $$;
	alter table app.members enable row level security;
	create policy own on app.members for select using (user_id = app.helper() and app.may(user_id));
	grant select on all tables in schema app to authenticated;
	create policy members on realtime.messages for select to authenticated using (
		exists (select from app.members m where m.room = realtime.topic() and exists (select from app.log) and exists (select from app.parent)));`

// settled installs what the server would, so that triggers are there to be tampered with, and finds out.
func settled(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, "select realtime._discover(true)")
	for range 2 {
		exec(t, conn, "select realtime._watch_found(source, null, null, null, null) from realtime._to_watch()", "select realtime._discover(false)")
	}
}

func TestDigestChanges(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	role := db.NewRole(t, "nologin")
	exec(t, conn, dependent)
	settled(t, conn)
	statements := []string{
		"create policy another on realtime.messages for insert to authenticated with check (false)",
		"alter policy another on realtime.messages with check (true)",
		"alter table realtime.messages alter event set not null",
		"alter table realtime.messages alter event drop not null",
		"alter table realtime.messages add short text generated always as (left(topic, 3)) stored",
		"drop policy another on realtime.messages",
		"create policy other on app.members for select using (false)",
		"alter policy other on app.members using (true)",
		"drop policy other on app.members",
		"alter table app.members disable row level security",
		"alter table app.members enable row level security",
		"alter table app.members force row level security",
		"alter table app.bans enable row level security",
		"alter table realtime.messages disable row level security",
		"alter table realtime.messages enable row level security",
		"alter table realtime.messages force row level security",
		"revoke select on app.members from authenticated",
		"grant select on app.members to authenticated",
		"grant select on app.log1 to anon",
		"grant select (room) on app.members to anon",
		"revoke select (room) on app.members from anon",
		"revoke insert on realtime.messages from authenticated",
		"revoke usage on schema app from authenticated",
		"grant usage on schema app to authenticated",
		"revoke execute on function app.helper() from public",
		"grant execute on function app.helper() to authenticated",
		"revoke execute on function realtime.topic() from public",
		"create or replace function app.may(who text) returns boolean language sql stable begin atomic select exists (select from app.banned b where b.user_id = who); end",
		"alter function app.helper() set search_path = ''",
		"alter function app.helper() security definer",
		"create or replace view app.banned as select * from app.bans",
		"alter view app.banned set (security_barrier = true)",
		"alter table app.members rename to people",
		"alter table app.people rename to members",
		"alter table app.log attach partition app.log2 for values from (10) to (20)",
		"alter table app.log detach partition app.log2",
		"alter table app.child inherit app.parent",
		"alter table app.child no inherit app.parent",
		"alter table app.members disable trigger zz_realtime_rights",
		"alter table app.members enable trigger zz_realtime_rights",
		"select realtime.watch('app.members', 'user_id')",
		"drop trigger zz_realtime_rights_update on app.members",
		"create trigger note before insert on realtime.messages for each row execute function app.note()",
		"alter table realtime.messages disable trigger note",
		"drop trigger note on realtime.messages",
		"grant " + role + " to authenticated",
		"alter role " + role + " bypassrls",
		"alter role " + role + " noinherit",
		"alter table app.members owner to " + role,
		"revoke " + role + " from authenticated",
		"insert into realtime._settings values ('allowed_roles', '{anon}') on conflict (name) do update set value = excluded.value",
		"drop view app.banned cascade",
	}
	for _, statement := range statements {
		before := value[string](t, conn, "select realtime._digest()")
		exec(t, conn, statement)
		if after := value[string](t, conn, "select realtime._digest()"); after == before {
			t.Errorf("%s: the digest is the same", statement)
		}
		exec(t, conn, "select realtime._discover(false)")
	}
}

// A change that takes itself back is one all the same: somebody may have been asked about in between.
func TestDigestRemembersWhatWasTakenBack(t *testing.T) {
	t.Parallel()
	conn := admin(t, pgtest.New(t))
	exec(t, conn, dependent)
	settled(t, conn)
	before := value[string](t, conn, "select realtime._digest()")
	exec(t, conn, "begin", "alter table app.members disable trigger zz_realtime_rights", "alter table app.members enable always trigger zz_realtime_rights", "commit")
	if after := value[string](t, conn, "select realtime._digest()"); after == before {
		t.Error("a trigger was switched off for a transaction, and the digest is the same")
	}
}

func TestDigestStays(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t) // roles are the whole server's, and other tests change some
	conn := admin(t, db)
	exec(t, conn, dependent)
	settled(t, conn)
	before := value[string](t, conn, "select realtime._digest()")
	for _, statement := range []string{
		"vacuum full app.members", "vacuum full pg_policy", "vacuum full pg_proc", "vacuum full pg_trigger", "vacuum full pg_namespace", "vacuum freeze pg_auth_members", "vacuum full pg_rewrite",
		"analyze", "reindex table app.members", "reindex table pg_class",
		"create index on app.members (room)", "alter table app.members add column since int", "insert into app.members values ('u', 'r')", "truncate app.members",
		"alter table app.members set (autovacuum_enabled = off)", "comment on table app.members is 'people'",
		"create table elsewhere (n int)", "create policy none on elsewhere using (true)",
		"select realtime._maintain('3 days')", "select realtime._create_partition('2040-01-01')", "drop table realtime.messages_2040_01_01",
		"select realtime._discover(true)", "select realtime.send('{}', 'e', 't', false)",
	} {
		exec(t, conn, statement)
		if after := value[string](t, conn, "select realtime._digest()"); after != before {
			t.Errorf("%s: the digest is another", statement)
			before = after
		}
	}
}

func TestDigestNeedsNoSuperuser(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, admin(t, db), dependent)
	conn := server(t, db)
	exec(t, conn, "select realtime._discover(true)")
	if got, want := value[string](t, conn, "select realtime._digest()"), value[string](t, admin(t, db), "select realtime._digest()"); got != want {
		t.Errorf("%s as the server, %s as a superuser", got, want)
	}
}

// What is found, how, and what is said of it.
func TestWhatPoliciesDependOnIsFound(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, dependent+`
		create table app.plans (user_id text); create table app.until (user_id text, at timestamptz); create table app.owned (n int);
		create materialized view app.totals as select count(*) as n from app.plans;
		create table app.spaced (n int); alter table app.spaced rename to "two words";
		create function app.plan(who text) returns boolean language plpgsql stable as $$ begin return exists (select from plans where user_id = who) and exists (select from "two words"); end $$;
		create function app.hidden(who text) returns boolean language plpgsql as $$ declare found boolean; begin execute 'select true fr' || 'om app.pl' || 'ans' into found; return found; end $$;
		create function app.same(a text, b text) returns boolean language sql stable begin atomic select a = b and exists (select from app.owned); end;
		create operator app.=== (function = app.same, leftarg = text, rightarg = text);
		create function app.outer_(who text) returns boolean language sql stable as $$ select app.plan(who) $$;
		create policy plans on realtime.messages for select to authenticated using (app.outer_('x') and app.hidden('x'));
		create policy clock on realtime.messages for insert to authenticated with check (exists (select from app.until where at > now()));
		create policy luck on realtime.messages for insert to authenticated with check (random() < 0.5 and 'now()' <> 'random()');
		create policy totals on realtime.messages for insert to authenticated with check (exists (select from app.totals) and 'a' operator(app.===) 'b');
		create policy deleting on realtime.messages for delete to authenticated using (exists (select from app.child));
		grant trigger on app.bans to rowcast;
		select realtime.watch('app.members');`)
	got := values[string](t, conn, `select concat_ws(' | ', object, kind, how, coalesce(opaque, '-'), array_to_string(policies, ','), noticed, noticed_by, mend) from realtime.watched order by object`)
	want := strings.Split(strings.TrimSpace(`
app.banned | view | traced | - | members | t | digest
app.bans | table | traced | - | members | f | timer | select realtime.watch('app.bans');
app.helper() | function | traced | - | members | t | digest
app.hidden(who text) | function | traced | body | plans | f | timer
app.log | table | traced | - | members | f | timer | grant trigger on app.log to rowcast;
app.log1 | table | traced | - | members | f | timer | grant trigger on app.log1 to rowcast;
app.may(who text) | function | traced | - | members | t | digest
app.members | table | traced | - | members | t | trigger
app.outer_(who text) | function | traced | - | plans | t | digest
app.owned | table | traced | - | totals | f | timer | grant trigger on app.owned to rowcast;
app.parent | table | traced | - | members | f | timer | grant trigger on app.parent to rowcast;
app.plan(who text) | function | hint | body | plans | f | timer
app.plans | table | hint | - | plans | f | timer | grant trigger on app.plans to rowcast;
app.same(a text, b text) | function | traced | - | totals | t | digest
app.totals | materialized view | traced | materialized view | totals | f | timer
app."two words" | table | hint | - | plans | f | timer | grant trigger on app."two words" to rowcast;
app.until | table | traced | - | clock | f | timer | grant trigger on app.until to rowcast;
clock on realtime.messages | policy | traced | clock | clock | f | timer
luck on realtime.messages | policy | traced | random | luck | f | timer
realtime.topic() | function | traced | - | members | t | digest`), "\n")
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The schema can be taken down with the event trigger in place, which a superuser has put there.
func TestEventTriggerGoesWithTheSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, sql.EventTriggers)
	if _, err := (postgres.Migrator{URL: db.URL}).DownTo(within(t), 0); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, conn, "select count(*) from pg_event_trigger"); n != 0 {
		t.Errorf("%d event triggers are left", n)
	}
}

func TestSuperuserWhoMigratesGetsTheEventTrigger(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	if _, err := (postgres.Migrator{URL: db.AdminURL}).Up(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, admin(t, db), "select count(*) from pg_event_trigger where evtname = 'realtime_rights'"); n != 1 {
		t.Errorf("%d event triggers", n)
	}
}

// What a superuser applies by hand is what a superuser who migrates gets.
func TestEventTriggerIsOneThing(t *testing.T) {
	t.Parallel()
	text, err := migrations.FS.ReadFile("00009_dependencies.sql")
	if err != nil {
		t.Fatal(err)
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	_, create, _ := strings.Cut(squeeze(sql.EventTriggers), "drop event trigger if exists realtime_rights; ")
	if create == "" || !strings.Contains(squeeze(string(text)), create) {
		t.Errorf("the migration does not hold %s", create)
	}
}
