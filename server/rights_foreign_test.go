package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
)

// at is a connection to another database of a cluster, as a superuser.
func at(t *testing.T, cluster *pgtest.Cluster, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), cluster.URL(database, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// execOn runs statements, each in a transaction of its own.
func execOn(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// subscribed is a server whose guests come from another database.
func subscribed(t *testing.T, change func(*Config)) (r *running, publisher *pgx.Conn) {
	t.Helper()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	db := cluster.DB(t)
	if _, err := db.Admin.Exec(t.Context(), "create database elsewhere"); err != nil {
		t.Fatal(err)
	}
	publisher = at(t, cluster, "elsewhere")
	execOn(t, publisher, `create table guests (user_id text, room text)`, `alter table guests replica identity full`,
		`create publication everything for table guests`,
		`select pg_create_logical_replication_slot('guests', 'pgoutput')`) // by itself: CREATE SUBSCRIPTION would wait for its own transaction
	r = start(t, db, change)
	r.exec(guests + mayWatch + `delete from guests`)
	subscription := at(t, cluster, db.Name)
	execOn(t, subscription, fmt.Sprintf(`create subscription guests connection 'host=%s user=postgres dbname=elsewhere' publication everything
		with (create_slot = false, slot_name = 'guests', copy_data = false)`, strings.TrimSuffix(cluster.Socket(), "/.s.PGSQL.5432")))
	return r, publisher
}

// arrive waits until the subscription has brought as many guests.
func (r *running) arrive(guests int) {
	r.t.Helper()
	r.await("rows of the publisher", func() bool {
		var n int
		return r.db.Admin.QueryRow(r.t.Context(), `select count(*) from guests`).Scan(&n) == nil && n == guests
	})
}

// Rows that come by logical replication are noticed where the owner watches the table: the triggers are enabled always.
func TestLogicalReplicationCuts(t *testing.T) {
	t.Parallel()
	r, publisher := subscribed(t, seldom)
	r.exec(`select realtime.watch('guests', 'user_id')`)
	if by, mend := r.noticedBy("public.guests"); by != "trigger" || mend != "" {
		t.Errorf("realtime.watched says %q, mend %q", by, mend)
	}
	execOn(t, publisher, `insert into guests values ('u1', 'a'), ('u2', 'a'), ('u3', 'a')`)
	r.arrive(3)
	for n, change := range []string{`delete from guests where user_id = 'u1'`, `update guests set room = 'elsewhere' where user_id = 'u2'`, `truncate guests`} {
		user := fmt.Sprintf("u%d", n+1)
		c := r.member(user, "a")
		execOn(t, publisher, change)
		c.wait("the end of the channel after "+change, isCut("a"))
		execOn(t, publisher, `insert into guests values ('`+user+`', 'a')`)
		r.await("a way in again after "+change, func() bool { _, status, _ := c.join("a", private()); return status == "ok" })
	}
}

// Where the server has but the privilege to set triggers, they do not fire for such rows. It is known, said, and left to the
// timer until the owner mends it.
func TestLogicalReplicationIsLeftToTheTimer(t *testing.T) {
	t.Parallel()
	r, publisher := subscribed(t, often)
	execOn(t, publisher, `insert into guests values ('u1', 'a')`)
	r.arrive(1)
	u1 := r.member("u1", "a")
	by, mend := r.noticedBy("public.guests")
	if by != "timer" || !strings.Contains(mend, "enable always trigger zz_realtime_rights") {
		t.Errorf("realtime.watched says %q, mend %q", by, mend)
	}
	execOn(t, publisher, `delete from guests`)
	u1.wait("the end of the channel", isCut("a"))
	r.exec(mend)
	if by, mend := r.noticedBy("public.guests"); by != "trigger" || mend != "" {
		t.Errorf("mended: realtime.watched says %q, mend %q", by, mend)
	}
}

// prepared runs statements as a prepared transaction, up to its COMMIT.
func prepared(ctx context.Context, conn *pgx.Conn, statement string) error {
	_, err := conn.Exec(ctx, `begin; `+statement+`; prepare transaction 'taken'`)
	if err != nil {
		_, _ = conn.Exec(ctx, `rollback`)
	}
	return err
}

// A change of definitions is one when the prepared transaction commits, and not before.
func TestCommitPreparedCuts(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "5"}}).DB(t)
	r := start(t, db, func(c *Config) { often(c); c.RecheckInterval = 0 })
	r.exec(guests + mayWatch)
	u1 := r.member("u1", "a")
	conn := r.connection()
	if err := prepared(t.Context(), conn, `revoke execute on function realtime.topic() from public, authenticated`); err != nil {
		t.Fatal(err)
	}
	r.lives(u1, "a", false)
	execOn(t, conn, `commit prepared 'taken'`)
	u1.wait("the end of the channel", isCut("a"))
	if err := prepared(t.Context(), conn, `grant execute on function realtime.topic() to public`); err != nil {
		t.Fatal(err)
	}
	if _, status, _ := u1.join("a", private()); status == "ok" {
		t.Error("let in by what is only prepared")
	}
	execOn(t, conn, `commit prepared 'taken'`)
	if _, status, reason := u1.join("a", private()); status != "ok" {
		t.Errorf("not let in again: %s", reason)
	}
}

// Postgres prepares no transaction that notifies, so none that changes rows of a watched table: nothing of it happens, and
// nobody is cut. Where the table is not watched it is prepared, and the timer notices that it was committed.
func TestRowsOfPreparedTransactions(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "5"}}).DB(t)
	r := start(t, db, func(c *Config) { often(c); c.Watch = "report" })
	r.exec(guests + `select realtime.watch('guests')`)
	u1, conn := r.member("u1", "a"), r.connection()
	const change = `delete from guests where user_id = 'u1'`
	var refused *pgconn.PgError
	if err := prepared(t.Context(), conn, change); !errors.As(err, &refused) || refused.Code != "0A000" {
		t.Errorf("prepared, with a notification in it: %v", err)
	}
	r.lives(u1, "a", false)

	r.exec(`select realtime.unwatch('guests')`)
	if err := prepared(t.Context(), conn, change); err != nil {
		t.Fatal(err)
	}
	r.lives(u1, "a", false)
	execOn(t, conn, `commit prepared 'taken'`)
	u1.wait("the end of the channel", isCut("a"))
	if err := prepared(t.Context(), conn, `insert into guests values ('u1', 'a')`); err != nil {
		t.Fatal(err)
	}
	execOn(t, conn, `commit prepared 'taken'`)
	if _, status, reason := u1.join("a", private()); status != "ok" {
		t.Errorf("not let in again: %s", reason)
	}
}
