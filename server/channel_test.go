package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
)

func TestHeartbeatAndUnmatched(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if status, _ := c.reply(c.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" {
		t.Error("heartbeat not answered with ok")
	}
	for _, topic := range []string{"realtime:nowhere", "elsewhere", "phoenix"} {
		status, response := c.reply(c.push("9", topic, "broadcast", map[string]any{}))
		if status != "error" || string(response) != `{"reason":"unmatched topic"}` {
			t.Errorf("%s: %s %s", topic, status, response)
		}
	}
	for _, bad := range []string{"", "x", "{}", `["1"]`, `[1,2,3,4,5]`, "\xff\xfe"} {
		if err := c.conn.Write(context.Background(), websocket.MessageText, []byte(bad)); err != nil {
			t.Fatal(err)
		}
	}
	if status, _ := c.reply(c.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" {
		t.Error("the socket did not survive bad frames")
	}
}

func TestJoinsThatNeedNoDatabaseToBeRefused(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxChannelsPerSocket = 2 })
	c := r.dial(token(t, "u1", "authenticated", nil))
	tests := []struct {
		name, topic string
		payload     map[string]any
		want        string
	}{
		{"no topic", "", map[string]any{}, "TopicNameRequired: You must provide a topic name"},
		{"private is no boolean", "a", config(map[string]any{"private": "yes"}), "config.private"},
		{"self is no boolean", "a", config(map[string]any{"broadcast": map[string]any{"self": 1}}), "config.broadcast.self"},
		{"config is a list", "a", map[string]any{"config": []int{}}, "config"},
		{"replay on a public channel", "a", config(map[string]any{"broadcast": map[string]any{"replay": map[string]any{"since": 1}}}), "UnableToReplayMessages: Replay is not allowed for public channels"},
		{"topic too long", strings.Repeat("x", 300), map[string]any{}, "TopicTooLong"},
		{"token is no token", "a", map[string]any{"access_token": "abc"}, "MalformedJWT: The token provided is not a valid JWT"},
		{"role not allowed", "a", map[string]any{"access_token": token(t, "u1", "postgres", nil)}, "RoleNotAllowed"},
		{"signed by another", "a", map[string]any{"access_token": token(t, "u1", "anon", nil) + "x"}, "JWT"},
	}
	for _, tt := range tests {
		status, response := c.reply(c.push("", "realtime:"+tt.topic, "phx_join", tt.payload))
		if status != "error" || !strings.Contains(string(response), tt.want) {
			t.Errorf("%s: %s %s, want %q", tt.name, status, response, tt.want)
		}
	}
	for i := range 2 {
		if _, status, reason := c.join(fmt.Sprint("c", i), map[string]any{"private": "FALSE"}); status != "ok" {
			t.Errorf("join %d: %s", i, reason)
		}
	}
	if _, _, reason := c.join("c2", nil); reason != "ChannelRateLimitReached: Too many channels" {
		t.Errorf("third channel of two: %q", reason)
	}
	if _, status, reason := c.join("c1", nil); status != "ok" {
		t.Errorf("joining again in the same place: %s", reason)
	}
}

func config(c map[string]any) map[string]any { return map[string]any{"config": c} }

func TestRejoinAnswersThenClosesTheOld(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	first, _, _ := c.join("a", private())
	again, status, _ := c.join("a", private())
	if status != "ok" {
		t.Fatal("not joined again")
	}
	closed := c.wait("the old channel's end", isEvent("a", "phx_close"))
	if *closed.Ref != first || *closed.JoinRef != first {
		t.Errorf("phx_close names %s, want %s", *closed.Ref, first)
	}
	reply := c.wait("the reply", func(f frame) bool { return f.Ref != nil && *f.Ref == again })
	if closed.receivedAfter < reply.receivedAfter {
		t.Error("phx_close came before the reply")
	}
	// Leave and join in one breath: the leave is the old instance's.
	leave := c.push(again, "realtime:a", "phx_leave", map[string]any{})
	third := c.push("", "realtime:a", "phx_join", config(private()))
	for _, ref := range []string{leave, third} {
		if status, response := c.reply(ref); status != "ok" {
			t.Errorf("%s", response)
		}
	}
	ref := c.push(third, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}})
	if status, response := c.reply(ref); status != "ok" {
		t.Errorf("send after leave and join: %s", response)
	}
	// A rejoin that is refused ends the old channel as well.
	status, _ = c.reply(c.push("", "realtime:a", "phx_join", map[string]any{"access_token": "x", "config": private()}))
	if status != "error" {
		t.Error("a bad token was admitted")
	}
	c.wait("the end of the third", func(f frame) bool {
		return isEvent("a", "phx_close")(f) && *f.JoinRef == third
	})
}

