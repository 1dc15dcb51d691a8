package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// sync calls realtime.sync() on a connection, and gives its answer.
func (r *running) sync(conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, timeout time.Duration) (synced bool) {
	r.t.Helper()
	if err := conn.QueryRow(r.t.Context(), `select realtime.sync($1::bigint * interval '1 ms')`, timeout.Milliseconds()).Scan(&synced); err != nil {
		r.t.Fatal(err)
	}
	return synced
}

// private counts the private channels that the hub has.
func (r *running) private() float64 {
	r.t.Helper()
	return metricstest.Value(r.t, r.metrics, "realtime_channels", "private")
}

// When sync() says so there is nothing more to wait for: whoever lost a right before has been cut, and nobody else.
func TestSync(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members select 'u' || i, 'a' from generate_series(1, 9) as i`)
	var clients []*client
	for i := range 9 {
		c := r.dial(token(t, fmt.Sprintf("u%d", i+1), "authenticated", nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
		clients = append(clients, c)
	}
	for cut := range 5 {
		user := fmt.Sprintf("u%d", cut+1)
		r.exec(`begin; delete from members where user_id <> '` + user + `'; rollback`)
		r.exec(`delete from members where user_id = $1`, user)
		if !r.sync(r.db.Admin, 60*time.Second) {
			t.Fatal("not in a minute")
		}
		if left := r.private(); left != float64(8-cut) {
			t.Fatalf("%v channels left after %d revocations", left, cut+1)
		}
		if n := metricstest.Value(t, r.metrics, "realtime_channels_closed_total", "NoLongerAuthorized"); n != float64(cut+1) {
			t.Fatalf("%v were told after %d revocations", n, cut+1)
		}
	}
	r.exec(`select realtime.disconnect('u6'), realtime.disconnect('u7')`)
	if !r.sync(r.db.Admin, 60*time.Second) {
		t.Fatal("not in a minute")
	}
	if left := r.private(); left != 2 {
		t.Errorf("%v channels left after the disconnects", left)
	}
	r.exec(`select realtime.send('{}', 'm', 'a')`)
	for _, c := range clients[7:] {
		c.wait("the message", broadcastOf("a", "m"))
	}
	// Its own transaction's changes are not covered; everything else is.
	tx, err := r.db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `delete from members`); err != nil {
		t.Fatal(err)
	}
	if !r.sync(tx, 60*time.Second) {
		t.Error("not in a minute, within a transaction")
	}
	if left := r.private(); left != 2 {
		t.Errorf("%v channels left: what is not committed was done", left)
	}
}

// What no notification tells of is looked for: a change of definitions has been applied as well, however seldom the server
// looks by itself.
func TestSyncCoversDefinitions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role, group := db.NewRole(t, "nologin"), db.NewRole(t, "nologin")
	adminExec(t, db, "grant "+role+" to rowcast; grant "+group+" to "+role)
	r := start(t, db, func(c *Config) { seldom(c); c.AllowedRoles = append(c.AllowedRoles, role) })
	r.exec(`grant select, insert on realtime.messages to ` + role + `; create policy receive on realtime.messages for select to ` + group + ` using (true)`)
	for _, change := range []struct{ take, give string }{
		{`alter policy receive on realtime.messages using (false)`, `alter policy receive on realtime.messages using (true)`},
		{`revoke select on realtime.messages from ` + role, `grant select on realtime.messages to ` + role},
		{`revoke ` + group + ` from ` + role, `grant ` + group + ` to ` + role},
	} {
		c := r.dial(token(t, "u1", role, nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatalf("before %s: %s", change.take, reason)
		}
		r.exec(change.take)
		if !r.sync(db.Admin, 60*time.Second) {
			t.Fatal("not in a minute")
		}
		if n := r.private(); n != 0 {
			t.Errorf("synced, and %v channels are left after %s", n, change.take)
		}
		r.exec(change.give)
	}
}

// Rows of a table that may not be watched are covered too.
func TestSyncCoversTablesThatAreNotWatched(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(guests)
	r.member("u1", "a")
	r.exec(`delete from guests`)
	if !r.sync(r.db.Admin, 60*time.Second) {
		t.Fatal("not in a minute")
	}
	if left := r.private(); left != 0 {
		t.Errorf("%v channels left", left)
	}
}

// A join that is under way is waited for: it may be decided by what was there before.
func TestSyncWaitsForJoins(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	release := r.lock("members")
	c := r.dial(token(t, "u1", "authenticated", nil))
	c.push("", "realtime:a", "phx_join", map[string]any{"config": private()})
	r.await("the join to be in the hub", func() bool { return r.private() == 1 })
	other := r.connection()
	if r.sync(other, 1500*time.Millisecond) && counter(t, r, "realtime_joins_total") == 0 {
		t.Error("synced, with a join undecided")
	}
	answered := make(chan bool, 1)
	go func() { answered <- r.sync(other, 60*time.Second) }()
	release()
	if !<-answered {
		t.Error("not in a minute after the join was decided")
	}
	if counter(t, r, "realtime_joins_total") != 1 {
		t.Error("synced, and the join is not answered")
	}
}

// connection is one of its own.
func (r *running) connection() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.db.Admin.Config().ConnString())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestSyncByMany(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	const callers, times = 20, 10
	var all sync.WaitGroup
	var failed atomic.Int64
	for range callers {
		conn := r.connection()
		all.Go(func() {
			for range times {
				var synced bool
				if err := conn.QueryRow(context.Background(), `select realtime.sync('60 s')`).Scan(&synced); err != nil || !synced {
					t.Errorf("synced: %t, %v", synced, err)
					failed.Add(1)
					return
				}
			}
		})
	}
	all.Wait()
	if n := metricstest.Value(t, r.metrics, "realtime_syncs_total", "answered"); failed.Load() == 0 && n > callers*times {
		t.Errorf("%v answers to %d calls", n, callers*times)
	}
}

// A server that does not hear says nothing, and says so when it hears again.
func TestSyncWithADeafServer(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(allowMembers + `insert into members values ('u1', 'a')`)
	c := o.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	if !o.sync(o.db.Admin, 60*time.Second) {
		t.Fatal("not in a minute")
	}
	o.begin()
	o.exec(`delete from members`)
	if o.sync(o.db.Admin, 2*time.Second) {
		t.Error("synced, and the server was deaf")
	}
	if o.sync(o.db.Admin, 0) {
		t.Error("synced at once")
	}
	o.end()
	if !o.sync(o.db.Admin, 60*time.Second) {
		t.Error("not in a minute after the outage")
	}
	if left := o.private(); left != 0 {
		t.Errorf("%v channels left", left)
	}
}

// A listener's network that swallows everything looks like a quiet one.
func TestSyncWithASilentListener(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	network, db := pgtest.NewProxy(t, cluster), cluster.DB(t)
	r := start(t, db, func(c *Config) { c.ListenDatabaseURL = network.Through(db.URL) })
	network.Freeze()
	if r.sync(db.Admin, 2*time.Second) {
		t.Error("synced, and the listener heard nothing")
	}
	network.Thaw()
	if !r.sync(db.Admin, 60*time.Second) {
		t.Error("not in a minute after the silence")
	}
}

// Every server that serves has to say it.
func TestSyncOfTwoServers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.NewRole(t, "login")
	first := start(t, db, allowSecond)
	second := start(t, db, func(c *Config) { c.AllowSecondNode, c.ListenDatabaseURL = true, db.As(role) })
	first.exec(allowMembers + `insert into members values ('u1', 'a')`)
	for _, r := range []*running{first, second} {
		c := r.dial(token(t, "u1", "authenticated", nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
	}
	first.exec(`delete from members`)
	if !first.sync(db.Admin, 60*time.Second) {
		t.Fatal("not in a minute")
	}
	if first.private() != 0 || second.private() != 0 {
		t.Error("not cut by both")
	}
	first.exec("alter role " + role + " nologin")
	first.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = $1`, role)
	second.await("the second to be deaf", func() bool { return !second.feed.Hearing() })
	if first.sync(db.Admin, 2*time.Second) {
		t.Error("synced, and the second server was deaf")
	}
	second.stop()
	second.await("it to have left", func() bool {
		var nodes int
		err := db.Admin.QueryRow(t.Context(), `select count(*) from realtime._nodes`).Scan(&nodes)
		return err == nil && nodes == 1
	})
	if !first.sync(db.Admin, 60*time.Second) {
		t.Error("not in a minute after the second has left")
	}
}

