package main

import (
	"context"
	"strings"
	"testing"

	"rowcast/server/feed"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// byWAL has a server hear messages by the WAL.
func byWAL(c *Config) { c.FeedSource = "wal" }

// What a bulk load has written is decoded before a revocation that follows it. Who lost the right is cut all the same, by
// the alarm; and those who have it are given everything, in its order.
func TestRevocationBehindABulkLoad(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewQuiet(t), byWAL)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a'), ('u2', 'a'); create table bulk (n int, text text)`)
	u1, u2 := r.dial(token(t, "u1", "authenticated", nil)), r.dial(token(t, "u2", "authenticated", nil))
	u1.joined("a", private())
	u2.joined("a", private())
	r.exec(`insert into bulk select i, repeat('x', 50) from generate_series(1, 500000) as i`)
	r.exec(`select realtime.send('{"n": 1}', 'sql', 'a')`)
	r.exec(`begin; delete from members where user_id = 'u1'; select realtime.send('{"n": 2}', 'secret', 'a'); commit`)
	r.exec(`select realtime.send('{"n": 3}', 'sql', 'a')`)
	u1.wait("the cut", isEvent("a", "phx_close"))
	u2.wait("the secret", broadcastOf("a", "secret"))
	r.exec(`select realtime.send('{}', 'end', 'a')`)
	u2.wait("the end", broadcastOf("a", "end"))
	if got := numbers(u2, "a", "sql"); len(got) != 2 || got[0] != 1 || got[1] != 3 {
		t.Errorf("who has the right was given %v", got)
	}
	if n := count(u1, broadcastOf("a", "secret")); n != 0 {
		t.Error("what was sent after the revocation was delivered")
	}
	if metricstest.Value(t, r.metrics, "realtime_feed_alarms_total", "") == 0 {
		t.Error("there was no alarm")
	}
}

// A grant says when it was: what was sent before it does not reach who is let in by its alarm, nor the other way round.
func TestGainBehindABulkLoad(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewQuiet(t), byWAL)
	r.exec(`create table members (user_id text, extension text); grant select on members to authenticated; create table bulk (n int, text text);
		create policy receive on realtime.messages for select to authenticated using (
			exists (select from members m where m.user_id = current_setting('request.jwt.claim.sub', true) and m.extension = realtime.messages.extension));
		select realtime.watch('members', 'user_id'); insert into members values ('u1', 'presence'), ('u2', 'broadcast')`)
	u1, u2 := r.dial(token(t, "u1", "authenticated", nil)), r.dial(token(t, "u2", "authenticated", nil))
	config := private()
	config["presence"] = map[string]any{"enabled": true}
	u1.joined("a", config)
	u2.joined("a", private())
	r.exec(`insert into bulk select i, repeat('x', 50) from generate_series(1, 500000) as i`)
	r.exec(`select realtime.send('{}', 'before', 'a')`)
	r.exec(`insert into members values ('u1', 'broadcast')`)
	if !r.sync(r.db.Admin, patience) {
		t.Fatal("not in sync")
	}
	r.exec(`select realtime.send('{}', 'after', 'a')`)
	u1.wait("what was sent after the grant", broadcastOf("a", "after"))
	u2.wait("the same", broadcastOf("a", "after"))
	if n := count(u1, broadcastOf("a", "before")); n != 0 {
		t.Error("what was sent before the grant was delivered")
	}
	if n := count(u2, broadcastOf("a", "before")); n != 1 {
		t.Errorf("who had the right was given it %d times", n)
	}
}

// Without a WAL that can be decoded messages go by NOTIFY; who wants nothing else is told how it is mended.
func TestSourceWithoutALogicalWAL(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_level": "replica"}}).DB(t)
	r := start(t, db, func(c *Config) { c.FeedSource = "auto" })
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	u1 := r.dial(token(t, "u1", "authenticated", nil))
	u1.joined("a", private())
	r.exec(`select realtime.send('{}', 'e', 'a')`)
	u1.wait("the message", broadcastOf("a", "e"))
	r.stop()
	strict := launch(t, db, newTestInstance(t, db, byWAL, func(s feed.Sink) feed.Sink { return s }))
	strict.await("the mend", func() bool {
		err := strict.ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "alter system set wal_level")
	})
}

// The stream is lost, and then the listener beside another: nothing is lost or told twice, and nobody is denied anything.
func TestStreamLost(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewQuiet(t), byWAL)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	u1 := r.dial(token(t, "u1", "authenticated", nil))
	u1.joined("a", private())
	n := 0
	sends := func(connection string) {
		n++
		r.exec(`select realtime.send(jsonb_build_object('n', $1::int), 'sql', 'a')`, n)
		r.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = $1`, connection)
		n++
		r.exec(`select realtime.send(jsonb_build_object('n', $1::int), 'sql', 'a')`, n)
	}
	for _, connection := range []string{"rowcast wal", "rowcast listener", "rowcast wal", "rowcast listener"} {
		r.awaitReady() // and so the WAL is heard
		sends(connection)
	}
	r.exec(`select realtime.send('{}', 'end', 'a')`)
	u1.wait("the end", broadcastOf("a", "end"))
	got := numbers(u1, "a", "sql")
	for i, number := range got {
		if number != i+1 {
			t.Fatalf("received %v", got)
		}
	}
	if len(got) != n {
		t.Errorf("%d messages received, want %d", len(got), n)
	}
}
