package main

import (
	"io"
	"testing"

	"rowcast/server/pgtest"
)

// What is beyond a limit is refused to who exceeds it. Nobody is closed, the receivers least of all.
func TestLimitsInBothVersions(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxJoinsPerSecond, c.MaxEventsPerSecond, c.MaxConnections = 2, 1, 2 })
	for _, version := range versions {
		sender, member := r.dialVersion(version, token(t, "u1", "anon", nil)), r.dialVersion(version, token(t, "u2", "anon", nil))
		if got := r.upgradeWith("vsn="+version+"&apikey="+token(t, "u3", "anon", nil), ""); got.StatusCode != 429 {
			t.Errorf("%s: third socket of two: %s", version, got.Status)
		} else if body, _ := io.ReadAll(got.Body); string(body) != `{"error":"Too many connected users"}` {
			t.Errorf("%s: third socket of two is told %s", version, body)
		}
		member.join("open", nil)
		joinRef := sender.push("", "realtime:open", "phx_join", config(map[string]any{"broadcast": map[string]any{"ack": true}}))
		more, evenMore := sender.push("", "realtime:more", "phx_join", config(nil)), sender.push("", "realtime:evenmore", "phx_join", config(nil))
		if status, response := sender.reply(more); status != "ok" {
			t.Errorf("%s: another channel of the same socket: %s", version, response)
		}
		if reason := sender.refusal(evenMore); reason != "ClientJoinRateLimitReached: Too many joins per second" {
			t.Errorf("%s: third join: %s", version, reason)
		}
		first, second := sender.broadcast(joinRef, "open"), sender.broadcast(joinRef, "open")
		if status, response := sender.reply(first); status != "ok" {
			t.Errorf("%s: %s", version, response)
		}
		if status, response := sender.reply(second); status != "error" || reasonOf(response) != "MessagePerSecondRateLimitReached: Too many messages per second" {
			t.Errorf("%s: %s %s", version, status, response)
		}
		member.wait("the first", broadcastOf("open", "e"))
		for _, c := range []*client{sender, member} {
			if status, _ := c.reply(c.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" || count(c, isEvent("open", "phx_close")) != 0 {
				t.Errorf("%s: %s", version, c.said())
			}
			c.conn.CloseNow()
		}
		r.await("both to be gone", func() bool { return r.sockets.Count() == 0 })
	}
}
