package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// cut checks that a client was told why, on each of its channels, and that its socket was closed for it.
func (c *client) cut(reason string, topics ...string) {
	c.t.Helper()
	if code := c.closed(); code != websocket.StatusPolicyViolation {
		c.t.Errorf("closed with %d", code)
	}
	for _, topic := range topics {
		told := c.told(topic)
		if told != reason {
			c.t.Errorf("%s: told %q, want %q", topic, told, reason)
		}
		if count(c, isEvent(topic, "phx_close")) != 1 {
			c.t.Errorf("%s: not closed for good: %s", topic, c.said())
		}
	}
}

// lives checks that a client hears what is sent now, and was told of no end.
func (r *running) lives(c *client, room string, public bool) {
	r.t.Helper()
	event := fmt.Sprintf("still %d", len(c.all()))
	r.exec(`select realtime.send('{}', $1, $2, $3)`, event, room, !public)
	c.wait(event, broadcastOf(room, event))
	if count(c, isEvent(room, "phx_close"))+count(c, isEvent(room, "system")) > 0 {
		r.t.Errorf("told of something: %s", c.said())
	}
}

const (
	plainUUID  = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	otherUUID  = "0A1B2C3D4E5F60718293A4B5C6D7E8F9"
	spelledOdd = "{0a1B2c3d-4e5f-6071-8293-a4b5c6d7e8f9}"
)

// A COMMIT closes all sockets of a user, whatever they are for, and nobody else's.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a'), ('u2', 'a'), ($$` + plainUUID + `$$, 'a')`)
	dial := func(user string, rooms ...string) *client {
		t.Helper()
		c := r.dial(token(t, user, "authenticated", nil))
		for _, room := range rooms {
			config := private()
			if room == "open" {
				config = nil
			}
			if _, status, reason := c.join(room, config); status != "ok" {
				t.Fatalf("%s joins %s: %s", user, room, reason)
			}
		}
		return c
	}
	both, public, bare, other := dial("u1", "a", "open"), dial("u1", "open"), dial("u1"), dial("u2", "a", "open")

	// Whose channel's token names another user is both.
	guest := dial("u2")
	ref := guest.push("", "realtime:open", "phx_join", map[string]any{"access_token": token(t, "u1", "authenticated", nil)})
	if status, response := guest.reply(ref); status != "ok" {
		t.Fatalf("joined with another's token: %s", response)
	}
	// A new token makes a channel another user's.
	acked := map[string]any{"broadcast": map[string]any{"ack": true}}
	turned := dial("u2")
	turnedRef, _, _ := turned.join("open", acked)
	turned.push(turnedRef, "realtime:open", "access_token", map[string]any{"access_token": token(t, "u1", "authenticated", nil)})
	returned := dial("u2")
	returnedRef, _, _ := returned.join("open", acked)
	for _, user := range []string{"u1", "u2"} {
		returned.push(returnedRef, "realtime:open", "access_token", map[string]any{"access_token": token(t, user, "authenticated", nil)})
	}
	for c, joinRef := range map[*client]string{turned: turnedRef, returned: returnedRef} { // the tokens have been taken when what follows is answered
		c.reply(c.push(joinRef, "realtime:open", "phx_error", nil))
	}

	r.exec(`begin; select realtime.disconnect('u1'); rollback`)
	r.exec(`begin; savepoint s; select realtime.disconnect('u1'); rollback to s; select realtime.send('{}', 'before', 'a'), realtime.send('{}', 'before', 'open', false); commit`)
	for _, c := range []*client{both, other} {
		c.wait("what was sent before", broadcastOf("a", "before"))
		c.wait("what was sent before", broadcastOf("open", "before"))
	}

	r.exec(`begin; select realtime.disconnect('u1', 'your account was closed'); select realtime.send('{}', 'after', 'a'), realtime.send('{}', 'after', 'open', false); commit`)
	reason := protocol.Disconnected.Because("You were disconnected: your account was closed")
	both.cut(reason, "a", "open")
	public.cut(reason, "open")
	bare.cut(reason)
	guest.cut(reason, "open")
	turned.cut(reason, "open")
	other.wait("what was sent after", broadcastOf("a", "after"))
	other.wait("what was sent after", broadcastOf("open", "after"))
	for _, c := range []*client{both, public, guest, turned} {
		for _, topic := range []string{"a", "open"} {
			if count(c, broadcastOf(topic, "after")) > 0 {
				t.Errorf("given what was sent after the disconnect: %s", c.said())
			}
		}
	}
	returned.wait("what was sent after", broadcastOf("open", "after"))
	r.lives(other, "a", false)
	if n := metricstest.Value(t, r.metrics, "realtime_sockets_closed_total", "disconnected"); n != 5 {
		t.Errorf("%v sockets counted", n)
	}
	if n := metricstest.Value(t, r.metrics, "realtime_channels_closed_total", "Disconnected"); n != 5 {
		t.Errorf("%v channels counted", n)
	}

	// Nobody is kept from coming back, and who is back is not concerned.
	again := dial("u1", "a")
	r.lives(again, "a", false)

	// A uuid is the same in every spelling.
	for _, spelling := range []string{plainUUID, otherUUID, spelledOdd} {
		c := dial(plainUUID, "a")
		r.exec(`select realtime.disconnect($1)`, spelling)
		c.cut(protocol.Disconnected.Reason(), "a")
	}
	r.lives(again, "a", false)
}

