package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"rowcast/server/metrics"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// A durable slot that holds back more than it may is dropped, also while it is read; one that does not, and those of others, are left
// alone.
func TestSlotThatHoldsBackTooMuchIsDropped(t *testing.T) {
	t.Parallel()
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprintf("read %t", read), func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewCluster(t, pgtest.Options{}).DB(t) // its own: making a slot waits for all transactions
			pool, err := postgres.Open(t.Context(), db.URL, minPoolSize)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			k := &slotKeeper{
				name: "kept", most: 64 << 20, pool: pool, logger: slog.New(slog.DiscardHandler), metrics: metrics.New(),
			}
			if err := k.look(t.Context()); err != nil {
				t.Fatalf("without a slot: %v", err)
			}
			for _, name := range []string{"kept", "other"} {
				if _, err := db.Admin.Exec(t.Context(), `select pg_create_logical_replication_slot($1, 'pgoutput')`, name); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := db.Admin.Exec(t.Context(), `create publication p; create table t as select repeat('x', 100) from generate_series(1, 20000)`); err != nil {
				t.Fatal(err)
			}
			var reader *pgconn.PgConn
			if read {
				reader = readSlot(t, db, "kept", "p")
			}
			if err := k.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			held := metricstest.Value(t, k.metrics, "realtime_changes_slot_wal_bytes", "")
			if n := scalar[int](t, db, `select count(*) from pg_replication_slots`); n != 2 || held < 1<<20 {
				t.Fatalf("%d slots, %v bytes held back", n, held)
			}
			k.most = 1 << 20
			if err := k.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := scalar[string](t, db, `select string_agg(slot_name, ' ') from pg_replication_slots`); left != "other" {
				t.Errorf("left are %q", left)
			}
			if drops := metricstest.Value(t, k.metrics, "realtime_changes_slot_drops_total", ""); drops != 1 {
				t.Errorf("%v drops are counted", drops)
			}
			if !read {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for err == nil {
				_, err = reader.ReceiveMessage(ctx)
			}
			if ctx.Err() != nil {
				t.Error("the session that read it goes on")
			}
		})
	}
}

// readSlot is a session that reads a slot, and confirms nothing.
func readSlot(t *testing.T, db *pgtest.DB, slot, publication string) *pgconn.PgConn {
	t.Helper()
	at, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	query.Set("replication", "database")
	at.RawQuery = query.Encode()
	conn, err := pgconn.Connect(t.Context(), at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	conn.Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names '%s')", slot, publication)})
	if err := conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := conn.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.CopyBothResponse:
			return conn
		case *pgproto3.ErrorResponse:
			t.Fatal(m.Message)
		}
	}
}
