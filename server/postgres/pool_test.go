package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

var generous = postgres.Limits{Statement: time.Minute, Lock: time.Minute}

func open(t *testing.T, db *pgtest.DB, conns int32) *postgres.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), db.PoolURL, conns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func ask[T any](t *testing.T, pool *postgres.Pool, query string, args ...any) T {
	t.Helper()
	got, err := postgres.Ask(t.Context(), pool, generous, pgx.RowTo[T], query, args...)
	if err != nil || len(got) != 1 {
		t.Fatalf("%s: %v %v", query, got, err)
	}
	return got[0]
}

// Where others have taken all connections, one that is given up cannot be had again.
func TestFailedStatementsCostNoConnection(t *testing.T) {
	t.Parallel()
	pool := open(t, pgtest.New(t), 1)
	pid := ask[int](t, pool, `select pg_backend_pid()`)
	for _, query := range []string{`select 1 / 0`, `no statement`, `select pg_sleep(60)`} {
		if _, err := postgres.Ask(t.Context(), pool, postgres.Limits{Statement: 100 * time.Millisecond}, pgx.RowTo[int], query); err == nil {
			t.Errorf("%s: no error", query)
		}
		if now := ask[int](t, pool, `select pg_backend_pid()`); now != pid {
			t.Errorf("%s: the connection was thrown away", query)
		}
	}
}

func TestLimitsHold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := open(t, db, 2)
	tx, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `lock table realtime.messages`); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		limits      postgres.Limits
		query, code string
	}{
		{postgres.Limits{Statement: 50 * time.Millisecond, Lock: time.Minute}, `select pg_sleep(60)`, "57014"},
		{postgres.Limits{Statement: time.Minute, Lock: 50 * time.Millisecond}, `select count(*) from realtime.messages`, "55P03"},
	} {
		var refused *pgconn.PgError
		if _, err := postgres.Ask(t.Context(), pool, tt.limits, pgx.RowTo[int], tt.query); !errors.As(err, &refused) || refused.Code != tt.code {
			t.Errorf("%s: %v, want %s", tt.query, err, tt.code)
		}
	}
}

// Who waits in vain for a connection is told why, and what was given up half-way leaves nothing behind in the database.
func TestBusyPool(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := open(t, db, 2)
	tx, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select pg_advisory_xact_lock(1)`); err != nil {
		t.Fatal(err)
	}
	held, letGo := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := postgres.Ask(held, pool, generous, pgx.RowTo[any], `select pg_advisory_xact_lock(1)`)
			ended <- err
		}()
	}
	waiting := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; {
			var n int
			if err := tx.QueryRow(t.Context(), `select count(*) from pg_locks where locktype = 'advisory' and not granted
				and database = (select oid from pg_database where datname = current_database())`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d statements wait for the lock, want %d", n, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	waiting(2)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := postgres.Ask(ctx, pool, generous, pgx.RowTo[int], `select 1`); err == nil || !strings.Contains(err.Error(), "all 2 of the pool are busy") {
		t.Errorf("beyond the pool: %v", err)
	}
	letGo()
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
	}
	waiting(0) // the statements are cancelled, though the lock is still held
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask[int](t, pool, `select 1`)
}
