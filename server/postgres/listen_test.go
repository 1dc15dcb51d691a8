package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// TestListenerOutlivesIdleSessionTimeout: a listener says nothing for as long as it lives.
func TestListenerOutlivesIdleSessionTimeout(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), `do $$ begin execute format('alter role rowcast in database %I set idle_session_timeout = 200', current_database()); end $$`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	connected, lost, heard := make(chan uint32, 100), make(chan error, 100), make(chan string, 1)
	listener := postgres.Listener{
		URL: db.URL, Channel: "idle",
		Connected: func(_ context.Context, conn *pgx.Conn) error { connected <- conn.PgConn().PID(); return nil },
		Heard:     func(payload string) { heard <- payload },
		Lost:      func(err error) { lost <- err },
	}
	listening, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- listener.Listen(listening) }()
	defer func() { stop(); <-ended }()
	pid := <-connected
	// Another session of the role, idle since later than the listener, falls to the timeout.
	other, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.WithoutCancel(ctx))
	if _, err := other.WaitForNotification(ctx); err == nil || ctx.Err() != nil {
		t.Fatalf("the idle session ended with %v", err)
	}
	if _, err := db.Admin.Exec(ctx, `notify idle, 'still here'`); err != nil {
		t.Fatal(err)
	}
	select {
	case payload := <-heard:
		if payload != "still here" {
			t.Errorf("heard %q", payload)
		}
	case err := <-lost:
		t.Fatalf("the listener was lost: %v", err)
	}
	var alive bool
	if err := db.Admin.QueryRow(ctx, `select exists (select from pg_stat_activity where pid = $1)`, pid).Scan(&alive); err != nil || !alive {
		t.Errorf("the listener's first connection is gone (%v)", err)
	}
}
