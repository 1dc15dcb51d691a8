package main

import (
	"strings"
	"testing"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

// The pool leads through PgBouncer, which lends connections for a transaction each, and is restarted.
func TestFaultPgBouncerRestarted(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	bouncer, db := pgtest.NewPgBouncer(t, cluster, "transaction"), cluster.DB(t)
	f := startFaulted(t, cluster, db, func(c *Config) { c.DatabaseURL = bouncer.URL(db.Name, pgtest.ServerRole) })
	if len(f.backends(isListener)) != 1 || len(f.backends("not "+isListener)) == 0 {
		t.Error("the connections are not where they should be")
	}
	for range 20 {
		f.joins("u1")
	}
	if err := bouncer.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.publicGoesOn()
	f.joins("u1")
	f.revoke()
	f.heals()
}

// LISTEN through such a pooler hears nothing. The server says so and does not start.
func TestListenThroughATransactionPoolerIsRefused(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	bouncer, db := pgtest.NewPgBouncer(t, cluster, "transaction"), cluster.DB(t)
	got := runProgram(t, []string{"DATABASE_URL=" + bouncer.URL(db.Name, pgtest.ServerRole), "JWT_SECRET=" + testSecret, "LOG_LEVEL=error"},
		"serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	if got.code != exitFinding || !strings.HasPrefix(got.errout, "rowcast serve: LISTEN_DATABASE_URL") || !strings.Contains(got.errout, "pooler in transaction mode") {
		t.Errorf("%+v", got)
	}
}

// In session mode it hears. A database that hangs while it is asked whether it does is not mistaken for one that does not.
func TestListenThroughASessionPooler(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	bouncer, db := pgtest.NewPgBouncer(t, cluster, "session"), cluster.DB(t)
	hangs := &faulted{t: t, cluster: cluster, running: &running{t: t, db: db}}
	mend := hangs.commitsHang()
	in := newTestInstance(t, db, func(c *Config) {
		c.DeafAfter = testDeafAfter
		c.DatabaseURL = bouncer.URL(db.Name, pgtest.ServerRole)
		c.ListenDatabaseURL = c.DatabaseURL
	}, func(s feed.Sink) feed.Sink { return s })
	r := launch(t, db, in)
	f := &faulted{t: t, cluster: cluster, running: r}
	before := func() float64 { return counter(t, r, "realtime_feed_reconnects_total") }
	f.await("the listener to try more than once", func() bool { return before() > 1 })
	mend()
	r.awaitReady()
	f.sql(allowMembers + `insert into members values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	f.sql(`select realtime.send('{}', 'heard', 'a')`)
	c.wait("a message", broadcastOf("a", "heard"))
	f.sql(`delete from members`)
	c.wait("the cut", isEvent("a", "phx_close"))
}
