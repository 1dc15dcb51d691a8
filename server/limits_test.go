package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
)

// Each setting of a limit, and what exceeding it is answered with.
func TestLimitsAreAnswered(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) {
		c.MaxJoinsPerSecond, c.MaxEventsPerSecond, c.MaxPayloadBytes, c.MaxConnections = 3, 5, 1000, 2
	})
	c, other := r.dial(token(t, "u1", "authenticated", nil)), r.dial(token(t, "u2", "authenticated", nil))
	_, response, err := websocket.Dial(t.Context(), "ws://"+r.public.Addr().String()+"/socket/websocket?apikey="+token(t, "u3", "authenticated", nil), nil)
	if err == nil || response == nil || response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("third of two connections: %v", response)
	}
	ack := map[string]any{"broadcast": map[string]any{"ack": true}}
	joinRef, status, reason := c.join("open", ack)
	if status != "ok" {
		t.Fatal(reason)
	}
	if _, status, reason := other.join("open", ack); status != "ok" {
		t.Fatal(reason)
	}
	send := func(payload any) (string, json.RawMessage) {
		return c.reply(c.push(joinRef, "realtime:open", "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": payload}))
	}
	if status, response := send(strings.Repeat("x", 1000)); status != "error" || string(response) != `"payload_size_exceeded"` {
		t.Errorf("oversized: %s %s", status, response)
	}
	limited := 0
	for range 20 {
		if status, response := send("x"); status == "error" && strings.Contains(string(response), "MessagePerSecondRateLimitReached: ") {
			limited++
		}
	}
	if limited == 0 {
		t.Error("20 sends at 5 a second, and none was refused")
	}
	other.wait("a message", broadcastOf("open", "e"))
	if n := count(other, isEvent("open", "broadcast")); n > 20-limited {
		t.Errorf("%d messages arrived, %d of 20 were refused", n, limited)
	}
	if n := count(other, isEvent("open", "phx_close")); n != 0 {
		t.Error("the receiver was closed for the sender's burst")
	}
	refused := ""
	for range 10 {
		if _, status, reason := c.join("open", nil); status == "error" {
			refused = reason
		}
	}
	if refused != "ClientJoinRateLimitReached: Too many joins per second" {
		t.Errorf("10 joins at 3 a second: %q", refused)
	}
}

func TestPrivateOnly(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.PrivateOnly = true })
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if _, _, reason := c.join("a", nil); reason != "PrivateOnly: This project only allows private channels" {
		t.Errorf("public join: %q", reason)
	}
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Errorf("private join: %s", reason)
	}
}

// What clients may ask tells whether, what operators may ask tells why.
func TestReadiness(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	get := func(address, path string) (int, string) {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, strings.TrimSpace(string(body))
	}
	public, admin := r.public.Addr().String(), r.admin.Addr().String()
	if code, body := get(public, "/readyz"); code != 200 || body != `{"ready":true}` {
		t.Errorf("ready: %d %s", code, body)
	}
	r.exec(`delete from realtime.schema_version where version_id = (select max(version_id) from realtime.schema_version)`)
	r.await("readyz to notice the missing migration", func() bool { code, _ := get(public, "/readyz"); return code == 503 })
	if _, body := get(public, "/readyz"); body != `{"ready":false}` {
		t.Errorf("a stranger is told %s", body)
	}
	if _, body := get(admin, "/readyz"); !strings.Contains(body, "rowcast migrate up") {
		t.Errorf("the operator is told %s", body)
	}
	if code, _ := get(public, "/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
	if _, body := get(admin, "/metrics"); !strings.Contains(body, "realtime_feed_hearing 1") {
		t.Error("the metrics do not say that the feed hears")
	}
	if code, _ := get(public, "/metrics"); code != 404 {
		t.Errorf("metrics on the clients' address: %d", code)
	}
}
