package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
)

func TestFaultListenerTerminated(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	f.sql(`select pg_terminate_backend(pid) from pg_stat_activity where ` + isListener)
	f.revoke() // heard by nobody, or just so
	f.publicGoesOn()
	f.heals()
}

// A frozen backend holds its connection and says nothing, like one that has nothing to say. Nobody wakes it up: the server
// takes another.
func TestFaultListenerFrozen(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	before := f.backends(isListener)
	if len(before) != 1 {
		t.Fatalf("listeners: %v", before)
	}
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(before[0], sig); err != nil {
			t.Errorf("signal the listener: %v", err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT) // else it would outlive the cluster
	f.revoke()
	f.await("another listener", func() bool {
		now := f.backends(isListener + fmt.Sprintf(` and pid <> %d`, before[0]))
		return len(now) == 1
	})
	f.publicGoesOn()
	f.heals()
}

// The listener's network swallows everything, and its connections stay; the pool has another way.
func TestFaultListenerCutOff(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	network, db := pgtest.NewProxy(t, cluster), cluster.DB(t)
	f := startFaulted(t, cluster, db, func(c *Config) { c.ListenDatabaseURL = network.Through(db.URL) })
	network.Freeze()
	f.revoke()
	f.awaitDeaf()
	f.awaitFinding("feed", "cannot prove that it hears")
	f.publicGoesOn()
	f.joinsArePutOff()
	f.say(f.stays, "a", f.private) // heard by nobody whose rights are not known
	network.Thaw()
	f.heals()
}

// The whole network swallows everything.
func TestFaultNetworkBlackHole(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	network, db := pgtest.NewProxy(t, cluster), cluster.DB(t)
	f := startFaulted(t, cluster, db, func(c *Config) {
		c.DatabaseURL = network.Through(db.URL)
		c.ListenDatabaseURL = c.DatabaseURL
	})
	network.Freeze()
	f.revoke()
	f.joinsArePutOff() // before anybody knows what is the matter
	f.awaitDeaf()
	f.awaitFinding("database", "deadline exceeded", "timeout")
	f.publicGoesOn()
	f.joinsArePutOff()
	network.Thaw()
	f.heals()
	network.Freeze() // and while it is so, the server can be stopped
	f.stop()
	if code := f.stays.closed(); code != websocket.StatusServiceRestart {
		t.Errorf("closed with %d", code)
	}
}

// The address names two hosts, and the first falls silent for good without closing a connection: the second takes over.
func TestFaultHostSilent(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	first, second, db := pgtest.NewProxy(t, cluster), pgtest.NewProxy(t, cluster), cluster.DB(t)
	f := startFaulted(t, cluster, db, func(c *Config) {
		c.DatabaseURL = strings.Replace(first.Through(db.URL), first.Address(), first.Address()+","+second.Address(), 1) + "&connect_timeout=1"
		c.ListenDatabaseURL = c.DatabaseURL
	})
	first.Freeze()
	f.revoke()
	f.publicGoesOn()
	f.heals()
}
