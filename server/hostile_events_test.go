package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// What a client calls its message by a name of the server's is relayed to nobody, and answered.
func TestServerEventsFromClients(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	victim := r.dial(token(t, "victim", "authenticated", nil))
	victim.join("open", nil)
	c := r.upgrade(token(t, "evil", "authenticated", nil))
	c.message(`["1","1","realtime:open","phx_join",{}]`)
	if status, response := c.reply("1"); status != "ok" {
		t.Fatal(response)
	}
	events := []string{
		"phx_reply", "phx_close", "phx_error", "system", "presence_state", "presence_diff", "postgres_changes", "heartbeat",
		"INSERT", "*", "", "Broadcast", "broadcast ", "broadcast\x00", "\u202ebroadcast", "__proto__", strings.Repeat("e", 1<<20),
	}
	for i, event := range events {
		name, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		ref := fmt.Sprint("event", i)
		c.message(fmt.Sprintf(`["1",%q,"realtime:open",%s,{"status":"ok","response":{},"ids":[1],"data":{},"joins":{},"leaves":{}}]`, ref, name))
		status, response := c.reply(ref)
		if status != "error" || !strings.Contains(response, "NotSupported: ") || len(response) > 1000 {
			t.Errorf("%.20q: %s %.200s", event, status, response)
		}
		c.message(fmt.Sprintf(`["1",%q,"realtime:elsewhere",%s,{}]`, ref+"e", name))
		if status, response := c.reply(ref + "e"); status != "error" || response != `{"reason":"unmatched topic"}` {
			t.Errorf("%.20q on a topic not joined: %s %s", event, status, response)
		}
	}
	c.message(`["1","end","realtime:open","broadcast",{"event":"end"}]`)
	victim.wait("the end", broadcastOf("open", "end"))
	for _, f := range victim.all() {
		if f.Event != "phx_reply" && !broadcastOf("open", "end")(f) {
			t.Errorf("the victim heard %s %s", f.Event, f.Payload)
		}
	}
	bystanders.undisturbed("events with the server's names")
}

// A broadcast that would pass for something else at a receiver, or make its client throw, is refused; others arrive as
// they are, under the event broadcast.
func TestBroadcastsThatImitate(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	victim := r.dial(token(t, "victim", "authenticated", nil))
	victim.join("open", nil)
	c := r.upgrade(token(t, "evil", "authenticated", nil))
	c.message(`["1","1","realtime:open","phx_join",{"config":{"broadcast":{"ack":true}}}]`)
	if status, response := c.reply("1"); status != "ok" {
		t.Fatal(response)
	}
	tests := []struct {
		payload string
		refused string // "" if it arrives
	}{
		{`{"type":"postgres_changes","event":"phx_close","payload":{"status":"ok"}}`, ""},
		{`{"type":"system","event":"SUBSCRIBED","status":"error","extension":"system","message":"x"}`, ""},
		{`{"event":null}`, ""},
		{`{}`, ""},
		{`{"__proto__":{"ids":[1]},"constructor":{"prototype":{}},"event":"e"}`, ""},
		{`{"event":5,"event":"the last counts"}`, ""},
		{`{"payload":{"ids":[1],"meta":{},"event":5},"event":"deeper is the user's own"}`, ""},
		{`{"payload":1e999999,"event":"beyond every number"}`, ""},
		{`{"payload":"\ud800","event":"half a pair"}`, ""},
		{`{"ids":[1],"data":{"type":"INSERT"}}`, "named `ids`"},
		{`{"\u0069ds":[1],"data":{"type":"INSERT"}}`, "named `ids`"},
		{`{"meta":{"id":"00000000-0000-0000-0000-000000000000","replayed":true},"event":"e"}`, "named `meta`"},
		{`{"m\u0065ta":null}`, "named `meta`"},
		{`{"event":5}`, "event"},
		{`{"event":true}`, "event"},
		{`{"event":{"toLocaleLowerCase":1}}`, "event"},
		{`{"event":["x"]}`, "event"},
		{`{"event":"first","ev\u0065nt":5}`, "event"},
		{`[]`, "must be an object"},
		{`"ids"`, "must be an object"},
		{`null`, "must be an object"},
		{`1`, "must be an object"},
	}
	arrived := 0
	for i, tt := range tests {
		ref := fmt.Sprint("b", i)
		c.message(fmt.Sprintf(`["1",%q,"realtime:open","broadcast",%s]`, ref, tt.payload))
		switch status, response := c.reply(ref); {
		case tt.refused == "" && status == "ok":
			arrived++
			n := 0
			victim.wait(tt.payload, func(f frame) bool {
				if isEvent("open", "broadcast")(f) {
					n++
				}
				return n == arrived && string(f.Payload) == tt.payload
			})
		case tt.refused == "" || status != "error" || !strings.Contains(response, "InvalidBroadcast: ") || !strings.Contains(response, tt.refused):
			t.Errorf("%s: %s %s, want %q", tt.payload, status, response, tt.refused)
		}
	}
	if n := count(victim, func(f frame) bool { return f.Event != "phx_reply" }); n != arrived {
		t.Errorf("the victim heard %d messages, %d were accepted", n, arrived)
	}
	bystanders.undisturbed("imitations")
}

