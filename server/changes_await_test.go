package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// Joins that wait for changes are not answered while a transaction keeps the replication slot from being made.
func TestJoinsThatWaitForChanges(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewCluster(t, pgtest.Options{}).DB(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	table := r.followed("id int primary key", "")
	entry := map[string]any{"event": "*", "schema": "public", "table": table}
	tx, err := r.db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	t.Run("a right that is lost meanwhile, and one that there never was", func(t *testing.T) {
		join := waitingFor(20_000, entry)
		join["config"].(map[string]any)["private"] = true
		c, stranger := r.dial(token(t, "u1", "authenticated", nil)), r.dial(token(t, "u2", "authenticated", nil))
		waits := c.push("", "realtime:a", "phx_join", join)
		if reason := stranger.refusal(stranger.push("", "realtime:a", "phx_join", join)); !strings.HasPrefix(reason, "Unauthorized: ") {
			t.Errorf("a stranger is refused with %q", reason)
		}
		r.await("the join to wait", func() bool { return channels(r, "private") == 1 && r.hub.Settled() })
		r.exec(`delete from members`)
		if reason := c.refusal(waits); !strings.HasPrefix(reason, "Unauthorized: ") || len(c.all()) != 1 {
			t.Errorf("refused with %q, told %v", reason, c.all())
		}
	})
	t.Run("in vain", func(t *testing.T) {
		c, began := r.dial(token(t, "u1", "authenticated", nil)), time.Now()
		reason := c.refusal(c.push("", "realtime:"+table, "phx_join", waitingFor(3_000, entry)))
		want := "PostgresChangesSubscribeTimeout: Timed out after 3000ms waiting for the postgres_changes subscription: " + protocol.TextChangesSlotWaits
		if waited := time.Since(began); reason != want || waited < 3*time.Second {
			t.Errorf("after %s refused with %q", waited, reason)
		}
		if c.push("", "realtime:"+table, "broadcast", map[string]any{}); channels(r, "public") != 0 {
			t.Error("there is a channel")
		}
	})
	t.Run("to the letter", func(t *testing.T) {
		clients, others := map[string]*client{}, r.dial(token(t, "u2", "authenticated", nil))
		othersRef, status, reason := others.join(table, map[string]any{"broadcast": map[string]any{"ack": true}})
		if status != "ok" {
			t.Fatal(reason)
		}
		for _, version := range versions {
			c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
			clients[version] = c
			c.push("", "realtime:"+table, "phx_join", waitingFor(20_000, entry))
		}
		r.exec(`insert into members (user_id, room) values ('u1', 'a')`)
		r.exec(`select realtime.send('{}', 'past', 'a')`)
		past := r.dial(token(t, "u1", "authenticated", nil))
		join := waitingFor(20_000, entry)
		join["config"].(map[string]any)["private"] = true
		join["config"].(map[string]any)["broadcast"] = map[string]any{"replay": map[string]any{"since": 1}}
		past.push("", "realtime:a", "phx_join", join)
		r.await("the joins to wait", func() bool { return channels(r, "public") == 3 && channels(r, "private") == 1 && r.hub.Settled() })
		r.exec(`select realtime.send('{}', 'meanwhile', 'a')`)
		others.reply(others.broadcast(othersRef, table))
		for _, c := range clients { // the rest of the socket goes on
			if status, _ := c.reply(c.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" {
				t.Error("no answer to the heartbeat")
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		for version, c := range clients {
			c.wait("the answer to the join", func(m frame) bool { return m.Event == "phx_reply" && m.Topic == "realtime:"+table })
			r.exec("insert into " + table + " values (1)")
			c.wait("the row", isEvent(table, "postgres_changes"))
			r.exec("truncate " + table)
			waitedFor(t, version, table, c)
		}
		past.wait("what was sent meanwhile", broadcastOf("a", "meanwhile"))
		var got []string
		for _, m := range past.all() {
			for _, event := range []string{"past", "meanwhile"} {
				if broadcastOf("a", event)(m) {
					got = append(got, event)
				}
			}
			if m.Event == "phx_reply" || m.Event == "system" {
				got = append(got, m.Event)
			}
		}
		if want := []string{"phx_reply", "system", "past", "meanwhile"}; !slices.Equal(got, want) {
			t.Errorf("told of the past %q, want %q", got, want)
		}
	})
}

// waitedFor compares all that the client of a join that waited was told, to the letter.
func waitedFor(t *testing.T, version, table string, c *client) {
	t.Helper()
	changes := regexp.MustCompile(`"id":\d{4,}|"ids":\[\d+\]|"commit_timestamp":"[^"]+"`)
	var got []string
	for _, m := range c.all() {
		if m.Topic == "phoenix" || len(got) == 3 { // and what the other did
			continue
		}
		text := strings.ReplaceAll(fmt.Sprintf("%s %s %s %s", refText(m.JoinRef), refText(m.Ref), m.Event, m.Payload), table, "t")
		got = append(got, changes.ReplaceAllStringFunc(text, func(value string) string { return value[:strings.Index(value, ":")+1] + "…" }))
	}
	join := "1"
	if version == "1.0.0" {
		join = "-"
	}
	want := []string{
		join + ` 1 phx_reply {"status":"ok","response":{"postgres_changes":[{"event":"*","schema":"public","table":"t","id":…}]}}`,
		join + ` - system {"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"t"}`,
		`- - postgres_changes {"ids":…,"data":{"schema":"public","table":"t","type":"INSERT","commit_timestamp":…,"columns":[{"name":"id","type":"int4"}],"record":{"id":1},"errors":null}}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("on %s:\n%s\nwant\n%s", version, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// channels are how many there are of a kind.
func channels(r *running, kind string) float64 {
	r.t.Helper()
	return metricstest.Value(r.t, r.metrics, "realtime_channels", kind)
}
