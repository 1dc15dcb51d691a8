package rights

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rowcast/server/metrics"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watcher is one that has been told to do nothing by itself.
func watcher(t *testing.T, db *pgtest.DB) (w *Watcher, changes *int) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), db.PoolURL, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	changes = new(int)
	return New(Options{
		Pool: pool, Install: true, Active: func() bool { return true }, Published: func() {}, Changed: func(seen snapshot.Snapshot) {
			if seen.IsZero() { // messages that were sent before the change would be given behind it
				t.Error("everybody is decided again, and nobody knows what was sent before")
			}
			*changes++
		},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: metrics.New(),
	}), changes
}

func exec(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	if _, err := db.Admin.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func find(t *testing.T, w *Watcher) {
	t.Helper()
	if err := w.find(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func triggers(t *testing.T, db *pgtest.DB, table string) (n int) {
	t.Helper()
	if err := db.Admin.QueryRow(t.Context(), `select count(*) from pg_trigger where tgrelid = $1::regclass and not tgisinternal`, table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const tables = `
	create table own (n int); alter table own owner to rowcast;
	create table others (n int); grant trigger on others to rowcast;
	create policy p on realtime.messages for select using (exists (select from own) and exists (select from others));`

// What the server began to watch it leaves when nothing depends on it any more, where it may; a watch() of somebody else's
// it does not touch.
func TestTidy(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, tables+`create table watched (n int); select realtime.watch('watched')`)
	w, _ := watcher(t, db)
	find(t, w)
	if own, others := triggers(t, db, "own"), triggers(t, db, "others"); own != 3 || others != 3 {
		t.Fatalf("%d and %d triggers, want 3 each", own, others)
	}
	w.tidy(t.Context())
	exec(t, db, `drop policy p on realtime.messages`)
	find(t, w)
	if triggers(t, db, "own") != 3 {
		t.Error("left at once")
	}
	w.tidy(t.Context())
	for table, want := range map[string]int{"own": 0, "others": 3, "watched": 3} {
		if n := triggers(t, db, table); n != want {
			t.Errorf("%s has %d triggers, want %d", table, n, want)
		}
	}
}

// A verdict counts by what was left behind, and by nothing older.
func TestCounts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, tables)
	w, changes := watcher(t, db)
	var before, after string
	look := func(to *string) {
		if err := db.Admin.QueryRow(t.Context(), `select pg_current_snapshot()::text`).Scan(to); err != nil {
			t.Fatal(err)
		}
	}
	look(&before)
	find(t, w)
	look(&after)
	old, _ := snapshot.Parse(before)
	young, _ := snapshot.Parse(after)
	digest := w.digest()
	for _, tt := range []struct {
		name   string
		digest string
		seen   snapshot.Snapshot
		counts bool
	}{
		{"after", digest, young, true},
		{"before the tables were watched", digest, old, false},
		{"by another digest", "other", young, false},
		{"without a snapshot", digest, snapshot.Snapshot{}, false},
	} {
		if got := w.Counts(tt.digest, tt.seen); got != tt.counts {
			t.Errorf("%s: counts %t", tt.name, got)
		}
	}
	find(t, w) // and nothing has changed
	if *changes != 1 || !w.Counts(digest, young) {
		t.Errorf("everybody asked again %d times", *changes)
	}
}

// While somebody holds a table, it is not watched, others are, and nobody is kept waiting for long.
func TestLockedTablesAreTriedAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, tables)
	w, _ := watcher(t, db)
	tx, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `insert into others values (1)`); err != nil {
		t.Fatal(err)
	}
	find(t, w)
	if own, others := triggers(t, db, "own"), triggers(t, db, "others"); own != 3 || others != 0 {
		t.Errorf("%d and %d triggers", own, others)
	}
	if wait, again := w.nextAttempt(); !again || wait > firstRetry || !w.needsTimer() {
		t.Errorf("tried again %t after %s, timer %t", again, wait, w.needsTimer())
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	clear(w.failed) // its time has come
	find(t, w)
	if n := triggers(t, db, "others"); n != 3 || w.needsTimer() {
		t.Errorf("%d triggers, timer %t", n, w.needsTimer())
	}
}

// Those who want a discovery at the same time share one.
func TestDiscoveriesAreShared(t *testing.T) {
	t.Parallel()
	w, _ := watcher(t, pgtest.New(t))
	ctx, cancel := context.WithCancel(t.Context())
	var group, running sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if err := w.Find(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.next != nil }; !waiting(); {
		time.Sleep(time.Millisecond)
	}
	running.Go(func() { w.work(ctx) })
	group.Wait()
	cancel()
	running.Wait()
	if n := metricstest.Value(t, w.options.Metrics, "realtime_discoveries_total", "ok"); n < 1 || n > 49 {
		t.Errorf("%v discoveries for 50 who wanted one", n)
	}
}
