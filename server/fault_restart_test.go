package main

import (
	"strings"
	"testing"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

func TestFaultPostgresKilled(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	if err := f.cluster.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitDeaf()
	f.awaitFinding("database", "failed to connect")
	f.awaitFinding("feed", "cannot prove that it hears")
	f.publicGoesOn()
	f.joinsArePutOff()
	if err := f.cluster.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.revoke()
	f.heals()
}

func TestFaultPostgresRestarted(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	f.say(f.stays, "a", f.private) // on its way when it happens
	if err := f.cluster.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitDeaf()
	f.publicGoesOn()
	if err := f.cluster.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.revoke()
	f.heals()
}

// A database that stays away has private channels closed so that their clients try again, which succeeds once it is back.
func TestFaultPostgresStoppedForLong(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	f := startFaulted(t, cluster, cluster.DB(t), func(c *Config) { c.MaxDeaf = testDeafAfter })
	if err := f.cluster.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitDeaf()
	for _, c := range []*client{f.stays, f.goes} {
		system := c.wait("the reason", func(m frame) bool {
			return isEvent("a", "system")(m) && strings.Contains(string(m.Payload), "cannot prove that it hears")
		})
		if end := c.wait("the end", isEvent("a", "phx_error")); end.receivedAfter < system.receivedAfter {
			t.Error("the channel ended before it was said why")
		}
	}
	f.publicGoesOn()
	f.joinsArePutOff()
	if err := f.cluster.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.revoke()
	f.joins("u1")
	if _, status, reason := f.goes.join("a", private()); status != "error" || !strings.HasPrefix(reason, "Unauthorized: ") {
		t.Errorf("who lost the right: %s %s", status, reason)
	}
	f.publicGoesOn()
}

// The primary is lost and its standby takes over, on another timeline and with transaction numbers that may come again.
// The pool finds it by its own list of hosts, the listener by an address that leads elsewhere.
func TestFaultFailover(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.NewPair(t)
	db := primary.DB(t)
	network := pgtest.NewProxy(t, primary)
	f := startFaulted(t, primary, db, func(c *Config) {
		c.DatabaseURL = primary.OrAt(standby, db.URL)
		c.ListenDatabaseURL = network.Through(db.URL)
	})
	f.await("the standby to know as much", func() bool {
		var lag int64
		err := db.Admin.QueryRow(t.Context(), `select pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) from pg_stat_replication`).Scan(&lag)
		return err == nil && lag <= 0
	})
	if err := primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitDeaf()
	f.publicGoesOn()
	f.joinsArePutOff()
	f.db = standby.DB(t)
	network.Lead(standby)
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.revoke()
	f.heals()
}

// A server that is started before its database waits for it, and says so.
func TestFaultDatabaseAbsentAtStart(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	db := cluster.DB(t)
	if err := cluster.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := newTestInstance(t, db, func(c *Config) { c.DeafAfter = testDeafAfter }, func(s feed.Sink) feed.Sink { return s })
	f := &faulted{t: t, cluster: cluster, running: launch(t, db, in)}
	f.awaitFinding("database", "failed to connect")
	if code, body := get(t, "http://"+f.public.Addr().String()+"/livez"); code != 200 {
		t.Errorf("livez: %d %s", code, body)
	}
	if err := cluster.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitReady()
	f.sql(allowMembers + `insert into members values ('u1', 'a')`)
	f.joins("u1")
}