func TestRefreshedTokens(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room, muted) values ('u1', 'a', false), ('u2', 'a', false), ('u3', 'a', true)`)
	refresh := func(c *client, joinRef string, payload any) {
		c.push(joinRef, "realtime:a", "access_token", payload)
	}
	admitted := func(user string) (*client, string) {
		c := r.dial(token(t, user, "authenticated", nil))
		joinRef, status, reason := c.join("a", private())
		if status != "ok" {
			t.Fatal(reason)
		}
		return c, joinRef
	}
	send := func(c *client, joinRef string) (string, json.RawMessage) {
		return c.reply(c.push(joinRef, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}))
	}

	c, ref := admitted("u1")
	for _, payload := range []any{
		map[string]any{}, map[string]any{"access_token": nil}, map[string]any{"access_token": "sb_publishable_x"},
		map[string]any{"access_token": token(t, "u2", "authenticated", nil)},
	} {
		refresh(c, ref, payload)
		if status, response := send(c, ref); status != "ok" {
			t.Errorf("after %v: %s", payload, response)
		}
	}
	// u2 is the subject now: what happens to u1 is nothing to this channel, what happens to u2 is.
	r.exec(`delete from members where user_id = 'u1'`)
	if status, response := send(c, ref); status != "ok" {
		t.Errorf("u1's revocation reached u2's channel: %s", response)
	}
	refresh(c, ref, map[string]any{"access_token": token(t, "u3", "authenticated", nil)}) // may read, not write
	if status, response := send(c, ref); status != "error" || !strings.Contains(string(response), "SendDenied") {
		t.Errorf("as u3: %s %s", status, response)
	}
	r.exec(`update members set muted = false where user_id = 'u3'`)
	r.await("u3 to be allowed to send", func() bool { status, _ := send(c, ref); return status == "ok" })

	ends := []struct{ name, token, message string }{
		{"no rights", token(t, "stranger", "authenticated", nil), "You do not have permissions to read from this Channel topic: a"},
		{"malformed", "abc", "The token provided is not a valid JWT"},
		{"empty", "", "The token provided is not a valid JWT"},
		{"role not allowed", token(t, "u2", "postgres", nil), "role"},
	}
	for _, tt := range ends {
		c, ref := admitted("u2")
		refresh(c, ref, map[string]any{"access_token": tt.token})
		system := c.wait(tt.name, isEvent("a", "system"))
		if !strings.Contains(string(system.Payload), tt.message) {
			t.Errorf("%s: %s", tt.name, system.Payload)
		}
		c.wait("the end", isEvent("a", "phx_close"))
		if status, _ := send(c, ref); status != "error" {
			t.Errorf("%s: the channel can still send", tt.name)
		}
	}
}

func TestHandshakes(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
	good := token(t, "u1", "authenticated", nil)
	tests := []struct {
		name, query string
		header      http.Header
		status      int
		body        string
	}{
		{"no key", "vsn=2.0.0", nil, 401, `{"error":"API key is missing"}`},
		{"no JWT", "apikey=x", nil, 401, `{"error":"The token provided is not a valid JWT"}`},
		{"bad signature", "apikey=" + good[:len(good)-4] + "AAAA", nil, 401, `{"error":"Failed to validate JWT signature"}`},
		{"role not allowed", "apikey=" + token(t, "u1", "postgres", nil), nil, 401, "role"},
		{"unknown version", "vsn=3.0.0&apikey=" + good, nil, 403, ""},
		{"foreign origin", "apikey=" + good, http.Header{"Origin": {"https://evil.example.com"}}, 403, ""},
		{"good", "apikey=" + good, nil, 101, ""},
		{"good origin", "vsn=1.0.0&apikey=" + good, http.Header{"Origin": {"https://app.example.com"}}, 101, ""},
		{"header wins over query", "apikey=x", http.Header{"X-Api-Key": {good}}, 101, ""},
	}
	for _, path := range []string{"/socket/websocket", "/realtime/v1/websocket"} {
		for _, tt := range tests {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			conn, response, err := websocket.Dial(ctx, "ws://"+r.public.Addr().String()+path+"?"+tt.query, &websocket.DialOptions{HTTPHeader: tt.header})
			if conn != nil {
				conn.CloseNow()
			}
			cancel()
			if response == nil {
				t.Fatalf("%s %s: %v", path, tt.name, err)
			}
			body := make([]byte, 500)
			n := 0
			if response.Body != nil && tt.status != 101 {
				n, _ = response.Body.Read(body)
			}
			if response.StatusCode != tt.status || !strings.Contains(string(body[:n]), tt.body) {
				t.Errorf("%s %s: %d %s", path, tt.name, response.StatusCode, body[:n])
			}
		}
	}
}

func TestListenerIsLostAndComesBack(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.Watch = "off" }) // else switching triggers off is noticed
	r.exec(allowMembers + `insert into members values ('u1', 'a'), ('u2', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	gone := r.dial(token(t, "u2", "authenticated", nil))
	for _, x := range []*client{c, gone} {
		if _, status, reason := x.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
	}
	// The trigger is off, as if the change had been made while nobody listened; then the listener's connection dies.
	r.exec(`alter table members disable trigger all; delete from members where user_id = 'u2'; alter table members enable trigger all`)
	r.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast listener'`)
	gone.wait("the cut", isEvent("a", "phx_close"))
	r.await("the feed to hear", r.feed.Hearing)
	r.exec(`select realtime.send('{}', 'after', 'a')`)
	c.wait("a message after the outage", broadcastOf("a", "after"))
	if n := count(gone, broadcastOf("a", "after")); n != 0 {
		t.Error("the revoked member received a message")
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, _ := c.join("open", nil); status != "ok" {
		t.Fatal("not joined")
	}
	r.stop()
	system := c.wait("the last word", isEvent("open", "system"))
	if !strings.Contains(string(system.Payload), "Server requested disconnect") {
		t.Errorf("%s", system.Payload)
	}
	r.await("the close frame", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.err != nil })
	if code := websocket.CloseStatus(c.err); code != websocket.StatusServiceRestart {
		t.Errorf("closed with %d (%v), want 1012", code, c.err)
	}
}

