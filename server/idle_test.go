package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/sql"
)

// idleHeartbeats is the stretch in which statements are counted.
const idleHeartbeats = 10

// An idle server asks the database for nothing but the heartbeat (with what goes in its round trip), the digest and its lease, whether
// somebody follows changes of a table or not. Counted in the log of Postgres, by heartbeats and not by the clock.
func TestIdleServerAsksNothingForChanges(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"log_statement": "all", "log_line_prefix": "%a|", "autovacuum": "off"}})
	r := start(t, cluster.DB(t), func(c *Config) { c.DeafAfter = 2 * time.Second })
	usual := map[string]string{"begin isolation level": "begin", "commit": "commit", "-- ping": "ping"} // of a connection that was idle for long
	for name, text := range map[string]string{"heartbeat": sql.Heartbeat, "limits": sql.Limits, "digest": sql.Digests, "lease": sql.LeaseRenew, "awaited": sql.SyncAwaited, "source": sql.Source} {
		usual[firstLine(text)] = name
	}
	table := r.followed("id int primary key, owner text", `alter table TABLE enable row level security; create policy own on TABLE using (owner = 'u1')`)
	phases := []string{"nobody follows", "somebody follows"}
	perHeartbeat := map[string]float64{}
	for _, phase := range phases {
		if phase == phases[1] {
			f := r.follow(table, nil)
			f.subscribed(1)
			r.exec("insert into " + table + " values (1, 'u1')")
			f.toldOf(1)
		}
		r.awaitHeartbeats(2) // what has happened is over
		logged, lsn := len(r.log(cluster)), scalar[string](t, r.db, "select pg_current_wal_insert_lsn()::text")
		r.awaitHeartbeats(idleHeartbeats)
		written := scalar[int](t, r.db, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::pg_lsn)::int", lsn)
		counts := map[string]int{}
		for _, line := range strings.Split(r.log(cluster)[logged:], "\n") {
			who, said, _ := strings.Cut(line, "|")
			_, statement, is := strings.Cut(said, "LOG:  ")
			if !is || !strings.HasPrefix(who, "rowcast") {
				continue
			}
			_, statement, _ = strings.Cut(statement, ": ")
			kind := ""
			for begins, name := range usual {
				if strings.HasPrefix(statement, begins) {
					kind = name
				}
			}
			if kind == "" {
				t.Errorf("while %s, %s says %q", phase, who, statement)
			}
			counts[kind]++
		}
		questions := counts["heartbeat"] + counts["digest"] + counts["lease"]
		if n := counts["heartbeat"]; n < idleHeartbeats-1 || n > idleHeartbeats+2 {
			t.Errorf("while %s: %d heartbeats are said in the time of %d", phase, n, idleHeartbeats)
		}
		for _, beside := range []string{"awaited", "source"} {
			if n := counts[beside]; n < counts["heartbeat"]-1 || n > counts["heartbeat"]+1 {
				t.Errorf("while %s: %d times %s for %d heartbeats", phase, n, beside, counts["heartbeat"])
			}
		}
		for _, around := range []string{"begin", "limits", "commit"} {
			if n := counts[around]; n < questions-3 || n > questions+3 { // of each connection one may be cut in two
				t.Errorf("while %s: %d times %s for %d questions", phase, n, around, questions)
			}
		}
		if counts["digest"] == 0 || counts["digest"] > idleHeartbeats || counts["lease"] > idleHeartbeats {
			t.Errorf("while %s: %v in the time of %d heartbeats", phase, counts, idleHeartbeats)
		}
		perHeartbeat[phase] = float64(written) / idleHeartbeats
		t.Logf("%s: %v, %.0f bytes of WAL a heartbeat", phase, counts, perHeartbeat[phase])
	}
	if quiet := perHeartbeat[phases[0]]; perHeartbeat[phases[1]] > 1.5*quiet+100 || quiet > 2000 {
		t.Errorf("bytes of WAL a heartbeat: %v", slices.Collect(maps.Values(perHeartbeat)))
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// awaitHeartbeats waits until so many more have been heard.
func (r *running) awaitHeartbeats(n int) {
	r.t.Helper()
	heard := func() float64 { return metricstest.Value(r.t, r.metrics, "realtime_feed_heartbeat_seconds", "") }
	before := heard()
	r.await("heartbeats", func() bool { return heard() >= before+float64(n) })
}

// log is what Postgres has logged.
func (r *running) log(c *pgtest.Cluster) string {
	r.t.Helper()
	text, err := c.Log()
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}
