package main

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
)

// A handshake is refused with the status and the sentence that clients of Supabase Realtime know.
func TestRefusedHandshakeSaysWhy(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.JWTIssuers = []string{"https://example.com"} })
	hs256, later := `{"alg":"HS256"}`, time.Now().Add(time.Hour).Unix()
	claim := func(more string) string {
		return signed(hs256, fmt.Sprintf(`{"role":"authenticated","exp":%d%s}`, later, more))
	}
	good := claim(`,"iss":"https://example.com"`)
	for _, version := range versions {
		for _, tt := range []struct {
			name, key string
			status    int
			said      string // empty: nothing
		}{
			{"no key", "", 401, "API key is missing"},
			{"no token", "none", 401, "The token provided is not a valid JWT"},
			{"expired", signed(hs256, `{"role":"authenticated","exp":1}`), 401, "Token has expired"},
			{"without a role", signed(hs256, fmt.Sprintf(`{"exp":%d}`, later)), 401, "Fields `role` and `exp` are required in JWT"},
			{"without an end", signed(hs256, `{"role":"authenticated"}`), 401, "Fields `role` and `exp` are required in JWT"},
			{"signed by another", good + "x", 401, "Failed to validate JWT signature"},
			{"of no algorithm", signed(`{"alg":"none"}`, `{}`), 401, "Failed to generate JWT signer, check your JWT secret or JWKS configuration"},
			// What Supabase Realtime answers with 500 is the caller's fault here, and named.
			{"of another issuer", claim(`,"iss":"https://example.org"`), 401, "The claim `iss` of the token is not the one expected here"},
			{"an end that is text", signed(hs256, `{"role":"authenticated","exp":"later"}`), 401, "The claim `exp` of the token must be a number of seconds"},
			{"claims that are a list", signed(hs256, `[]`), 401, "The token provided is not a valid JWT"},
			{"a role that may not", signed(hs256, fmt.Sprintf(`{"role":"postgres","iss":"https://example.com","exp":%d}`, later)), 401, "The role `postgres` is not allowed to use this server"},
		} {
			got := r.upgradeWith("vsn="+version+"&apikey="+tt.key, "")
			body, _ := io.ReadAll(got.Body)
			kind, parameters, _ := mime.ParseMediaType(got.Header.Get("Content-Type"))
			want, _ := json.Marshal(map[string]string{"error": tt.said})
			var said, wanted any
			_, _ = json.Unmarshal(body, &said), json.Unmarshal(want, &wanted)
			if got.StatusCode != tt.status || fmt.Sprint(said) != fmt.Sprint(wanted) || kind != "application/json" || parameters["charset"] != "utf-8" {
				t.Errorf("%s, %s: %d %s %s, want %d %s", tt.name, version, got.StatusCode, got.Header.Get("Content-Type"), body, tt.status, want)
			}
		}
	}
	for _, tt := range []struct {
		name, query, header string
		status              int
	}{
		{"no version is the first", "apikey=" + good, "", 101},
		{"a version of the same kind", "vsn=2.0.7&apikey=" + good, "", 101},
		{"an unknown version", "vsn=3.0.0&apikey=" + good, "", 403},
		{"no version at all", "vsn=x&apikey=" + good, "", 403},
		{"parameters of old clients", "vsn=1.0.0&log_level=warn&eventsPerSecond=10&apikey=" + good, "", 101},
		{"the header before the parameter", "apikey=none", "x-api-key: " + good + "\r\n", 101},
		{"the header before the parameter, if it is worse", "apikey=" + good, "x-api-key: none\r\n", 401},
		{"no other header", "vsn=2.0.0", "Authorization: Bearer " + good + "\r\napikey: " + good + "\r\n", 401},
		{"escaped, and with spaces", "apikey=" + strings.ReplaceAll(good, ".", "%252E%20"), "", 101},
	} {
		if got := r.upgradeWith(tt.query, tt.header); got.StatusCode != tt.status {
			t.Errorf("%s: %s, want %d", tt.name, got.Status, tt.status)
		}
	}
	for _, request := range []string{
		"POST /socket/websocket?apikey=" + good + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
		"GET /socket/websocket?apikey=" + good + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		c := r.connect()
		c.write([]byte(request))
		if got := c.response(); got.StatusCode != http.StatusBadRequest {
			t.Errorf("%.20s: %s", request, got.Status)
		}
	}
}

// upgradeWith asks for a socket.
func (r *running) upgradeWith(query, headers string) *http.Response {
	r.t.Helper()
	c := r.connect()
	c.write([]byte(upgradeRequest("/realtime/v1/websocket?"+query, headers)))
	return c.response()
}

// Frames that cannot be read end nothing and say nothing, unless somebody waits for an answer.
func TestUnreadableFramesEndNothing(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		beat := func() {
			t.Helper()
			if status, response := c.reply(c.push("", "phoenix", "heartbeat", map[string]any{})); status != "ok" || string(response) != "{}" {
				t.Errorf("%s: heartbeat: %s %s", version, status, response)
			}
		}
		frames := []string{"", "x", "null", "1", `"phoenix"`, "[]", `["1","1","phoenix"]`, `{"topic":"phoenix","event":"heartbeat"}`, "{}"}
		if version == "1.0.0" {
			frames = append(frames, `[null,"1","phoenix","heartbeat",{}]`)
		} else {
			frames = append(frames, `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}`)
		}
		for _, frame := range frames {
			c.write(frame)
		}
		if version == "2.0.0" { // which has kinds of binary frames that no client sends
			c.writeBytes("\x00\x01\x01\x07\x09" + "11phoenixheartbeat{}")
		} else {
			c.writeBytes(pushFrame("1", "1", "phoenix", "heartbeat", "", 1, "{}"))
		}
		beat()
		if heard := len(c.all()); heard != 1 {
			t.Errorf("%s: heard %d frames: %s", version, heard, c.said())
		}
		// More than is needed does no harm.
		if version == "1.0.0" {
			c.write(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"more","join_ref":"1","else":[]}`)
		} else {
			c.write(`[null,"more","phoenix","heartbeat",{},"else",[]]`)
		}
		if status, _ := c.reply("more"); status != "ok" {
			t.Errorf("%s: a heartbeat with more", version)
		}
	}
}

// write sends a text frame as it is.
func (c *client) write(text string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// writeBytes sends a binary frame as it is.
func (c *client) writeBytes(data string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), websocket.MessageBinary, []byte(data)); err != nil {
		c.t.Logf("write: %v", err) // as in push: what is said to a socket that is closed needs no answer
	}
}