// A join that comes while the database is not heard waits for a moment.
func TestJoinWaitsUntilTheDatabaseIsHeard(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		r.hub.Deaf()
		ref := c.push("", "realtime:a", "phx_join", map[string]any{"config": private()})
		if _, status, reason := c.join("open", nil); status != "ok" { // so the one before has come to the hub
			t.Errorf("public join: %s", reason)
		}
		r.hub.Hearing()
		if status, response := c.reply(ref); status != "ok" {
			t.Errorf("%s: private join: %s %s", version, status, response)
		}
	}
}

// While the database is not heard, private channels pause: every push and join is answered all the same.
func TestDeafServerAnswers(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	joinRef, _, _ := c.join("a", private())
	open, _, _ := c.join("open", map[string]any{"broadcast": map[string]any{"ack": true}})
	send := func(name, joinRef string) (string, json.RawMessage) {
		return c.reply(c.push(joinRef, "realtime:"+name, "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}))
	}
	r.hub.Deaf()
	// The worker has come to it when a join is refused for it.
	if _, status, reason := c.join("b", private()); status != "error" || !strings.HasPrefix(reason, "Deaf: ") {
		t.Errorf("private join: %s %s", status, reason)
	}
	if status, response := send("open", open); status != "ok" {
		t.Errorf("public send: %s", response)
	}
	if status, response := send("a", joinRef); status != "error" || !strings.Contains(string(response), "Deaf") {
		t.Errorf("private send: %s %s", status, response)
	}
	r.hub.Hearing()
	if status, response := send("a", joinRef); status != "ok" {
		t.Errorf("private send after hearing: %s", response)
	}
}
