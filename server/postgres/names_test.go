package postgres_test

import (
	"context"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

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