// A join that is being decided is answered, and no session of that time comes out of it.
func TestDisconnectWhileJoining(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	release := r.lock("members")
	ref := c.push("", "realtime:a", "phx_join", map[string]any{"config": private()})
	r.await("the join to be in the hub", func() bool { return metricstest.Value(t, r.metrics, "realtime_channels", "private") == 1 })
	r.exec(`select realtime.disconnect('u1')`)
	if reason := c.refusal(ref); reason != protocol.Disconnected.Reason() {
		t.Errorf("answered %q", reason)
	}
	c.cut("")
	release()
	r.await("nothing to be left", func() bool { return metricstest.Value(t, r.metrics, "realtime_channels", "private") == 0 })
}

// disconnectHint is the notification of the last disconnect.
func (r *running) disconnectHint() string {
	r.t.Helper()
	return scalar[string](r.t, r.db, `select 'd ' || xid || ' ' || token from realtime._disconnects order by inserted_at desc limit 1`)
}

// Anyone can NOTIFY. Nobody is disconnected by that, not even by what was true once.
func TestForgedDisconnects(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	join := func() *client {
		t.Helper()
		c := r.dial(token(t, "u1", "authenticated", nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
		return c
	}
	first := join()
	r.exec(`select realtime.disconnect('u1')`)
	first.cut(protocol.Disconnected.Reason(), "a")
	second := join()
	hint := r.disconnectHint()
	_, named, _ := strings.Cut(hint, " ")
	xid, tok, _ := strings.Cut(named, " ")
	forged := []string{
		hint,              // repeated
		"d 999999 " + tok, // with another transaction, which has not been seen yet
		"d " + xid + " " + strings.Repeat("0", 8) + tok[8:], // with another token
		"d 999999 01234567-89ab-cdef-0123-456789abcdef",
		"d u1", "d", `d {"s":"u1"}`,
	}
	for range 300 {
		for _, f := range forged {
			r.exec(`set role authenticated; select pg_notify('realtime', '` + f + `'); reset role`)
		}
	}
	r.lives(second, "a", false)
	for _, reason := range []string{"repeated", "unknown_disconnect"} {
		if metricstest.Value(t, r.metrics, "realtime_feed_ignored_total", reason) == 0 {
			t.Errorf("none was found to be %s", reason)
		}
	}
	// None of them keeps a true one from being done.
	r.exec(`select realtime.disconnect('u1', 'once more')`)
	second.cut(protocol.Disconnected.Because("You were disconnected: once more"), "a")
}

// What was said while the server was deaf is done when it hears again, and not done twice.
func TestDisconnectInAnOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(allowMembers + `insert into members values ('u1', 'a'), ('u2', 'a')`)
	join := func(user, room string, config map[string]any) *client {
		t.Helper()
		c := o.dial(token(t, user, "authenticated", nil))
		if _, status, reason := c.join(room, config); status != "ok" {
			t.Fatal(reason)
		}
		return c
	}
	stays := join("u2", "a", private())
	for range 3 {
		gone := join("u1", "a", private())
		o.exec(`select realtime.disconnect('u1')`)
		gone.cut(protocol.Disconnected.Reason(), "a")
		back, public := join("u1", "a", private()), join("u1", "open", nil)
		o.begin()
		o.exec(`begin; select realtime.disconnect('u1'); rollback`)
		o.exec(sends(1))
		o.end()
		o.lives(back, "a", false) // what was heard before the outage is not done again
		o.lives(public, "open", true)
		o.begin()
		o.exec(`begin; select realtime.disconnect('u1', 'away'); ` + sends(7) + ` commit`)
		o.end()
		reason := protocol.Disconnected.Because("You were disconnected: away")
		back.cut(reason, "a")
		public.cut(reason, "open")
		if slices.Contains(numbers(back, "a", "sql"), 7) {
			t.Error("given what was committed with the disconnect")
		}
	}
	o.lives(stays, "a", false)
	if n := metricstest.Value(t, o.metrics, "realtime_feed_caught_up_total", "disconnect"); n != 3 {
		t.Errorf("%v disconnects caught up, want 3", n)
	}
}

// What waits for a slow reader does not leave any more, and it is told why its socket is closed.
func TestDisconnectDropsTheBacklog(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('slow', 'a'), ('quick', 'a')`)
	slow, quick := r.dialHalting(t, token(t, "slow", "authenticated", nil)), r.dial(token(t, "quick", "authenticated", nil))
	if _, status, reason := quick.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	slow.write(`["1","1","realtime:a","phx_join",{"config":{"private":true}}]`)
	if f := slow.next(); f.Event != "phx_reply" {
		t.Fatalf("%+v", f)
	}
	const messages = 300 // of which the kernel holds a part
	r.exec(`select realtime.send(jsonb_build_object('n', n, 'padding', repeat('x', 3000)), 'm', 'a') from generate_series(1, $1) as n`, messages)
	r.exec(`select realtime.send('{}', 'last', 'a')`)
	quick.wait("the last message", broadcastOf("a", "last"))
	r.exec(`select realtime.disconnect('slow', 'enough')`)
	r.await("the cut", func() bool { return counter(t, r, "realtime_channels_closed_total") == 1 })
	given, ends := 0, ""
	for {
		kind, data, err := slow.conn.Read(t.Context())
		if err != nil {
			if code := websocket.CloseStatus(err); code != websocket.StatusPolicyViolation {
				t.Errorf("closed with %v", err)
			}
			break
		}
		switch f, err := parseFrame("2.0.0", kind == websocket.MessageBinary, data); {
		case err != nil:
			t.Fatal(err)
		case f.Event == "broadcast":
			given++
		default:
			ends += f.Event + messageOf(f) + " "
		}
	}
	if given >= messages {
		t.Errorf("%d messages arrived: nothing was dropped", given)
	}
	if want := "systemDisconnected: You were disconnected: enough phx_close "; ends != want {
		t.Errorf("at last: %q", ends)
	}
}
