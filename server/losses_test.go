package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
)

// systemOf matches a system message that begins so.
func systemOf(topic, beginning string) func(frame) bool {
	return func(f frame) bool {
		return isEvent(topic, "system")(f) && strings.Contains(string(f.Payload), `"message":"`+beginning)
	}
}

// A message that cannot be delivered is not lost in silence: those who would have been given it are told, and nobody else.
func TestLostMessageIsToldToItsRoom(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxPayloadBytes = 2000 })
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a'), ('u2', 'b')`)
	for _, version := range versions {
		concerned, other, public := r.dialVersion(version, token(t, "u1", "authenticated", nil)), r.dialVersion(version, token(t, "u2", "authenticated", nil)),
			r.dialVersion(version, token(t, "u3", "authenticated", nil))
		for c, room := range map[*client]string{concerned: "a", other: "b"} {
			if _, status, reason := c.join(room, private()); status != "ok" {
				t.Fatal(reason)
			}
		}
		if _, status, reason := public.join("a", nil); status != "ok" {
			t.Fatal(reason)
		}
		const lost = "MessagesWithheld: A message was lost: it is too large, or cannot be read"
		for _, row := range []string{
			`('a', 'broadcast', 'e', to_jsonb(repeat('x', 3000)), true)`, // past send()
			`('a', 'broadcast', null, '{}', true)`,
			`('a', 'broadcast', 'e', null, true)`,
			`('a', 'broadcast', repeat('e', 300), '{}', true)`,
		} {
			before := count(concerned, systemOf("a", lost))
			r.exec(`insert into realtime.messages (topic, extension, event, payload, private) values ` + row)
			r.await("the loss to be told: "+row, func() bool { return count(concerned, systemOf("a", lost)) == before+1 })
		}
		r.exec(`select realtime.send('{}', 'end', 'b'), realtime.send('{}', 'end', 'a', false)`)
		other.wait("the end", broadcastOf("b", "end"))
		public.wait("the end", broadcastOf("a", "end"))
		if n := count(other, isEvent("b", "system")) + count(public, isEvent("a", "system")); n != 0 {
			t.Errorf("%s: %d others were told", version, n)
		}
	}
}

// Version 1.0.0 has no binary frames. Its members are told that they missed something, now and then.
func TestBinaryMessageOnVersion1IsTold(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	tok := token(t, "u1", "authenticated", nil)
	one, two := r.dialVersion("1.0.0", tok), r.dial(tok)
	for _, c := range []*client{one, two} {
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
	}
	r.exec(`select realtime.send_binary('\x00ff', 'bytes', 'a') from generate_series(1, 50)`)
	r.exec(`select realtime.send('{}', 'end', 'a')`)
	one.wait("the end", broadcastOf("a", "end"))
	two.wait("the end", broadcastOf("a", "end"))
	const withheld = "BinaryNotSupported: A binary message was withheld from you: only wire version 2.0.0 can carry it"
	if n := count(one, systemOf("a", withheld)); n == 0 || n > 10 {
		t.Errorf("told %d times of 50 messages", n)
	}
	if n := count(one, isEvent("a", "broadcast")); n != 1 {
		t.Errorf("version 1.0.0 was given %d messages", n)
	}
	if n, told := count(two, broadcastOf("a", "bytes")), count(two, isEvent("a", "system")); n != 50 || told != 0 {
		t.Errorf("version 2.0.0 was given %d of 50 messages, and told %d times", n, told)
	}
}

// One message may be as large as messages may be. What is too much is refused to its sender, and closes nobody's channel.
func TestBytesPerSecondAreTheSenders(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxBytesPerSecond = 100_000 })
	sender, other, receiver := r.dial(token(t, "u1", "anon", nil)), r.dial(token(t, "u2", "anon", nil)), r.dial(token(t, "u3", "anon", nil))
	joins := map[*client]string{}
	for _, c := range []*client{sender, other, receiver} {
		ref, status, reason := c.join("a", map[string]any{"broadcast": map[string]any{"ack": true}})
		if joins[c] = ref; status != "ok" {
			t.Fatal(reason)
		}
	}
	send := func(c *client, event string, bytes int) (status, response string) {
		s, answer := c.reply(c.push(joins[c], "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": event, "payload": strings.Repeat("x", bytes)}))
		return s, string(answer)
	}
	if status, response := send(sender, "large", 2_500_000); status != "ok" {
		t.Errorf("a large message: %s", response)
	}
	if status, response := send(sender, "more", 1000); status != "error" || response != `{"reason":"MessagePerSecondRateLimitReached: Too many bytes per second"}` {
		t.Errorf("one more: %s %s", status, response)
	}
	if status, response := send(other, "small", 1000); status != "ok" {
		t.Errorf("another's message: %s", response)
	}
	receiver.wait("the other's message", broadcastOf("a", "small"))
	if n := count(receiver, isEvent("a", "broadcast")); n != 2 {
		t.Errorf("%d messages, want the large one and the other's", n)
	}
	if status, _ := receiver.reply(receiver.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" {
		t.Error("the receiver is gone")
	}
}

