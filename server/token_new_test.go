package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/pgtest"
)

// What a new token (the event access_token) does to a channel, and what the token of a join is.

// tokenFor is a token of authenticated that is good for so long.
func tokenFor(t testing.TB, subject string, ttl time.Duration) string {
	t.Helper()
	signed, err := auth.Mint([]byte(testSecret), auth.MintOptions{Subject: subject, Role: "authenticated", TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// inEveryVersion runs a test in both wire versions, on one server with the members u1, u2 and mute of room a.
func inEveryVersion(t *testing.T, test func(t *testing.T, r *running, version string)) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxJoinsPerSecond = 0 })
	r.exec(allowMembers + `insert into members (user_id, room, muted) values ('u1', 'a', false), ('u2', 'a', false), ('mute', 'a', true)`)
	var all sync.WaitGroup
	for _, version := range versions { // not with t.Parallel: the server would wait for other tests
		all.Go(func() { t.Run(version, func(t *testing.T) { test(t, r, version) }) })
	}
	all.Wait()
}

// on is a client with a token that has joined a channel.
func (r *running) on(t *testing.T, version, token, topic string, config map[string]any) (c *client, joinRef string) {
	t.Helper()
	c = dialVersion(t, r.public.Addr().String(), version, token)
	joinRef, status, reason := c.join(topic, config)
	if status != "ok" {
		t.Fatalf("join: %s", reason)
	}
	return c, joinRef
}

// renew sends a new token; value may be anything.
func (c *client) renew(joinRef, topic string, value any) {
	c.push(joinRef, "realtime:"+topic, "access_token", map[string]any{"access_token": value})
}

