package main

import (
	"fmt"
	"strings"
	"testing"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// allowMembers makes a table of members and policies that let them receive and send, and watches it.
const allowMembers = `
create table members (user_id text, room text, muted boolean not null default false, primary key (user_id, room));
grant select on members to authenticated;
create policy receive on realtime.messages for select to authenticated using (exists (select from public.members m
	where m.user_id = (select current_setting('request.jwt.claim.sub', true)) and m.room = (select realtime.topic())));
create policy send on realtime.messages for insert to authenticated with check (exists (select from public.members m
	where m.user_id = (select current_setting('request.jwt.claim.sub', true)) and m.room = (select realtime.topic()) and not m.muted));
select realtime.watch('members', 'user_id', '{room}');`

// Anyone who can connect can NOTIFY. What he says must put nothing into a channel, take nothing out, and cost little.
func TestForgedNotifications(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a'), ('u2', 'b');`)
	u1, u2 := r.dial(token(t, "u1", "authenticated", nil)), r.dial(token(t, "u2", "authenticated", nil))
	for c, room := range map[*client]string{u1: "a", u2: "b"} {
		if _, status, reason := c.join(room, private()); status != "ok" {
			t.Fatalf("join %s: %s", room, reason)
		}
	}
	r.exec(`select realtime.send('{"n": 1}', 'once', 'a')`)
	u1.wait("the message", broadcastOf("a", "once"))
	journal := scalar[string](t, r.db, `select xid || ' ' || seq || ' ' || token from realtime._journal`)
	xid, _, _ := strings.Cut(journal, " ")
	forge := func(payload string) {
		t.Helper()
		r.exec(`set role authenticated; select pg_notify('realtime', '` + payload + `'); reset role`)
	}
	decided := counter(t, r, "realtime_decisions_total")
	const storm = 500
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	for i := range storm {
		forge("m " + strings.TrimSuffix(journal, journal[len(journal)-36:]) + uuid) // another's guess of a message
		forge("m " + journal)                                                       // delivered before
		forge(fmt.Sprintf("m %d %d %s", 1<<40+i, i, uuid))                          // never was
		forge(fmt.Sprintf("m %s %d %s", xid, 1000+i, uuid))                         // a transaction that was, a place that was not
		forge(fmt.Sprintf(`r {"s":"u1","t":"a","x":"%d"}`, i))                      // a mark
		forge(`r {"s":"u1"`)                                                        // half a one
		forge("h " + fmt.Sprintf("%026d", i))                                       // a heartbeat
		forge(strings.Repeat("x", 7000))                                            // noise
		forge(`m 0 -1`)
	}
	r.exec(`select realtime.send('{"n": 2}', 'end', 'a'), realtime.send('{"n": 2}', 'end', 'b')`)
	u1.wait("the end", broadcastOf("a", "end"))
	u2.wait("the end", broadcastOf("b", "end"))
	for _, c := range []*client{u1, u2} {
		for _, f := range c.all() {
			if f.Event != "broadcast" && f.Event != "phx_reply" {
				t.Errorf("forgery led to %s %s %s", f.Topic, f.Event, f.Payload)
			}
		}
	}
	if n := count(u1, broadcastOf("a", "once")); n != 1 {
		t.Errorf("the message was delivered %d times", n)
	}
	if n := count(u2, isEvent("b", "broadcast")); n != 1 {
		t.Errorf("u2 was given %d messages, 1 was sent", n)
	}
	// Forged marks are answered, and coalesced: far fewer decisions than notifications.
	if n := counter(t, r, "realtime_decisions_total") - decided; n == 0 || n > storm/2 {
		t.Errorf("%d forged marks led to %v decisions", storm, n)
	}
	if !r.feed.Hearing() {
		t.Error("the feed went deaf")
	}
}

func count(c *client, match func(frame) bool) (n int) {
	for _, f := range c.all() {
		if match(f) {
			n++
		}
	}
	return n
}

// counter is the sum of a metric over its labels.
func counter(t *testing.T, r *running, name string) float64 {
	t.Helper()
	return metricstest.Value(t, r.metrics, name, "")
}