// Senders who do what they may, all at once, close no channel and no socket of those who listen and read.
func TestBurstClosesNobody(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxEventsPerSecond = 10 }) // far less than a busy machine sends
	var listeners []*client
	for range 5 {
		c := r.dial(token(t, "u", "anon", nil))
		if _, status, reason := c.join("a", nil); status != "ok" {
			t.Fatal(reason)
		}
		listeners = append(listeners, c)
	}
	var refused, sent int
	for range 4 {
		sender := r.dial(token(t, "u", "anon", nil))
		ref, status, reason := sender.join("a", map[string]any{"broadcast": map[string]any{"ack": true}})
		if status != "ok" {
			t.Fatal(reason)
		}
		var refs []string
		for range 200 {
			refs = append(refs, sender.push(ref, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": strings.Repeat("x", 10_000)}))
		}
		for _, ref := range refs {
			if status, _ := sender.reply(ref); status == "ok" {
				sent++
			} else {
				refused++
			}
		}
	}
	if sent == 0 || refused == 0 {
		t.Fatalf("%d sent, %d refused: no burst", sent, refused)
	}
	for i, c := range listeners {
		r.await("all that was sent", func() bool { return count(c, broadcastOf("a", "e")) == sent })
		if n := count(c, func(f frame) bool { return f.Event == "phx_close" || f.Event == "phx_error" || f.Event == "system" }); n > 0 {
			t.Errorf("listener %d was told %s", i, c.said())
		}
	}
}

// A client that has left all of its channels may keep its socket for a while, and no longer.
func TestSocketWithoutChannelsIsDropped(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.NoChannelTimeout = 2 * time.Second })
	stays, goes := r.dial(token(t, "u1", "anon", nil)), r.dial(token(t, "u2", "anon", nil))
	left := ""
	for _, c := range []*client{stays, goes} {
		ref, status, reason := c.join("a", nil)
		if left = ref; status != "ok" {
			t.Fatal(reason)
		}
	}
	goes.push(left, "realtime:a", "phx_leave", map[string]any{})
	goes.wait("the end of the channel", isEvent("a", "phx_close"))
	r.await("the socket to be closed", func() bool { return goes.failure() != nil })
	if code := websocket.CloseStatus(goes.failure()); code != websocket.StatusNormalClosure {
		t.Errorf("close code %d", code)
	}
	r.await("the close to be counted", func() bool { return labelled(t, r, "realtime_sockets_closed_total", "unused") == 1 })
	if status, _ := stays.reply(stays.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" {
		t.Error("a socket with a channel was dropped too")
	}
}

// The settings reach what they are about.
func TestSettingsOfSocketsRequestsAndPool(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) {
		c.IdleTimeout, c.MaxHeaderBytes, c.PoolSize = 2*time.Second, minHeaderBytes, minPoolSize+1
	})
	silent := r.dial(token(t, "u1", "anon", nil))
	if _, status, reason := silent.join("a", nil); status != "ok" {
		t.Fatal(reason)
	}
	r.await("the silent socket to be closed", func() bool { return silent.failure() != nil })
	r.await("the close to be counted", func() bool { return labelled(t, r, "realtime_sockets_closed_total", "idle") == 1 })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.public.Addr().String()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]int{100: http.StatusOK, minHeaderBytes + 8<<10: http.StatusRequestHeaderFieldsTooLarge} { // net/http adds 4 KB
		request.Header.Set("X-Large", strings.Repeat("x", size))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("headers of %d bytes: %d, want %d", size, response.StatusCode, want)
		}
	}
	if most := r.pool.Stats().Max; most != minPoolSize+1 {
		t.Errorf("the pool takes up to %d connections", most)
	}
}

// failure is why nothing more is read; nil while something may come.
func (c *client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
