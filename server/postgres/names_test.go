package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// quick are limits that no test meets.
var quick = postgres.Limits{Statement: time.Minute, Lock: time.Minute}

// caught fails the test if something was found in schema hostile.
func caught(t *testing.T, db *pgtest.DB) {
	t.Helper()
	if times, names := db.Caught(t); times != 0 {
		t.Errorf("found in schema hostile, %d times: %v", times, names)
	}
}

// What is asked around migrations means what it says wherever the search_path leads.
func TestMigratorFindsNoNamesakes(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	db.Shadow(t)
	m := postgres.Migrator{URL: db.URL, Files: files(`create table realtime.a (n int);|drop table realtime.a;`, `create table realtime.b (n int);|drop table realtime.b;`)}
	for name, step := range map[string]func(context.Context) ([]postgres.Migration, error){"up": m.Up, "up again": m.Up} {
		if _, err := step(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	list, err := m.Status(t.Context())
	if err != nil || len(list) != 2 || list[0].AppliedAt.IsZero() || list[1].AppliedAt.IsZero() {
		t.Errorf("applied: %v, %v", list, err)
	}
	if undone, err := m.Down(t.Context()); err != nil || len(undone) != 1 || undone[0].Version != 2 {
		t.Errorf("down: %v, %v", undone, err)
	}
	if _, err := m.DownTo(t.Context(), 0); err != nil {
		t.Errorf("all the way down: %v", err)
	}
	if list, err := m.Status(t.Context()); err != nil || !list[0].AppliedAt.IsZero() {
		t.Errorf("undone: %v, %v", list, err)
	}
	var there bool
	if err := db.Admin.QueryRow(t.Context(), "select to_regnamespace('realtime') is not null").Scan(&there); err != nil || there {
		t.Errorf("the schema is there: %v, %v", there, err)
	}
	caught(t, db)
}

// Names of pg_catalog alone need no schema in our own transactions, and those of users' scripts mean what they mean elsewhere.
func TestOurTransactionsFindNoNamesakes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Shadow(t)
	const short = "select lower('X') = 'x'::text and exists (select from pg_class)"
	ctx := t.Context()
	pool := open(t, db, 2)
	if got, err := postgres.Ask(ctx, pool, quick, pgx.RowTo[bool], short); err != nil || !got[0] {
		t.Errorf("in the pool: %v, %v", got, err)
	}
	for name, answered := range map[string]func() error{
		"an inspection": func() error {
			return postgres.Inspect(ctx, db.URL, quick, func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, short); return err })
		},
		"a session": func() error {
			s, err := postgres.Connect(ctx, db.URL, "rowcast test", quick)
			if err != nil {
				return err
			}
			defer s.Close()
			if _, err := s.Begin(ctx); err != nil {
				return err
			}
			return s.Read(ctx, short, nil, func(pgx.Rows) error { return nil })
		},
		"a trial": func() error {
			return postgres.Try(ctx, db.URL, quick, func(ctx context.Context, on *postgres.Trial) error {
				if err := on.Script(ctx, "create temp table t (n int)"); err != nil {
					return err
				}
				rows, err := on.Query(ctx, short)
				if err != nil {
					return err
				}
				rows.Close()
				return rows.Err()
			})
		},
	} {
		if err := answered(); err != nil {
			t.Errorf("in %s: %v", name, err)
		}
	}
	caught(t, db)
	err := postgres.Try(ctx, db.URL, quick, func(ctx context.Context, on *postgres.Trial) error { return on.Script(ctx, short) })
	if err == nil || !strings.Contains(err.Error(), "found in schema hostile") {
		t.Errorf("a user's script finds names elsewhere than its writer does: %v", err)
	}
	if err := postgres.Ready(ctx, pool, quick); err != nil {
		t.Errorf("ready: %v", err)
	}
	if got, err := postgres.Ask(ctx, pool, quick, pgx.RowTo[string], "select current_setting('search_path')"); err != nil || got[0] != "pg_catalog, pg_temp" {
		t.Errorf("search_path in the pool: %v, %v", got, err)
	}
}

// A user's trigger on the messages finds its names when a server asks whether it is ready.
func TestReadyRunsTriggersUnderTheirPath(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), `create schema app; grant usage on schema app to public; create function app.helper() returns boolean language sql as 'select true';
		create function public.kept() returns trigger language plpgsql as $$ begin if helper() then return new; end if; return null; end $$;
		create trigger kept before insert on realtime.messages for each row execute function public.kept();
		alter role `+pgtest.ServerRole+` in database `+db.Name+` set search_path = app, public`); err != nil {
		t.Fatal(err)
	}
	if err := ready(t, db); err != nil {
		t.Error(err)
	}
}
