package main

import (
	"context"
	"fmt"
	"testing"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

// stopped holds the feed inside the message "stop" until let go.
type stopped struct {
	feed.Sink
	in, out chan struct{}
}

func (s stopped) Message(m feed.Message) {
	if m.Event == "stop" {
		close(s.in)
		<-s.out
	}
	s.Sink.Message(m)
}

// A notification that announces a message ahead of its own transaction must not have it delivered before the mark that
// the same transaction makes first.
func TestForgedAnnouncementOvertakesNothing(t *testing.T) {
	t.Parallel()
	gate := stopped{in: make(chan struct{}), out: make(chan struct{})}
	r := startVia(t, pgtest.New(t), nil, func(s feed.Sink) feed.Sink { gate.Sink = s; return gate })
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a'), ('u2', 'a');`)
	u1, u2 := r.dial(token(t, "u1", "authenticated", nil)), r.dial(token(t, "u2", "authenticated", nil))
	for _, c := range []*client{u1, u2} {
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
	}
	ctx := context.Background()
	r.exec(`select realtime.send('{}', 'stop', 'a')`)
	<-gate.in // the feed is busy
	tx, err := r.db.Admin.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var xid string
	var seq int64 // both can be guessed
	if err := tx.QueryRow(ctx, `select pg_current_xact_id()::text, (select max(seq) + 1 from realtime._journal)`).Scan(&xid, &seq); err != nil {
		t.Fatal(err)
	}
	r.exec(`set role authenticated; select pg_notify('realtime', '` + fmt.Sprintf("m %s %d 01234567-89ab-cdef-0123-456789abcdef", xid, seq) + `'); reset role`)
	if _, err := tx.Exec(ctx, `delete from members where user_id = 'u1'; select realtime.send('{"secret": 1}', 'secret', 'a');`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	close(gate.out)
	u2.wait("the secret", broadcastOf("a", "secret"))
	u1.wait("the cut", isEvent("a", "phx_close"))
	if n := count(u1, broadcastOf("a", "secret")); n != 0 {
		t.Errorf("the revoked user received what was sent after the revocation (%d)", n)
	}
}

// Policies compare uuids as uuids. A token that spells one in capitals is the same user, and loses the same right.
func TestSubjectsAreComparedAsPoliciesDo(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(`create table m (user_id uuid, room text); grant select on m to authenticated;
		create policy receive on realtime.messages for select to authenticated using (exists (select from public.m
			where user_id = current_setting('request.jwt.claim.sub', true)::uuid and room = realtime.topic()));
		select realtime.watch('m', 'user_id', '{room}');
		insert into m values ('a11ce000-0000-4000-8000-000000000001', 'a')`)
	for _, spelling := range []string{"A11CE000-0000-4000-8000-000000000001", "{a11ce000-0000-4000-8000-000000000001}", "a11ce00000004000800000000000000A"[:31] + "1"} {
		c := r.dial(token(t, spelling, "authenticated", nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
		r.exec(`delete from m`)
		c.wait("the cut of "+spelling, isEvent("a", "phx_close"))
		r.exec(`insert into m values ('a11ce000-0000-4000-8000-000000000001', 'a')`)
	}
}

// Loss and regain of everybody's right at once, faster than anybody can ask: what lies between reaches nobody.
func TestTruncateAndReloadLetsNothingThrough(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	for range 20 {
		for _, statement := range []string{
			`truncate members`, `select realtime.send('{}', 'secret', 'a')`, `insert into members (user_id, room) values ('u1', 'a')`,
		} {
			r.exec(statement)
		}
	}
	r.exec(`select realtime.send('{}', 'end', 'a')`)
	c.wait("the end, or the cut", func(f frame) bool { return broadcastOf("a", "end")(f) || isEvent("a", "phx_close")(f) })
	if n := count(c, broadcastOf("a", "secret")); n != 0 {
		t.Errorf("%d messages were delivered that were sent while nobody had the right", n)
	}
}

func TestLiftedPayloadLimit(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxPayloadBytes = 0 })
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a');`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	r.exec(`select realtime.send('{}', 'after', 'a')`)
	c.wait("the message", broadcastOf("a", "after"))
}

// A push that came behind a join is answered, also when the join is refused.
func TestPushBehindRefusedJoin(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers)
	c := r.dial(token(t, "u1", "authenticated", nil))
	join := c.push("", "realtime:a", "phx_join", config(private()))
	ref := c.push(join, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "x", "payload": map[string]any{}})
	for _, ref := range []string{join, ref} {
		if status, response := c.reply(ref); status != "error" {
			t.Errorf("%s %s", status, response)
		}
	}
}
