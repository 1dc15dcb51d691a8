package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"rowcast/server/pgtest"
)

// What a join may hold, and what it is answered with.
func TestJoinsThatAreGood(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a'), ('u2', 'b')`)
	u1, u2 := token(t, "u1", "authenticated", nil), token(t, "u2", "authenticated", nil)
	const nothing = `{"postgres_changes":[]}`
	for _, version := range versions {
		for _, tt := range []struct{ name, topic, payload, response string }{
			{"the current client's", "open", `{"config":{"broadcast":{"ack":false,"self":false},"presence":{"key":"","enabled":false},"postgres_changes":[],"private":false}}`, nothing},
			{"nothing asked for", "open", `{"config":{}}`, nothing},
			{"no config, as of old", "open", `{}`, nothing},
			{"null everywhere", "open", `{"access_token":null,"config":{"broadcast":null,"presence":null,"postgres_changes":null}}`, nothing},
			{"truth as text", "a", `{"config":{"private":"TRUE","broadcast":{"self":"true","ack":"False"}}}`, nothing},
			{"untruth as text", "elsewhere", `{"config":{"private":"fAlse"}}`, nothing},
			{"unknown keys", "open", `{"version":"realtime-js/2.0.0","user":1,"config":{"more":[],"broadcast":{"more":1},"presence":{"more":{}}}}`, nothing},
			{"null among the changes", "open", `{"config":{"postgres_changes":[null]}}`, nothing},
			{"a token of its own", "b", `{"config":{"private":true},"access_token":` + quoted(t, u2) + `}`, nothing},
			{"its old name comes first", "b", `{"config":{"private":true},"access_token":` + quoted(t, u1) + `,"user_token":` + quoted(t, u2) + `}`, nothing},
			{"a key, which is no token", "a", `{"config":{"private":true},"access_token":"sb_publishable_x"}`, nothing},
		} {
			c := r.dialVersion(version, u1)
			var payload json.RawMessage = []byte(tt.payload)
			status, response := c.reply(c.push("", "realtime:"+tt.topic, "phx_join", payload))
			if status != "ok" || string(response) != tt.response {
				t.Errorf("%s, %s: %s %s", version, tt.name, status, response)
			}
			beat := c.push("", "phoenix", "heartbeat", map[string]any{})
			c.reply(beat)
			if n := len(c.all()); n != 2 {
				t.Errorf("%s, %s: heard more than the reply: %s", version, tt.name, c.said())
			}
		}
	}
}

// What a join is refused for, to the letter, and that nothing else is said.
func TestJoinsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxChannelsPerSocket = 1 })
	r.exec(allowMembers + `create policy raises on realtime.messages for select to authenticated using (realtime.topic() = 'raises' and 1 / (select 0) = 1)`)
	hs256 := `{"alg":"HS256"}`
	const denied = "Unauthorized: You do not have permissions to read from this Channel topic: "
	for _, version := range versions {
		for _, tt := range []struct{ name, topic, payload, reason string }{
			{"no name", "", `{"config":{}}`, "TopicNameRequired: You must provide a topic name"},
			{"no policy lets it", "room:9", `{"config":{"private":true}}`, denied + "room:9"},
			{"a policy raises", "raises", `{"config":{"private":true,"presence":{"enabled":true}}}`, denied + "raises"},
			{"replay in public", "open", `{"config":{"broadcast":{"replay":{"since":1}}}}`, "UnableToReplayMessages: Replay is not allowed for public channels"},
			{"null replay in public", "open", `{"config":{"broadcast":{"replay":null}}}`, "UnableToReplayMessages: Replay is not allowed for public channels"},
			{"no token", "open", `{"config":{},"access_token":"x"}`, "MalformedJWT: The token provided is not a valid JWT"},
			{"an empty token", "open", `{"config":{},"access_token":""}`, "MalformedJWT: The token provided is not a valid JWT"},
			{"a token without claims", "open", `{"config":{},"access_token":` + quoted(t, signed(hs256, `{}`)) + `}`, "InvalidJWTToken: Fields `role` and `exp` are required in JWT"},
			{"a token of another", "open", `{"config":{},"access_token":` + quoted(t, claiming("")+"x") + `}`, "JwtSignatureError: Failed to validate JWT signature"},
			// Supabase Realtime takes the defaults instead, and so would open this channel to the public.
			{"not quite true", "open", `{"config":{"private":"yes"}}`, "InvalidJoinPayload: config.private: expected true or false"},
			{"neither true nor false", "open", `{"config":{"private":null}}`, "InvalidJoinPayload: config.private: expected true or false"},
			{"a list", "open", `{"config":[]}`, "InvalidJoinPayload: config: expected an object"},
			{"a number", "open", `{"config":{"broadcast":{"ack":1}}}`, "InvalidJoinPayload: config.broadcast.ack: expected true or false"},
		} {
			c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
			var payload json.RawMessage = []byte(tt.payload)
			status, response := c.reply(c.push("", "realtime:"+tt.topic, "phx_join", payload))
			want, _ := json.Marshal(map[string]string{"reason": tt.reason})
			if status != "error" || fmt.Sprint(unquoted(response)) != fmt.Sprint(unquoted(want)) {
				t.Errorf("%s, %s: %s %s, want %s", version, tt.name, status, response, tt.reason)
			}
			c.reply(c.push("", "phoenix", "heartbeat", map[string]any{}))
			if n := len(c.all()); n != 2 {
				t.Errorf("%s, %s: heard more than the reply: %s", version, tt.name, c.said())
			}
			if _, status, reason := c.join("open", nil); status != "ok" {
				t.Errorf("%s, %s: it counts as a channel: %s", version, tt.name, reason)
			}
		}
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		c.join("one", nil)
		if _, _, reason := c.join("two", nil); reason != "ChannelRateLimitReached: Too many channels" {
			t.Errorf("%s: %s", version, reason)
		}
	}
}

