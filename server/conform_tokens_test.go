package main

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"rowcast/server/pgtest"
)

// What a new token on an open channel does, and what one that is refused is told.
func TestNewTokenOnAChannel(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room, muted) values ('u1', 'a', false), ('mute', 'a', true)`)
	hs256 := `{"alg":"HS256"}`
	const denied = "You do not have permissions to read from this Channel topic: a"
	of := func(user string) string { return token(t, user, "authenticated", map[string]any{"n": 1}) }
	for _, version := range versions {
		for _, tt := range []struct {
			name      string
			isPrivate bool
			payload   any
			ends      string // what is said before phx_close; empty: the channel goes on
			sends     bool   // and whether it may send then
		}{
			{"the same", true, map[string]any{"access_token": token(t, "u1", "authenticated", nil)}, "", true},
			{"a fresh one", true, map[string]any{"access_token": of("u1")}, "", true},
			{"a fresh one, in public", false, map[string]any{"access_token": of("stranger")}, "", true},
			{"null", true, map[string]any{"access_token": nil}, "", true},
			{"a key", true, map[string]any{"access_token": "sb_publishable_x"}, "", true},
			{"nothing", true, map[string]any{}, "", true},
			{"of somebody who may only listen", true, map[string]any{"access_token": of("mute")}, "", false},
			{"of a stranger", true, map[string]any{"access_token": of("stranger")}, denied, false},
			{"empty", true, map[string]any{"access_token": ""}, "The token provided is not a valid JWT", false},
			{"malformed, in public", false, map[string]any{"access_token": "none"}, "The token provided is not a valid JWT", false},
			{"expired", true, map[string]any{"access_token": signed(hs256, `{"role":"authenticated","exp":1}`)}, `Token has expired \d+ seconds ago`, false},
			{"without claims", true, map[string]any{"access_token": signed(hs256, `{}`)}, "Fields `role` and `exp` are required in JWT", false},
			{"of another signer", true, map[string]any{"access_token": claiming("") + "x"}, "Failed to validate JWT signature", false},
		} {
			c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
			joinRef, status, reason := c.join("a", map[string]any{"private": tt.isPrivate, "broadcast": map[string]any{"ack": true}})
			if status != "ok" {
				t.Fatal(reason)
			}
			other, _, _ := c.join("open", map[string]any{"broadcast": map[string]any{"ack": true}})
			c.push(joinRef, "realtime:a", "access_token", tt.payload)
			if tt.ends == "" {
				if status, response := c.reply(c.broadcast(joinRef, "a")); (status == "ok") != tt.sends {
					t.Errorf("%s, %s: %s %s", version, tt.name, status, response)
				}
				if n := len(c.all()); n != 3 {
					t.Errorf("%s, %s: heard more than three replies: %s", version, tt.name, c.said())
				}
				continue
			}
			said, closed := c.wait("the reason", isEvent("a", "system")), c.wait("the end", isEvent("a", "phx_close"))
			if !regexp.MustCompile("^"+tt.ends+"$").MatchString(messageOf(said)) || said.receivedAfter > closed.receivedAfter || text(closed.Ref) != joinRef {
				t.Errorf("%s, %s: %s", version, tt.name, c.said())
			}
			if status, response := c.reply(c.broadcast(other, "open")); status != "ok" {
				t.Errorf("%s, %s: another channel of the socket: %s", version, tt.name, response)
			}
		}
	}
}

// A token's end is the channel's, whatever keys came meanwhile; the socket and its other channels live on, and the channel
// can be joined with a fresh token.
func TestChannelEndsWithItsToken(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", map[string]any{"exp": time.Now().Unix() + 2}))
		fresh := token(t, "u1", "authenticated", nil)
		joinRef, status, reason := c.join("a", private())
		if status != "ok" {
			t.Fatal(reason)
		}
		open := c.push("", "realtime:open", "phx_join", map[string]any{"config": map[string]any{"broadcast": map[string]any{"ack": true}}, "access_token": fresh})
		c.reply(open)
		c.push(joinRef, "realtime:a", "access_token", map[string]any{"access_token": "sb_publishable_x"})
		if said := c.told("a"); !regexp.MustCompile(`^Token has expired \d+ seconds ago$`).MatchString(said) {
			t.Errorf("%s: told %q", version, said)
		}
		c.wait("the end", isEvent("a", "phx_close"))
		if status, response := c.reply(c.broadcast(open, "open")); status != "ok" {
			t.Errorf("%s: the channel with another token: %s", version, response)
		}
		if _, status, reason := c.join("a", private()); status != "error" || !regexp.MustCompile(`^InvalidJWTToken: Token has expired \d+ seconds ago$`).MatchString(reason) {
			t.Errorf("%s: joined with the socket's token: %s %s", version, status, reason)
		}
		again := c.push("", "realtime:a", "phx_join", map[string]any{"config": private(), "access_token": fresh})
		if status, response := c.reply(again); status != "ok" {
			t.Errorf("%s: joined with a fresh token: %s", version, response)
		}
	}
}

// Tokens with an end between two seconds are good until then.
func TestDecimalTimesInTokens(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	for _, version := range versions {
		c := r.dialVersion(version, signed(`{"alg":"HS256"}`, fmt.Sprintf(`{"role":"anon","exp":%d.5,"iat":%d.25}`, time.Now().Unix()+1000, time.Now().Unix())))
		if _, status, reason := c.join("open", nil); status != "ok" {
			t.Errorf("%s: %s", version, reason)
		}
	}
}

// What is beyond a limit is refused to who exceeds it. Nobody is closed, the receivers least of all.
func TestLimitsInBothVersions(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxJoinsPerSecond, c.MaxEventsPerSecond, c.MaxConnections = 2, 1, 2 })
	for _, version := range versions {
		sender, member := r.dialVersion(version, token(t, "u1", "anon", nil)), r.dialVersion(version, token(t, "u2", "anon", nil))
		if got := r.handshake("vsn="+version+"&apikey="+token(t, "u3", "anon", nil), ""); got.StatusCode != 429 {
			t.Errorf("%s: third socket of two: %s", version, got.Status)
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
		if status, response := sender.reply(second); status != "error" || reasonOf(response) != "SendRateLimitReached: Too many messages per second" {
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
