package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// What refs stand on frames of the server, by which clients know whether a frame is for the channel that they have now. In
// version 1.0.0 there is no join_ref.
func TestRefsOfEveryFrame(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a-1.0.0'), ('u1', 'a-2.0.0')`)
	for _, version := range versions {
		topic := "a-" + version
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		is := func(what string, f frame, joinRef, ref string) {
			t.Helper()
			if version == "1.0.0" {
				joinRef = ""
			}
			if text(f.JoinRef) != joinRef || text(f.Ref) != ref {
				t.Errorf("%s, %s: join_ref %q, ref %q, want %q and %q", version, what, text(f.JoinRef), text(f.Ref), joinRef, ref)
			}
		}
		replyTo := func(ref string) frame {
			return c.wait("the reply to "+ref, func(f frame) bool { return f.Event == "phx_reply" && text(f.Ref) == ref })
		}

		c.push("", "phoenix", "heartbeat", map[string]any{}) // so that join refs are not the first
		join, status, reason := c.join(topic, map[string]any{"private": true, "broadcast": map[string]any{"ack": true, "self": true, "replication_ready": true}})
		if status != "ok" {
			t.Fatal(reason)
		}
		is("join reply", replyTo(join), join, join)
		is("system message", c.wait("it", isEvent(topic, "system")), join, "")
		sent := c.broadcast(join, topic)
		is("push reply", replyTo(sent), join, sent)
		is("broadcast", c.wait("it", broadcastOf(topic, "e")), "", "")
		for _, stale := range []string{"0", ""} { // as old clients send it
			sent := c.broadcast(stale, topic)
			is("reply to a push of another join", replyTo(sent), join, sent)
		}
		r.exec(`select realtime.send('{}', 'row', $1)`, topic)
		is("broadcast from the database", c.wait("it", broadcastOf(topic, "row")), "", "")
		beat := c.push(join, "phoenix", "heartbeat", map[string]any{})
		is("heartbeat", replyTo(beat), "", beat)
		unmatched := c.broadcast(join, "elsewhere")
		is("unmatched", replyTo(unmatched), "", unmatched)

		again := c.push("", "realtime:"+topic, "phx_join", config(private()))
		is("second join", replyTo(again), again, again)
		is("end of the first", c.wait("it", isEvent(topic, "phx_close")), join, join)
		leave := c.push(again, "realtime:"+topic, "phx_leave", map[string]any{})
		is("leave reply", replyTo(leave), again, leave)
		is("end of the second", c.wait("it", func(f frame) bool { return isEvent(topic, "phx_close")(f) && text(f.Ref) == again }), again, again)
		away := c.push(again, "realtime:"+topic, "phx_leave", map[string]any{})
		if status, _ := c.reply(away); status != "ok" {
			t.Errorf("%s: leave of what is not joined: %s", version, status)
		}

		// A join may have no join_ref: then its ref is the channel's.
		if version == "1.0.0" {
			c.write(fmt.Sprintf(`{"ref":"bare","topic":"realtime:%s","event":"phx_join","payload":{"config":{}}}`, topic))
		} else {
			c.write(fmt.Sprintf(`[null,"bare","realtime:%s","phx_join",{"config":{"broadcast":{"ack":true}}}]`, topic))
		}
		is("join without a join_ref", replyTo("bare"), "bare", "bare")
		c.push("bare", "realtime:"+topic, "phx_leave", map[string]any{})
		is("end of the last", c.wait("it", func(f frame) bool { return isEvent(topic, "phx_close")(f) && text(f.Ref) == "bare" }), "bare", "bare")
	}
}

// text is a ref as it stands on the wire; empty: null.
func text(ref *string) string {
	if ref == nil {
		return ""
	}
	return *ref
}

// What follows a join comes in this order: the reply, the end of the channel whose place it took, what is replayed, and who
// is present. That the database is heard is said at any time after the reply, once. What is for this channel alone has its
// join_ref, what is the same for others has none.
func TestOrderAfterAJoin(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a');
		create policy sees on realtime.messages for select to authenticated using (extension = 'presence');
		create policy appears on realtime.messages for insert to authenticated with check (extension = 'presence')`)
	r.exec(`select realtime.send('{}', 'first', 'a'), realtime.send('{}', 'second', 'a')`)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		c.join("a", private())
		before := len(c.all())
		second := c.push("", "realtime:a", "phx_join", config(map[string]any{
			"private": true, "presence": map[string]any{"enabled": true},
			"broadcast": map[string]any{"replication_ready": true, "replay": map[string]any{"since": 0, "limit": 10}},
		}))
		if status, response := c.reply(second); status != "ok" {
			t.Fatalf("%s: %s", version, response)
		}
		c.wait("who is present", isEvent("a", "presence_state"))
		c.wait("the word about the database", isEvent("a", "system"))
		var order []string
		for _, f := range c.all()[before:] {
			if f.Event != "system" {
				order = append(order, f.Event)
			}
			own := map[string]string{"broadcast": second}[f.Event] // a presence_state is the same for all who are told then
			if (f.Event == "broadcast" || f.Event == "presence_state") && (f.Ref != nil || version == "2.0.0" && text(f.JoinRef) != own) {
				t.Errorf("%s: %s has join_ref %q and ref %q", version, f.Event, text(f.JoinRef), text(f.Ref))
			}
		}
		c.push(second, "realtime:a", "presence", map[string]any{"type": "presence", "event": "track", "payload": map[string]any{}})
		if f := c.wait("its own track", isEvent("a", "presence_diff")); f.Ref != nil || f.JoinRef != nil {
			t.Errorf("%s: presence_diff has join_ref %q and ref %q", version, text(f.JoinRef), text(f.Ref))
		}
		want := []string{"phx_reply", "phx_close", "broadcast", "broadcast", "presence_state"}
		if !slices.Equal(order, want) || count(c, isEvent("a", "system")) != 1 {
			t.Errorf("%s: %s, want %s", version, c.said(), strings.Join(want, " "))
		}
	}
}

// A join that takes another's place under the same name is told of no end: its client would take it for its own. A name that
// is empty stands for all of a topic; release 2.44.0 of the official client gives it when it joins again while it waits.
func TestSecondJoinUnderTheSameRef(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		join := func(ref string) {
			t.Helper()
			before := count(c, isEvent("a", "phx_reply"))
			if version == "1.0.0" {
				c.write(fmt.Sprintf(`{"join_ref":%[1]q,"ref":%[1]q,"topic":"realtime:a","event":"phx_join","payload":{"config":{"private":true}}}`, ref))
			} else {
				c.write(fmt.Sprintf(`[%[1]q,%[1]q,"realtime:a","phx_join",{"config":{"private":true}}]`, ref))
			}
			r.await("the reply", func() bool { return count(c, isEvent("a", "phx_reply")) > before })
		}
		ends := func(what string, want int) {
			t.Helper()
			if status, _ := c.reply(c.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" {
				t.Fatal("no heartbeat")
			}
			if n := count(c, isEvent("a", "phx_close")); n != want {
				t.Errorf("%s, %s: %d ends, want %d", version, what, n, want)
			}
		}
		join("x")
		join("x")
		ends("the same ref", 0)
		join("")
		ends("another", 1)
		join("")
		ends("none twice", 1)
		join("y")
		ends("none before", 1)
		r.exec(`select realtime.send('{}', 'e', 'a')`)
		c.wait("what follows", broadcastOf("a", "e"))
	}
}
