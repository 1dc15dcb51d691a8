package feed_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/feed"
	"rowcast/server/metrics"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// sends sends numbered messages, one a transaction.
func (b *bundle) sends(t *testing.T, event string, n int, settings string) {
	t.Helper()
	for i := range n {
		b.exec(t, fmt.Sprintf(`begin; %s; select realtime.send('%d', '%s', 't'), realtime.invalidate('%s'); commit`, settings, i+1, event, event))
	}
}

// xids are the transactions of an event's messages.
func (b *bundle) xids(t *testing.T, event string) []string {
	t.Helper()
	rows, err := b.db.Admin.Query(t.Context(), `select j.xid::text from realtime._journal j join realtime.messages m on m.id = j.message_id where m.event = $1 order by j.seq`, event)
	if err != nil {
		t.Fatal(err)
	}
	xids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return xids
}

// once checks that each of an event's messages was said once, in order.
func once(t *testing.T, said []string, event string, n int) {
	t.Helper()
	var got, want []string
	for _, s := range said {
		if strings.HasPrefix(s, "message t "+event+" ") {
			got = append(got, s)
		}
	}
	for i := range n {
		want = append(want, fmt.Sprintf("message t %s true %d", event, i+1))
	}
	if !slices.Equal(got, want) {
		t.Errorf("of %d messages %q said %q", n, event, got)
	}
}

// last is how a recorder says the last of an event's messages.
func last(event string, n int) string { return fmt.Sprintf("message t %s true %d", event, n) }

// reused checks that the test has met what it is about.
func reused(t *testing.T, before, after []string) {
	t.Helper()
	if !slices.ContainsFunc(after, func(xid string) bool { return slices.Contains(before, xid) }) {
		t.Errorf("no transaction id was given out again: before %q, after %q", before, after)
	}
}

// proven waits until all that was told is proven to have been.
func (b *bundle) proven(t *testing.T) {
	t.Helper()
	heard := func() float64 { return metricstest.Value(t, b.m, "realtime_feed_heartbeat_seconds", "") }
	before, tick := heard(), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); heard() < before+3; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("no heartbeats are heard")
		}
	}
}

const asynchronous = "set local synchronous_commit = off"

// stopFlushing leaves asynchronous commits unflushed: it freezes the WAL writer. The returned function lets that end once
// the server is dead; who is frozen does not notice.
func stopFlushing(t *testing.T, db *pgtest.DB) (end func()) {
	t.Helper()
	writer := pidOf(t, db, `select pid from pg_stat_activity where backend_type = 'walwriter'`)
	if err := syscall.Kill(writer, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { _ = syscall.Kill(writer, syscall.SIGKILL) })
}

// forgetful is a Postgres whose other processes flush nothing by themselves: at higher levels of the WAL the background
// writer logs every 15 seconds what runs, and with it flushes all before.
var forgetful = map[string]string{"wal_level": "minimal", "max_wal_senders": "0"}

// Transactions that were told and then lost in a crash leave their ids to others. These must be told all the same.
func TestCrash(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{Settings: forgetful})
	db := c.DB(t)
	b := startWith(t, db, db.URL, nil)
	b.sends(t, "kept", 5, "select 1")
	end := stopFlushing(t, db)
	defer end()
	b.sends(t, "lost", 30, asynchronous)
	said := b.await(t, last("lost", 30))
	before := b.xids(t, "lost")
	b.proven(t)
	killed := make(chan error, 1)
	go func() { killed <- c.Kill(t.Context()) }()
	for db.Admin.Ping(t.Context()) == nil {
	}
	end()
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Admin.Reset()
	b.sends(t, "again", 30, "select 1")
	said = append(said, b.await(t, last("again", 30))...)
	reused(t, before, b.xids(t, "again"))
	for event, n := range map[string]int{"kept": 5, "lost": 30, "again": 30} {
		once(t, said, event, n)
	}
	if !slices.Contains(said, "rewound") || slices.Contains(said, "missed") {
		t.Errorf("said %q", slices.DeleteFunc(said, func(s string) bool { return strings.HasPrefix(s, "m") }))
	}
}

// One backend dies, and its postmaster ends all others and begins anew.
func TestBackendCrash(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{Settings: forgetful})
	db := c.DB(t)
	b := startWith(t, db, db.URL, nil)
	end := stopFlushing(t, db)
	defer end()
	b.sends(t, "lost", 30, asynchronous)
	said := b.await(t, last("lost", 30))
	before := b.xids(t, "lost")
	b.proven(t)
	listener := pidOf(t, db, `select pid from pg_stat_activity where application_name = 'rowcast listener'`)
	if err := syscall.Kill(listener, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	said = append(said, b.await(t, "deaf")...)
	end()
	said = append(said, b.await(t, "hearing")...)
	db.Admin.Reset()
	b.sends(t, "again", 30, "select 1")
	said = append(said, b.await(t, last("again", 30))...)
	reused(t, before, b.xids(t, "again"))
	once(t, said, "lost", 30)
	once(t, said, "again", 30)
	if !slices.Contains(said, "rewound") {
		t.Error("the crash was taken for lost connections")
	}
}

