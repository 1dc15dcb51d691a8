package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/migrations"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// files makes migrations of up and down texts.
func files(texts ...string) fs.FS {
	all := fstest.MapFS{}
	for i, text := range texts {
		up, down, _ := strings.Cut(text, "|")
		name := "0000" + string(rune('1'+i)) + "_step.sql"
		all[name] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + up + "\n-- +goose Down\n" + down + "\n")}
	}
	return all
}

// catalog lists what schema realtime holds, by name and definition.
func catalog(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		select format('%s %s %s', relkind, relname, relacl) from pg_class where relnamespace = to_regnamespace('realtime')
		  and relname !~ '^messages_.*[0-9]' -- partitions depend on the day
		union all
		select concat(pg_get_functiondef(oid), proacl) from pg_proc where pronamespace = to_regnamespace('realtime') and prokind = 'f'
		union all
		select format('%s.%s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod)) from pg_attribute a
		  join pg_class c on c.oid = attrelid where relnamespace = to_regnamespace('realtime') and attnum > 0
		  and not attisdropped and relkind in ('r', 'p', 'v') and relname !~ '^messages_.*[0-9]'
		order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func ready(t *testing.T, db *pgtest.DB) error {
	t.Helper()
	pool, err := postgres.Open(t.Context(), db.URL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	return postgres.Ready(t.Context(), pool, postgres.Limits{Statement: time.Minute, Lock: time.Minute})
}

func TestUpDownUp(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	m := postgres.Migrator{URL: db.URL}

	var old *postgres.OutdatedError
	if err := ready(t, db); !errors.As(err, &old) || old.Have != 0 || old.Want == 0 {
		t.Errorf("before: %v", err)
	}
	pending, err := m.Status(t.Context())
	if err != nil || len(pending) == 0 || !pending[0].AppliedAt.IsZero() {
		t.Fatalf("before: %+v (%v)", pending, err)
	}
	if got := catalog(t, db.Admin); len(got) > 0 {
		t.Fatalf("asking made %v", got)
	}

	applied, err := m.Up(t.Context())
	if err != nil || len(applied) != len(pending) {
		t.Fatalf("up: %+v (%v), want %d migrations", applied, err, len(pending))
	}
	first := catalog(t, db.Admin)
	if err := ready(t, db); err != nil {
		t.Errorf("after: %v", err)
	}
	status, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range status {
		if x.AppliedAt.IsZero() {
			t.Errorf("%s is pending after up", x.Name)
		}
	}
	if again, err := m.Up(t.Context()); len(again) > 0 || err != nil {
		t.Errorf("up twice: %+v (%v), want nothing", again, err)
	}

	if undone, err := m.Down(t.Context()); err != nil || len(undone) != 1 || undone[0].Version != status[len(status)-1].Version {
		t.Errorf("down: %+v (%v), want the newest", undone, err)
	}
	if _, err := m.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	var gone bool
	if err := db.Admin.QueryRow(t.Context(), "select to_regnamespace('realtime') is null").Scan(&gone); err != nil || !gone {
		t.Errorf("schema realtime remains after down to 0 (%v): %v", err, catalog(t, db.Admin))
	}
	if undone, err := m.Down(t.Context()); err != nil || len(undone) > 0 {
		t.Errorf("down of nothing: %+v (%v)", undone, err)
	}

	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, catalog(t, db.Admin)); diff != "" {
		t.Errorf("the second up made something else:\n%s", diff)
	}
}

func TestOneAppliesAndOthersWait(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	m := postgres.Migrator{URL: db.URL, Files: files("create table realtime.one ();|", "create table realtime.two ();|")}
	applied := make([]int, 4)
	var servers sync.WaitGroup
	for i := range applied {
		servers.Go(func() {
			done, err := m.Up(t.Context())
			if err != nil {
				t.Errorf("server %d: %v", i, err)
			}
			applied[i] = len(done)
		})
	}
	servers.Wait()
	var total, busy int
	for _, n := range applied {
		total += n
		if n > 0 {
			busy++
		}
	}
	if total != 2 || busy != 1 {
		t.Errorf("applied %v, want one server to have applied both", applied)
	}
}

func TestMissingRights(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, before, want string }{
		{"create on the database", "revoke create on database %s from rowcast", "grant create on database %s to rowcast;"},
		{"somebody else's schema", "create schema realtime", "alter schema realtime owner to rowcast;"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewEmpty(t)
			if _, err := db.Admin.Exec(t.Context(), strings.ReplaceAll(test.before, "%s", db.Name)); err != nil {
				t.Fatal(err)
			}
			m := postgres.Migrator{URL: db.URL}
			_, err := m.Up(t.Context())
			var missing *postgres.MissingRightsError
			if !errors.As(err, &missing) || len(missing.Statements) != 1 {
				t.Fatalf("got %v, want one missing right", err)
			}
			want := strings.ReplaceAll(test.want, "%s", db.Name)
			if missing.Statements[0] != want || missing.Role != pgtest.ServerRole || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if _, err := db.Admin.Exec(t.Context(), missing.Statements[0]); err != nil {
				t.Fatalf("run what it said: %v", err)
			}
			if _, err := m.Up(t.Context()); err != nil {
				t.Errorf("after running what it said: %v", err)
			}
		})
	}
}

func TestCreateOnDatabaseIsNeededOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), "revoke create on database "+db.Name+" from rowcast"); err != nil {
		t.Fatal(err)
	}
	if _, err := (postgres.Migrator{URL: db.URL}).Up(t.Context()); err != nil {
		t.Errorf("up with the schema in place: %v", err)
	}
}