// sends tells whether a broadcast on the channel is acknowledged.
func (c *client) sends(joinRef, topic string) (ok bool, response string) {
	c.t.Helper()
	status, raw := c.reply(c.push(joinRef, "realtime:"+topic, "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}))
	return status == "ok", string(raw)
}

// closes waits for the end of a channel: a system message with exactly this text, and phx_close right behind it.
func (c *client) closes(topic, text string) {
	c.t.Helper()
	closed := c.wait("phx_close", isEvent(topic, "phx_close"))
	var last frame
	for _, f := range c.all()[:closed.receivedAfter] {
		if f.Topic == "realtime:"+topic {
			last = f
		}
	}
	var said struct{ Extension, Status, Message, Channel string }
	if err := json.Unmarshal(last.Payload, &said); err != nil || last.Event != "system" {
		c.t.Fatalf("before phx_close: %s %s", last.Event, last.Payload)
	}
	want := struct{ Extension, Status, Message, Channel string }{"system", "error", text, topic}
	if got := withoutNumbers(said.Message); got == withoutNumbers(text) {
		said.Message = text // the number of seconds
	}
	if said != want {
		c.t.Errorf("told %+v, want %+v", said, want)
	}
}

var openConfig = map[string]any{"broadcast": map[string]any{"ack": true}}

// A new token that is refused ends its channel with the reason, public or private, and nothing else on the socket.
func TestRefusedNewTokenEndsItsChannel(t *testing.T) {
	inEveryVersion(t, func(t *testing.T, r *running, version string) {
		good := tokenFor(t, "u1", time.Hour)
		const malformed = "The token provided is not a valid JWT"
		const missing = "Fields `role` and `exp` are required in JWT"
		for name, tt := range map[string]struct{ token, want string }{
			"empty":              {"", malformed},
			"malformed":          {"abc", malformed},
			"not for here":       {"a.b.c", malformed},
			"expired":            {tokenFor(t, "u1", -time.Minute), "Token has expired 60 seconds ago"},
			"no role":            {signed(`{"alg":"HS256"}`, `{"exp":4000000000}`), missing},
			"no exp":             {signed(`{"alg":"HS256"}`, `{"role":"authenticated"}`), missing},
			"bad signature":      {good[:len(good)-4] + "AAAA", "Failed to validate JWT signature"},
			"no key for its alg": {signed(`{"alg":"ES256","kid":"k"}`, `{}`), "Failed to generate JWT signer, check your JWT secret or JWKS configuration"},
			"role not allowed":   {token(t, "u1", "postgres", nil), "The role `postgres` is not allowed to use this server"},
		} {
			for topic, config := range map[string]map[string]any{"a": private(), "open": openConfig} {
				c, joinRef := r.on(t, version, good, topic, config)
				other, status, _ := c.join("other", openConfig)
				if status != "ok" {
					t.Fatal("not joined beside")
				}
				c.renew(joinRef, topic, tt.token)
				c.closes(topic, tt.want)
				if ok, response := c.sends(other, "other"); !ok {
					t.Errorf("%s: the channel beside it: %s", name, response)
				}
				if ok, response := c.sends(joinRef, topic); ok || !strings.Contains(response, "unmatched topic") {
					t.Errorf("%s: the channel itself: %s", name, response)
				}
			}
		}
	})
}

// What is no new token is not answered and changes nothing: the old one goes on, and ends the channel at its time.
func TestWhatIsNoNewTokenIsIgnored(t *testing.T) {
	inEveryVersion(t, func(t *testing.T, r *running, version string) {
		for topic, config := range map[string]map[string]any{"a": private(), "open": openConfig} {
			old := tokenFor(t, "u1", 3*time.Second)
			expires := time.Now().Add(2 * time.Second) // at the earliest: exp is a whole second
			c, joinRef := r.on(t, version, old, topic, config)
			for _, value := range []any{old, nil, "sb_publishable_x", "sb_secret_x", "sb_"} {
				c.renew(joinRef, topic, value)
			}
			for _, payload := range []any{map[string]any{}, map[string]any{"token": "x"}} {
				c.push(joinRef, "realtime:"+topic, "access_token", payload)
			}
			if ok, response := c.sends(joinRef, topic); !ok {
				t.Errorf("%s: %s", topic, response)
			}
			if n := count(c, isEvent(topic, "system")) + count(c, isEvent(topic, "phx_close")) + count(c, isEvent(topic, "phx_reply")); n != 2 {
				t.Errorf("%s: told more than the answers to a join and a broadcast: %s", topic, c.said())
			}
			c.closes(topic, "Token has expired 0 seconds ago")
			if early := time.Until(expires); early > 0 {
				t.Errorf("%s: ended %s early", topic, early)
			}
			if _, status, reason := c.join(topic, config); status != "error" || !strings.HasPrefix(reason, "InvalidJWTToken: Token has expired ") {
				t.Errorf("%s: joined again with the token of the socket: %s %s", topic, status, reason)
			}
			if _, status, reason := c.joinWith(topic, "access_token", tokenFor(t, "u1", time.Hour), config); status != "ok" {
				t.Errorf("%s: joined again with another: %s", topic, reason)
			}
		}
	})
}

// joinWith joins with a token of its own.
func (c *client) joinWith(topic, key, token string, config map[string]any) (joinRef, status, reason string) {
	c.t.Helper()
	joinRef = c.push("", "realtime:"+topic, "phx_join", map[string]any{"config": config, key: token})
	status, response := c.reply(joinRef)
	return joinRef, status, reasonOf(response)
}

// On a private channel the policies are asked with the new token: what it may do more is there at once, what it may not
// is gone.
func TestNewTokenGivesAndTakes(t *testing.T) {
	inEveryVersion(t, func(t *testing.T, r *running, version string) {
		c, joinRef := r.on(t, version, tokenFor(t, "mute", time.Hour), "a", private())
		if ok, response := c.sends(joinRef, "a"); ok || !strings.Contains(response, "SendDenied") {
			t.Errorf("muted: %s", response)
		}
		c.renew(joinRef, "a", tokenFor(t, "u1", time.Hour))
		if ok, response := c.sends(joinRef, "a"); !ok {
			t.Errorf("as one who may send: %s", response)
		}
		c.renew(joinRef, "a", tokenFor(t, "mute", time.Hour))
		if ok, response := c.sends(joinRef, "a"); ok || !strings.Contains(response, "SendDenied") {
			t.Errorf("muted again: %s", response)
		}
		event := "still-" + version
		r.exec(`select realtime.send('{}', $1, 'a')`, event)
		c.wait("a message for one who may only read", broadcastOf("a", event))

		// Several in a row: the last counts.
		for _, subject := range []string{"u1", "mute", "u2", "mute", "u1"} {
			c.renew(joinRef, "a", tokenFor(t, subject, time.Hour))
		}
		if ok, response := c.sends(joinRef, "a"); !ok {
			t.Errorf("after five tokens, as the last: %s", response)
		}
		c.renew(joinRef, "a", tokenFor(t, "stranger", time.Hour))
		c.closes("a", "You do not have permissions to read from this Channel topic: a")
		if n := count(c, isEvent("a", "phx_close")); n != 1 {
			t.Errorf("closed %d times", n)
		}
	})
}

// A member who may only see who is there hears broadcasts as soon as a token allows it, without joining again.
func TestNewTokenBeginsDelivery(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a');
		create policy watch on realtime.messages for select to authenticated using (realtime.messages.extension = 'presence')`)
	r.exec(`alter policy receive on realtime.messages using (realtime.messages.extension = 'broadcast' and exists (select from public.members m
		where m.user_id = current_setting('request.jwt.claim.sub', true) and m.room = realtime.topic()))`)
	for _, version := range versions {
		config := map[string]any{"private": true, "presence": map[string]any{"enabled": true}, "broadcast": map[string]any{"ack": true}}
		c, joinRef := r.on(t, version, tokenFor(t, "watcher", time.Hour), "a", config)
		other, _ := r.on(t, version, tokenFor(t, "u1", time.Hour), "a", private())
		r.exec(`select realtime.send('{}', 'before', 'a')`)
		other.wait("a message before the new token", broadcastOf("a", "before"))
		if ok, _ := c.sends(joinRef, "a"); ok { // and its own socket has come to this point
			t.Error("sent without the right")
		}
		c.renew(joinRef, "a", tokenFor(t, "u1", time.Hour))
		if ok, response := c.sends(joinRef, "a"); !ok { // it waits for the decision about the new token
			t.Errorf("as u1: %s", response)
		}
		r.exec(`select realtime.send('{}', 'after', 'a')`)
		c.wait("a broadcast with the new token", broadcastOf("a", "after"))
		if n := count(c, broadcastOf("a", "before")); n != 0 {
			t.Errorf("%s: what was said before the new token was given", version)
		}
	}
}

// Public channels ask nobody: a valid token is taken in silence, whoever it is of; its expiry is the channel's from then on.
func TestNewTokenOnAPublicChannel(t *testing.T) {
	inEveryVersion(t, func(t *testing.T, r *running, version string) {
		short := tokenFor(t, "u1", 3*time.Second)
		c, longer := r.on(t, version, short, "longer", openConfig)
		shorter, status, reason := c.joinWith("shorter", "access_token", tokenFor(t, "u1", time.Hour), openConfig)
		if status != "ok" {
			t.Fatal(reason)
		}
		c.renew(longer, "longer", tokenFor(t, "stranger", time.Hour))
		c.renew(shorter, "shorter", tokenFor(t, "u2", 4*time.Second))
		for topic, joinRef := range map[string]string{"longer": longer, "shorter": shorter} {
			if ok, response := c.sends(joinRef, topic); !ok {
				t.Errorf("%s: %s", topic, response)
			}
		}
		c.closes("shorter", "Token has expired 0 seconds ago") // a second after the first token
		if ok, response := c.sends(longer, "longer"); !ok {
			t.Errorf("past the expiry of its first token: %s", response)
		}
		if n := count(c, isEvent("longer", "system")) + count(c, isEvent("longer", "phx_close")); n != 0 {
			t.Errorf("a public channel was told about a valid token: %s", c.said())
		}
	})
}

// The token of a join is access_token, or user_token, which wins; "sb_…" and null mean that of the socket.
func TestTokenOfAJoin(t *testing.T) {
	inEveryVersion(t, func(t *testing.T, r *running, version string) {
		good, stranger := tokenFor(t, "u1", time.Hour), tokenFor(t, "stranger", time.Hour)
		const denied = "Unauthorized: You do not have permissions to read from this Channel topic: a"
		for _, tt := range []struct {
			name, socket string
			payload      map[string]any
			want         string // empty: joined
		}{
			{"none", good, nil, ""},
			{"none, and that of the socket has no right", stranger, nil, denied},
			{"its own", stranger, map[string]any{"access_token": good}, ""},
			{"its own has no right", good, map[string]any{"access_token": stranger}, denied},
			{"user_token", stranger, map[string]any{"user_token": good}, ""},
			{"user_token and access_token", stranger, map[string]any{"user_token": good, "access_token": stranger}, ""},
			{"sb_publishable", good, map[string]any{"access_token": "sb_publishable_x"}, ""},
			{"sb_secret", stranger, map[string]any{"access_token": "sb_secret_x"}, denied},
			{"user_token sb_", good, map[string]any{"user_token": "sb_x"}, ""},
			{"null", good, map[string]any{"access_token": nil}, ""},
			{"empty", good, map[string]any{"access_token": ""}, "MalformedJWT: The token provided is not a valid JWT"},
		} {
			c := dialVersion(t, r.public.Addr().String(), version, tt.socket)
			payload := map[string]any{"config": private(), "version": "realtime-js/2.0.0"}
			for name, value := range tt.payload {
				payload[name] = value
			}
			if status, response := c.reply(c.push("", "realtime:a", "phx_join", payload)); reasonOf(response) != tt.want || (status == "ok") != (tt.want == "") {
				t.Errorf("%s: %s %s", tt.name, status, response)
			}
		}
	})
}

// Joining again with a token that is refused is answered, and the channel that there was is closed behind the answer.
func TestRejoinWithARefusedTokenClosesTheOldChannel(t *testing.T) {
	inEveryVersion(t, func(t *testing.T, r *running, version string) {
		good := tokenFor(t, "u1", time.Hour)
		for name, tt := range map[string]struct{ token, want string }{
			"expired":       {tokenFor(t, "u1", -time.Minute), "InvalidJWTToken: Token has expired 60 seconds ago"},
			"claimless":     {signed(`{"alg":"HS256"}`, `{}`), "InvalidJWTToken: Fields `role` and `exp` are required in JWT"},
			"malformed":     {"abc", "MalformedJWT: The token provided is not a valid JWT"},
			"empty":         {"", "MalformedJWT: The token provided is not a valid JWT"},
			"bad signature": {good[:len(good)-4] + "AAAA", "JwtSignatureError: Failed to validate JWT signature"},
		} {
			for topic, config := range map[string]map[string]any{"a": private(), "open": openConfig} {
				c, old := r.on(t, version, good, topic, config)
				again, status, reason := c.joinWith(topic, "access_token", tt.token, config)
				if status != "error" || withoutNumbers(reason) != withoutNumbers(tt.want) {
					t.Errorf("%s: %s %s", name, status, reason)
				}
				closed := c.wait("the old channel's end", isEvent(topic, "phx_close"))
				reply := c.wait("the reply", func(f frame) bool { return f.Event == "phx_reply" && *f.Ref == again })
				if closed.receivedAfter < reply.receivedAfter || *closed.Ref != old {
					t.Errorf("%s: phx_close of %s, the old one is %s", name, *closed.Ref, old)
				}
				if ok, response := c.sends(old, topic); ok || !strings.Contains(response, "unmatched topic") {
					t.Errorf("%s: the old channel sends: %s", name, response)
				}
			}
		}
	})
}

// While the database cannot decide about a new token nothing is refused and nothing is lost: what is said waits, in both
// directions, and goes on when it can.
func TestNewTokenWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers)
	for _, version := range versions { // one after the other: the lock is everybody's
		topic := "held-" + version
		r.exec(`insert into members (user_id, room) values ('u1', $1)`, topic)
		c, joinRef := r.on(t, version, tokenFor(t, "u1", time.Hour), topic, private())
		lock, err := r.db.Admin.Begin(t.Context())
		if err == nil {
			_, err = lock.Exec(t.Context(), `lock table members`)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.renew(joinRef, topic, token(t, "u1", "authenticated", map[string]any{"jti": fmt.Sprint(version)}))
		ref := c.push(joinRef, "realtime:"+topic, "broadcast", map[string]any{"type": "broadcast", "event": "mine", "payload": map[string]any{}})
		if _, err := lock.Exec(t.Context(), `select realtime.send('{}', 'theirs', $1)`, topic); err != nil {
			t.Fatal(err)
		}
		// A join that came later is put off already: so the question about the token has met the lock as well.
		if _, status, reason := c.join("elsewhere", private()); status != "error" || !strings.HasPrefix(reason, "UnableToConnectToProject: ") {
			t.Errorf("a join meanwhile: %s %s", status, reason)
		}
		if n := count(c, broadcastOf(topic, "mine")); n != 0 {
			t.Error("a broadcast passed before it was decided")
		}
		if err := lock.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.wait("what others said meanwhile", broadcastOf(topic, "theirs"))
		if status, response := c.reply(ref); status != "ok" && !strings.Contains(string(response), "Deaf") { // after five seconds it is put off
			t.Errorf("what was said meanwhile: %s %s", status, response)
		}
		if ok, response := c.sends(joinRef, topic); !ok {
			t.Errorf("afterwards: %s", response)
		}
		if n := count(c, isEvent(topic, "phx_close")) + count(c, isEvent(topic, "phx_error")); n != 0 {
			t.Errorf("the channel was ended: %s", c.said())
		}
	}
}