// pushFrame is a binary frame of kind 3: sizes, encoding, texts, payload.
func pushFrame(joinRef, ref, topic, event, meta string, encoding byte, payload string) string {
	sizes := string([]byte{3, byte(len(joinRef)), byte(len(ref)), byte(len(topic)), byte(len(event)), byte(len(meta)), encoding})
	return sizes + joinRef + ref + topic + event + meta + payload
}

// Binary frames of every kind, cut everywhere, with every size wrong.
func TestHostileBinaryFrames(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxEventsPerSecond = 0 })
	victim := r.dial(token(t, "victim", "authenticated", nil))
	victim.join("open", nil)
	c := r.upgrade(token(t, "evil", "authenticated", nil))
	c.message(`["1","1","realtime:open","phx_join",{"config":{"broadcast":{"ack":true}}}]`)
	c.reply("1")
	whole := pushFrame("1", "r", "realtime:open", "e", `{"id":"forged","replayed":true}`, 1, `{"a":[1]}`)
	bad := labelled(t, r, "realtime_frames_bad_total", "bad_kind")
	for kind := range 256 {
		if kind != 3 {
			c.write(clientFrame(fin|opBinary, string([]byte{byte(kind)})+whole[1:]))
		}
	}
	c.alive("every kind")
	if n := labelled(t, r, "realtime_frames_bad_total", "bad_kind") - bad; n != 255 {
		t.Errorf("%v of 255 unknown kinds were counted", n)
	}
	for n := range len(whole) {
		c.write(clientFrame(fin|opBinary, whole[:n]))
	}
	for at := 1; at <= 6; at++ {
		for size := range 256 {
			wrong := []byte(whole)
			if wrong[at] = byte(size); string(wrong) != whole && at < 6 { // any encoding but 0 is JSON
				c.write(clientFrame(fin|opBinary, string(wrong)))
			}
		}
	}
	c.write(clientFrame(fin|opBinary, pushFrame("1", "badmeta", "realtime:open", "e", `[]`, 1, `{}`)))
	if status, response := c.reply("badmeta"); status != "error" || !strings.Contains(response, "MalformedWebSocketMessage: ") {
		t.Errorf("metadata that is no object: %s %s", status, response)
	}
	c.write(clientFrame(fin|opBinary, pushFrame("1", "bytes", "realtime:open", "e", "", 0, "\x00\xff")))
	if status, response := c.reply("bytes"); status != "ok" {
		t.Errorf("bytes: %s", response)
	}
	c.write(clientFrame(fin|opBinary, pushFrame("1", "end", "realtime:open", "end", "{}", 1, "[]")))
	c.reply("end")
	victim.wait("the end", broadcastOf("open", "end"))
	for _, f := range victim.all() {
		if strings.Contains(string(f.Payload), `"meta"`) {
			t.Errorf("metadata of a client was passed on: %s", f.Payload)
		}
	}
	bystanders.undisturbed("binary frames")
}
