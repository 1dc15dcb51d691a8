package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
)

// Every join is answered, and nothing on its topic comes before the answer, whatever the client does meanwhile.
func TestJoinsLeftOrReplacedAtOnceAreAnswered(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxJoinsPerSecond = 0 })
	r.exec(allowMembers + `insert into members (user_id, room) select 'u1', 'room-' || i from generate_series(0, 39) as i`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	for i := range 60 { // the last twenty have no right
		topic := fmt.Sprint("room-", i)
		first := c.push("", "realtime:"+topic, "phx_join", config(private()))
		second := c.push("", "realtime:"+topic, "phx_join", config(private()))
		leave := c.push(second, "realtime:"+topic, "phx_leave", map[string]any{})
		want := "ok"
		if i >= 40 {
			want = "error"
		}
		if status, response := c.reply(first); status != want && !strings.Contains(string(response), "JoinSuperseded") {
			t.Errorf("%s: first join: %s %s", topic, status, response)
		}
		if status, response := c.reply(second); status != want {
			t.Errorf("%s: second join: %s %s", topic, status, response)
		}
		if status, _ := c.reply(leave); status != "ok" {
			t.Errorf("%s: leave not answered with ok", topic)
		}
		place := map[string]int{}
		for _, f := range c.all() {
			if f.Topic == "realtime:"+topic && f.Ref != nil {
				place[f.Event+*f.Ref] = f.receivedAfter
			}
		}
		if place["phx_reply"+second] > place["phx_reply"+leave] {
			t.Errorf("%s: the leave was answered before the join", topic)
		}
		if closed, ok := place["phx_close"+second]; ok && closed < place["phx_reply"+second] {
			t.Errorf("%s: closed before the join was answered", topic)
		}
	}
	r.await("all channels to be gone", func() bool { return counter(t, r, "realtime_channels") == 0 })
}

// Leave and join in one breath, before the first join is decided: all three are answered, and the first channel is closed.
func TestLeaveAndJoinBeforeTheDecision(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxJoinsPerSecond = 0 })
	r.exec(allowMembers + `insert into members (user_id, room) select 'u1', 'room-' || i from generate_series(0, 39) as i`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	for i := range 40 {
		topic := fmt.Sprint("room-", i)
		first := c.push("", "realtime:"+topic, "phx_join", config(private()))
		leave := c.push(first, "realtime:"+topic, "phx_leave", map[string]any{})
		again := c.push(first, "realtime:"+topic, "phx_leave", map[string]any{})
		second := c.push("", "realtime:"+topic, "phx_join", config(private()))
		c.reply(first)
		for _, ref := range []string{leave, again, second} {
			if status, response := c.reply(ref); status != "ok" {
				t.Errorf("%s: %s %s", topic, status, response)
			}
		}
		c.wait("the first channel's end", func(f frame) bool { return isEvent(topic, "phx_close")(f) && *f.JoinRef == first })
		if n := count(c, func(f frame) bool { return isEvent(topic, "phx_close")(f) && *f.JoinRef == second }); n != 0 {
			t.Errorf("%s: the second channel was closed", topic)
		}
	}
	if n := counter(t, r, "realtime_channels"); n != 40 {
		t.Errorf("%v channels, want 40", n)
	}
}

// A token that is refused while the join is not decided answers the join, and a leave behind it.
func TestRefusedTokenAnswersJoinAndLeave(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(`create policy slow on realtime.messages for select to authenticated using ((select pg_sleep(1)) is not null)`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	join := c.push("", "realtime:a", "phx_join", config(private()))
	leave := c.push(join, "realtime:a", "phx_leave", map[string]any{})
	c.push(join, "realtime:a", "access_token", map[string]any{"access_token": "no token"})
	if status, response := c.reply(join); status != "error" || !strings.Contains(string(response), "MalformedJWT") {
		t.Errorf("join: %s %s", status, response)
	}
	if status, _ := c.reply(leave); status != "ok" {
		t.Error("leave not answered with ok")
	}
}

// A push that cannot be read is answered where its refs can be.
func TestMalformedPushesAreAnswered(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	c := r.dial(token(t, "u1", "authenticated", nil))
	joinRef, _, _ := c.join("open", map[string]any{"broadcast": map[string]any{"ack": true}})
	kind3 := func(ref string, metadata, payload string) []byte {
		topic, event := "realtime:open", "e"
		b := []byte{3, byte(len(joinRef)), byte(len(ref)), byte(len(topic)), byte(len(event)), byte(len(metadata)), 1}
		return append(b, joinRef+ref+topic+event+metadata+payload...)
	}
	for name, data := range map[string][]byte{
		"bad":      kind3("bad", "", "{bad"),
		"empty":    kind3("empty", "", ""),
		"metadata": kind3("metadata", "no", "{}"),
	} {
		if err := c.conn.Write(context.Background(), websocket.MessageBinary, data); err != nil {
			t.Fatal(err)
		}
		if status, response := c.reply(name); status != "error" || !strings.Contains(string(response), "MalformedWebSocketMessage: ") {
			t.Errorf("%s: %s %s", name, status, response)
		}
	}
	deep := fmt.Sprintf(`[%q,"deep","realtime:open","broadcast",%s1%s]`, joinRef, strings.Repeat(`{"a":`, 600), strings.Repeat("}", 600))
	if err := c.conn.Write(context.Background(), websocket.MessageText, []byte(deep)); err != nil {
		t.Fatal(err)
	}
	if status, response := c.reply("deep"); status != "error" || !strings.Contains(string(response), "MalformedWebSocketMessage: ") {
		t.Errorf("deep: %s %s", status, response)
	}
}

// Members are told when private delivery stands still for longer than a moment.
func TestDeafServerSaysSo(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	c.join("a", private())
	c.join("open", nil)
	r.hub.Deaf()
	told := c.wait("the word that delivery pauses", isEvent("a", "system"))
	if !strings.Contains(string(told.Payload), "Deaf: ") {
		t.Errorf("%s", told.Payload)
	}
	if n := count(c, isEvent("open", "system")); n != 0 {
		t.Error("a public channel was told")
	}
	r.hub.Hearing()
	r.exec(`select realtime.send('{}', 'again', 'a')`)
	c.wait("a message after the pause", broadcastOf("a", "again"))
}
