package main

import (
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// startFaultedBehind leads the server to the database through a network that can be lost.
func startFaultedBehind(t *testing.T, change func(*Config)) (*faulted, *pgtest.Proxy) {
	t.Helper()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	network, db := pgtest.NewProxy(t, cluster), cluster.DB(t)
	return startFaulted(t, cluster, db, func(c *Config) {
		c.DatabaseURL = network.Through(db.URL)
		c.ListenDatabaseURL = c.DatabaseURL
		if change != nil {
			change(c)
		}
	}), network
}

// renewMeanwhile loses the network, and has everybody get a new token while it is lost.
func (f *faulted) renewMeanwhile(network *pgtest.Proxy) {
	f.t.Helper()
	network.Freeze()
	network.Sever()
	f.stays.renew(f.private, "a", token(f.t, "u1", "authenticated", map[string]any{"jti": "new"}))
	f.stays.renew(f.all, "open", token(f.t, "u1", "authenticated", map[string]any{"jti": "new"}))
}

// New tokens come while the database cannot be asked: nobody is denied anything for it, and when it can, all goes on.
func TestFaultNewTokenMeanwhile(t *testing.T) {
	t.Parallel()
	f, network := startFaultedBehind(t, nil)
	f.renewMeanwhile(network)
	f.revoke()
	f.publicGoesOn()
	f.awaitDeaf()
	network.Thaw()
	f.heals()
}

// If it stays so, clients are told to join again, and not that they may not: with the new token they get in when it is over.
func TestFaultNewTokenForLong(t *testing.T) {
	t.Parallel()
	f, network := startFaultedBehind(t, func(c *Config) { c.MaxDeaf = testDeafAfter })
	f.renewMeanwhile(network)
	told := f.stays.wait("phx_error", isEvent("a", "phx_error"))
	said := ""
	for _, m := range f.stays.all()[:told.receivedAfter] {
		if isEvent("a", "system")(m) {
			said = messageOf(m)
		}
	}
	if !strings.HasPrefix(said, "Realtime cannot prove that it hears the database") {
		t.Errorf("told %q before phx_error", said)
	}
	if n := count(f.stays, isEvent("a", "phx_close")); n != 0 {
		t.Errorf("closed for good: %s", f.stays.said())
	}
	f.publicGoesOn()
	network.Thaw()
	f.await("a join with the new token", func() bool {
		_, status, _ := f.stays.joinWith("a", "access_token", token(t, "u1", "authenticated", map[string]any{"jti": "new"}), private())
		return status == "ok"
	})
}
