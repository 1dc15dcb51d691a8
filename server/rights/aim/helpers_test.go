package aim_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"rowcast/server/pgtest"
	"rowcast/server/rights/aim"
	"rowcast/sql"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for something that is certain to come.
const patience = time.Minute

func dial(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// tables are what the policies of these tests read.
const tables = `
create schema app;
create type app.level as enum ('guest', 'member');
create domain app.person as uuid;
create collation app.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table app.members (
  user_id uuid, owner_id uuid, room_id integer, slug text, tag varchar(20), login text, muted boolean, hits integer default 0,
  level app.level, grants text[], org bigint, until timestamptz, who app.person, loose text collate app.nocase, strict text collate "C",
  padded char(36), note jsonb, twice integer generated always as (hits * 2) stored, "odd {name}" text);
create table app.rooms (id integer, slug text, owner_id uuid, open boolean, org bigint);
create table app.bans (login text, topic text);
create table app.parted (user_id uuid, topic text) partition by list (topic);
create table app.part partition of app.parted default;
create table app.parent (user_id uuid, topic text);
create table app.child () inherits (app.parent);
create view app.seen as select * from app.members;
grant usage on schema app to authenticated, anon;
grant select on all tables in schema app to authenticated, anon;
create function app.me() returns uuid language sql stable as $$ select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid; $$;
create function app.login() returns text language sql stable begin atomic select auth.jwt() ->> 'sub'; end;
create function app.cut() returns char(5) language sql stable return auth.jwt() ->> 'sub';
create function app.definer() returns uuid language sql stable security definer return auth.uid();
create function app.opaque() returns boolean language plpgsql stable as $$ begin return exists (select from app.members); end $$;
create function app.traced() returns boolean language sql stable return exists (select from app.members);
create function app.ping() returns text language sql stable as $$ select '' $$;
create function app.pong() returns text language sql stable as $$ select app.ping() $$;
create or replace function app.ping() returns text language sql stable as $$ select app.pong() $$;
create function app.same(text, text) returns boolean language sql immutable return $1 = $2 or true;
create operator app.=== (leftarg = text, rightarg = text, function = app.same);
`

// facts asks the database as the server would.
func facts(t testing.TB, conn *pgx.Conn) aim.Facts {
	t.Helper()
	var answer []byte
	exec(t, conn, "set search_path = pg_catalog, pg_temp") // as sql/limits.sql does
	defer exec(t, conn, "reset search_path")
	if err := conn.QueryRow(t.Context(), sql.Aim).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	f, err := aim.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// setUp makes a database with the tables and the functions of auth.
func setUp(t testing.TB) (db *pgtest.DB, admin *pgx.Conn) {
	t.Helper()
	db = pgtest.New(t)
	admin = dial(t, db.AdminURL)
	exec(t, admin, sql.Auth, tables)
	return db, admin
}

// name splits app.members.
func name(full string) aim.Name {
	schema, table, _ := strings.Cut(full, ".")
	return aim.Name{Schema: schema, Name: table}
}