// What cannot be answered is an error, and no answer.
func TestSyncRefuses(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	conn := r.connection()
	for statement, want := range map[string]string{
		`begin isolation level repeatable read; select realtime.sync(); commit`:  "25000",
		`begin isolation level serializable; select realtime.sync(); commit`:     "25000",
		`begin read only; select realtime.sync(); commit`:                        "25006",
		`select realtime.sync(null)`:                                             "22004",
		`select realtime.sync('-1 s')`:                                           "22023",
		`select realtime.sync('61 s')`:                                           "22023",
		`begin isolation level read uncommitted; select realtime.sync(); commit`: "",
		`set role authenticated; select realtime.sync()`:                         "42501",
		`set role authenticated; select realtime.disconnect('u1')`:               "42501",
		`select realtime.disconnect(null)`:                                       "22004",
		`select realtime.disconnect('')`:                                         "22004",
		`select realtime.disconnect('u', repeat('x', 501))`:                      "22001",
		`select realtime.disconnect(repeat('x', 16385))`:                         "22001",
		`select realtime.disconnect('u', repeat('ä', 500))`:                      "",
		`begin read only; select realtime.disconnect('u'); commit`:               "25006",
	} {
		_, err := conn.Exec(t.Context(), statement)
		var refused *pgconn.PgError
		state := ""
		if errors.As(err, &refused) {
			state = refused.Code
		}
		if state != want {
			t.Errorf("%s: %q (%v), want %q", statement, state, err, want)
		}
		if _, err := conn.Exec(t.Context(), `rollback; reset role`); err != nil {
			t.Fatal(err)
		}
	}
}

// Where nobody is served there is nobody to wait for.
func TestSyncWithoutAServer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config := db.Admin.Config().ConnConfig.Copy()
	var said []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var synced bool
	if err := conn.QueryRow(t.Context(), `select realtime.sync()`).Scan(&synced); err != nil || !synced {
		t.Errorf("synced: %t, %v", synced, err)
	}
	if len(said) != 1 {
		t.Errorf("said %q", said)
	}
}