// The standby lacks the primary's last transactions, and gives their ids to others when it is promoted. What it had
// received is told, whether it had been told before, once, or had not.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.NewPair(t)
	db, heir := primary.DB(t), standby.DB(t)
	if _, err := db.Admin.Exec(t.Context(), "create role listener login"); err != nil {
		t.Fatal(err)
	}
	led := *db
	led.URL = primary.OrAt(standby, db.URL)
	led.PoolURL = led.URL
	o := &outages{startWith(t, &led, primary.OrAt(standby, db.As("listener")), nil), "listener"}

	o.sends(t, "told", 10, "select 1")
	said := o.await(t, last("told", 10))
	o.begin(t)
	o.sends(t, "missed", 10, "select 1")
	received(t, db)
	refusesStandby(t, &led, heir.URL)
	sender := pidOf(t, db, `select pid from pg_stat_replication`)
	if err := syscall.Kill(sender, syscall.SIGSTOP); err != nil { // from here on the standby receives nothing
		t.Fatal(err)
	}
	o.exec(t, "alter role listener login")
	said = append(said, o.await(t, "caught up")...)
	o.sends(t, "lost", 30, "select 1") // told, and then Postgres itself forgets them
	said = append(said, o.await(t, last("lost", 30))...)
	before := o.xids(t, "lost")
	o.proven(t)
	killed := make(chan error, 1)
	go func() { killed <- primary.Kill(t.Context()) }()
	for db.Admin.Ping(t.Context()) == nil {
	}
	_ = syscall.Kill(sender, syscall.SIGKILL) // who is stopped does not notice the end
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	led.Admin = heir.Admin
	o.exec(t, "alter role listener login") // this, too, was not received
	o.sends(t, "again", 30, "select 1")
	said = append(said, o.await(t, last("again", 30))...)
	reused(t, before, o.xids(t, "again"))
	for event, n := range map[string]int{"told": 10, "missed": 10, "lost": 30, "again": 30} {
		once(t, said, event, n)
	}
	if !slices.Contains(said, "rewound") || slices.Contains(said, "missed") {
		t.Errorf("said %q", slices.DeleteFunc(said, func(s string) bool { return strings.HasPrefix(s, "m") }))
	}
	// The next outage finds the same history.
	o.begin(t)
	o.sends(t, "later", 3, "select 1")
	said = o.end(t)
	once(t, said, "later", 3)
	if slices.Contains(said, "rewound") {
		t.Error("an outage was taken for another failover")
	}
}

func pidOf(t *testing.T, db *pgtest.DB, question string) (pid int) {
	t.Helper()
	if err := db.Admin.QueryRow(t.Context(), question).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func until(t *testing.T, what string, db *pgtest.DB, question string) {
	t.Helper()
	for range 1000 {
		var yes bool
		if err := db.Admin.QueryRow(t.Context(), question+" from pg_sleep(0.02)").Scan(&yes); err != nil {
			t.Fatal(err)
		}
		if yes {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// received waits until a standby has all that its primary has.
func received(t *testing.T, db *pgtest.DB) {
	t.Helper()
	until(t, "the standby to know as much", db, `select coalesce((select replay_lsn >= pg_current_wal_lsn() from pg_stat_replication), false)`)
}

// refusesStandby leads a listener to a standby and waits until that is said.
func refusesStandby(t *testing.T, db *pgtest.DB, standby string) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), db.URL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	log := lines{make(chan string, 100)}
	f := feed.New(feed.Options{Pool: pool, ListenURL: standby, Sink: &recorder{}, Logger: slog.New(slog.NewTextHandler(log, nil)), Metrics: metrics.New()})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer cancel()
	deadline := time.After(patience)
	for {
		select {
		case line := <-log.said:
			if strings.Contains(line, "LISTEN_DATABASE_URL leads to a standby") {
				return
			}
		case <-deadline:
			t.Fatal("nothing is said of a standby that cannot be listened to")
		}
	}
}

// lines is a log that is read while it is written.
type lines struct{ said chan string }

func (l lines) Write(p []byte) (int, error) {
	select {
	case l.said <- string(bytes.TrimSpace(p)):
	default:
	}
	return len(p), nil
}

// Another database behind the same address: nothing of it was missed, but of the first one something may have been.
func TestAnotherDatabase(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{})
	db := c.DB(t)
	conn, err := pgx.Connect(t.Context(), c.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec := func(statements ...string) {
		t.Helper()
		for _, statement := range statements {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	exec("create database other template app")
	b := startWith(t, db, db.URL, nil)
	b.sends(t, "first", 3, "select 1")
	b.await(t, last("first", 3))
	exec("alter database app with allow_connections false",
		"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = 'app'",
		"alter database app rename to gone", "alter database other rename to app")
	db.Admin.Reset()
	said := b.await(t, "caught up")
	if !slices.Contains(said, "missed") || !slices.Contains(said, "rewound") {
		t.Errorf("said %q", said)
	}
	b.await(t, "hearing")
	b.sends(t, "second", 3, "select 1")
	once(t, b.await(t, last("second", 3)), "second", 3)
}