func TestLockIsWaitedForAndGivenUp(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	started := make(chan error, 1)
	holder, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback(context.Background())
	if _, err := holder.Exec(t.Context(), "select pg_advisory_xact_lock(hashtextextended('rowcast.migrations', 0))"); err != nil {
		t.Fatal(err)
	}
	m := postgres.Migrator{URL: db.URL, LockTimeout: 50 * time.Millisecond}
	if _, err := m.Up(t.Context()); !errors.Is(err, postgres.ErrMigrationLocked) {
		t.Errorf("got %v, want ErrMigrationLocked", err)
	}

	m.LockTimeout = 0
	go func() { _, err := m.Up(t.Context()); started <- err }()
	awaitWaiter(t, db, 1)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

// TestCancelledMigrationStopsInTheServer: one that waits for a table would go on queueing everybody behind it.
func TestCancelledMigrationStopsInTheServer(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	if _, err := db.Admin.Exec(t.Context(), "create table busy (); alter table busy owner to rowcast"); err != nil {
		t.Fatal(err)
	}
	holder, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback(context.Background())
	if _, err := holder.Exec(t.Context(), "lock table busy in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	m := postgres.Migrator{URL: db.URL, Files: files("lock table busy;|")}
	go func() { _, err := m.Up(ctx); ended <- err }()
	awaitWaiter(t, db, 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cancellation", err)
	}
	awaitWaiter(t, db, 0)
}

// TestMigrationWaitsForNoTableForLong: who waits for a table has everybody else wait behind it.
func TestMigrationWaitsForNoTableForLong(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var before []string
	reader, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.Background())
	if _, err := reader.Exec(t.Context(), `do $$ declare t regclass; begin
		for t in select oid from pg_class where relnamespace = 'realtime'::regnamespace and relkind in ('r', 'p') and relname <> 'schema_version' loop
			execute format('lock table %s in access share mode', t);
		end loop; end $$`); err != nil {
		t.Fatal(err)
	}
	impatient := fstest.MapFS{}
	err = fs.WalkDir(migrations.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations.FS, name)
		impatient[name] = &fstest.MapFile{Data: bytes.ReplaceAll(text, []byte("lock_timeout = '5s'"), []byte("lock_timeout = '50ms'"))}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m := postgres.Migrator{URL: db.URL, Files: impatient}
	for range impatient { // the newest of them may have no table
		if err != nil {
			break
		}
		before = catalog(t, db.Admin)
		_, err = m.Down(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), "try again") || !strings.Contains(err.Error(), "55P03") {
		t.Errorf("got %v, want the lock that cannot be had", err)
	}
	if diff := cmp.Diff(before, catalog(t, db.Admin)); diff != "" {
		t.Errorf("half undone: %s", diff)
	}
	reader.Rollback(t.Context())
	if _, err := m.Down(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// awaitWaiter returns once so many backends of the database wait for a lock.
func awaitWaiter(t *testing.T, db *pgtest.DB, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		var got int
		err := db.Admin.QueryRow(ctx, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").Scan(&got)
		if err != nil {
			t.Fatalf("wait until %d backends wait for a lock: %v", want, err)
		}
		if got == want {
			return
		}
	}
}

func TestFailureNamesTheMigrationAndKeepsTheOthers(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	m := postgres.Migrator{URL: db.URL, Files: files("create table realtime.one ();|", "create table realtime.two (); select 1/0;|")}
	applied, err := m.Up(t.Context())
	if err == nil || !strings.Contains(err.Error(), "migrate up 00002_step.sql") || !strings.Contains(err.Error(), "division by zero") {
		t.Errorf("got %v, want the file and the reason", err)
	}
	if len(applied) != 1 || applied[0].Version != 1 {
		t.Errorf("applied %+v, want the first", applied)
	}
	m.Files = files("create table realtime.one ();|", "create table realtime.two ();|")
	if applied, err = m.Up(t.Context()); err != nil || len(applied) != 1 || applied[0].Version != 2 {
		t.Errorf("after the mend: %+v (%v)", applied, err)
	}
}

func TestPrintedSQLAppliesByHand(t *testing.T) {
	t.Parallel()
	db, reference := pgtest.NewEmpty(t), pgtest.New(t)
	m := postgres.Migrator{URL: db.URL}
	var script strings.Builder
	if err := m.SQL(&script, 0); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(script.String(), "+goose") || strings.Contains(script.String(), "($1, ") {
		t.Error("the script holds marks that are not for people")
	}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), script.String()); err != nil {
		t.Fatalf("apply by hand: %v", err)
	}
	if err := ready(t, db); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(catalog(t, reference.Admin), catalog(t, db.Admin)); diff != "" {
		t.Errorf("by hand is not as by migrate up:\n%s", diff)
	}
	if applied, err := m.Up(t.Context()); err != nil || len(applied) > 0 {
		t.Errorf("up after that: %+v (%v), want nothing", applied, err)
	}

	// From the newest on, only the schema remains to be printed.
	list, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	script.Reset()
	if err := m.SQL(&script, list[len(list)-1].Version); err != nil || strings.Contains(script.String(), "begin;\n") {
		t.Errorf("nothing is pending, but it prints (%v):\n%s", err, script.String())
	}
}

func TestPrintedSQLKeepsNoTransaction(t *testing.T) {
	t.Parallel()
	m := postgres.Migrator{Files: fstest.MapFS{"00001_index.sql": {Data: []byte(
		"-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently i on t (c);\n-- +goose Down\ndrop index i;\n")}}}
	var script strings.Builder
	if err := m.SQL(&script, 0); err != nil {
		t.Fatal(err)
	}
	text := script.String()
	if strings.Contains(text, "begin;") || strings.Contains(text, "drop index") || !strings.Contains(text, "values (1, true)") {
		t.Errorf("got\n%s", text)
	}
}
