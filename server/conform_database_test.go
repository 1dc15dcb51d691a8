package main

import (
	"testing"

	"rowcast/server/pgtest"
)

// Asking the policies leaves nothing in the table, and nobody hears of it.
func TestDecisionsLeaveNothing(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	spy := r.dial(token(t, "u2", "anon", nil))
	spy.join("a", nil)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		joinRef, status, reason := c.join("a", map[string]any{"private": true, "broadcast": map[string]any{"ack": true}, "presence": map[string]any{"enabled": true}})
		if status != "ok" {
			t.Fatal(reason)
		}
		c.join("elsewhere", private())
		c.reply(c.broadcast(joinRef, "a"))
		c.reply(c.push(joinRef, "realtime:a", "presence", map[string]any{"type": "presence", "event": "track", "payload": map[string]any{}}))
	}
	if rows := scalar[int](t, r.db, `select (select count(*) from realtime.messages) + (select count(*) from realtime._journal)`); rows != 0 {
		t.Errorf("%d rows were left", rows)
	}
	r.exec(`select realtime.send('{}', 'end', 'a', false)`)
	spy.wait("the end", broadcastOf("a", "end"))
	if n := count(spy, isEvent("a", "broadcast")); n != 1 {
		t.Errorf("the public room heard %s", spy.said())
	}
}

// A row holds JSON or bytes.
func TestRowWithTwoPayloadsIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), `insert into realtime.messages (topic, extension, event, payload, binary_payload) values ('a', 'broadcast', 'e', '{}', '\x00')`); err == nil {
		t.Error("a row with two payloads was taken")
	}
	if _, err := db.Admin.Exec(t.Context(), `insert into realtime.messages (topic, extension, event, payload) values ('a', 'broadcast', 'e', '{}')`); err != nil {
		t.Error(err)
	}
}