// unquoted is what a text in JSON says.
func unquoted(text json.RawMessage) (value any) {
	_ = json.Unmarshal(text, &value)
	return value
}

// A failing join holds up nothing else on its socket.
func TestFailingJoinHoldsUpNothing(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a');
		create policy slow on realtime.messages for select to authenticated using (realtime.topic() = 'slow' and (select pg_sleep(10)) is null)`)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		slow := c.push("", "realtime:slow", "phx_join", config(private()))
		open, status, reason := c.join("open", map[string]any{"broadcast": map[string]any{"ack": true}})
		if status != "ok" {
			t.Fatal(reason)
		}
		for _, ref := range []string{c.push("", "phoenix", "heartbeat", map[string]any{}), c.broadcast(open, "open")} {
			if status, response := c.reply(ref); status != "ok" {
				t.Errorf("%s: %s", version, response)
			}
		}
		if count(c, isEvent("slow", "phx_reply")) != 0 {
			t.Errorf("%s: the slow join came first: %s", version, c.said())
		}
		if status, _ := c.reply(slow); status != "error" {
			t.Errorf("%s: the slow join was let in", version)
		}
	}
}

// Very many topics whose policies are slow are refused in time, all of them, and hold up nobody else for long.
func TestManySlowJoinsAreAnswered(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a');
		create policy slow on realtime.messages for select to authenticated using (realtime.topic() like 'slow%' and (select pg_sleep(10)) is null)`)
	c, other := r.dial(token(t, "u2", "authenticated", nil)), r.dial(token(t, "u1", "authenticated", nil))
	refs := make([]string, 99)
	for i := range refs {
		refs[i] = c.push("", fmt.Sprint("realtime:slow", i), "phx_join", config(private()))
	}
	neighbour := other.push("", "realtime:a", "phx_join", config(private()))
	late := time.After(answerTime)
	if reason := other.refusal(neighbour); reason != "" && !strings.HasPrefix(reason, "UnableToConnectToProject: ") {
		t.Error(reason)
	}
	for _, ref := range refs {
		if status, _ := c.reply(ref); status != "error" {
			t.Error("a slow join was let in")
		}
	}
	select {
	case <-late:
		t.Errorf("it took longer than %s", answerTime)
	default:
	}
	if _, status, reason := other.join("a", private()); status != "ok" { // as a client that tries again
		t.Error(reason)
	}
}

// Where only private channels are wanted, private ones go on.
func TestPrivateOnlyInBothVersions(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.PrivateOnly = true })
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		if _, _, reason := c.join("a", nil); reason != "PrivateOnly: This project only allows private channels" {
			t.Errorf("%s: public join: %s", version, reason)
		}
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Errorf("%s: private join: %s", version, reason)
		}
	}
}
