package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// echoed is a reply with its refs as they stand on the wire.
type echoed struct {
	JoinRef, Ref string // JSON
	Topic        string
	Payload      struct {
		Status   string
		Response json.RawMessage
	}
}

// answer sends a frame and reads the next text frame, which must be the reply.
func (c *raw) answer(frame string) (e echoed) {
	c.t.Helper()
	c.message(frame)
	op, payload, err := c.next()
	if err != nil || op != opText {
		c.t.Fatalf("%.200s: opcode %#x %q %v", frame, op, payload, err)
	}
	var part [5]json.RawMessage
	if json.Unmarshal(payload, &part) != nil || string(part[3]) != `"phx_reply"` || json.Unmarshal(part[2], &e.Topic) != nil || json.Unmarshal(part[4], &e.Payload) != nil {
		c.t.Fatalf("%.200s: heard %.300s", frame, payload)
	}
	e.JoinRef, e.Ref = string(part[0]), string(part[1])
	return e
}

// Refs are the client's own affair: they are echoed as they are, bounded, and choose nothing but the instance to leave.
func TestSpoofedRefs(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	victim := r.dial(token(t, "victim", "authenticated", nil))
	theirs, _, _ := victim.join("theirs", nil)
	c := r.upgrade(token(t, "evil", "authenticated", nil))
	for _, join := range []string{`["10","10","realtime:a","phx_join",{"config":{"broadcast":{"ack":true,"self":false}}}]`, `["20","20","realtime:b","phx_join",{"config":{"broadcast":{"ack":true}}}]`} {
		if got := c.answer(join); got.Payload.Status != "ok" {
			t.Fatalf("%+v", got)
		}
	}
	// Supabase Realtime takes a push under any join_ref for the channel's that the topic names, and so do we.
	for _, joinRef := range []string{`"10"`, `"20"`, `"1"`, `"999999999999999999999"`, `""`, `null`, `10`, `-0.0e-0`, `1e999999`, `"\ud800"`, `"\u0000"`, quoted(t, theirs), `"` + strings.Repeat("9", 62) + `"`} {
		got := c.answer(fmt.Sprintf(`[%s,"r","realtime:a","broadcast",{"event":"e"}]`, joinRef))
		if got.JoinRef != `"10"` || got.Ref != `"r"` || got.Topic != "realtime:a" || got.Payload.Status != "ok" {
			t.Errorf("join_ref %s: %+v", joinRef, got)
		}
	}
	for _, ref := range []string{`"r"`, `0`, `-1`, `-0`, `1e999999`, `0.1`, `123456789012345678901234567890`, `""`, `"\ud800"`, `"\u0000"`, `"\""`, `"</script>"`, `null`, `"` + strings.Repeat("r", 62) + `"`} {
		for _, push := range []string{`["10",%s,"realtime:a","broadcast",{}]`, `[null,%s,"phoenix","heartbeat",{}]`, `["10",%s,"realtime:theirs","broadcast",{}]`, `["10",%s,"realtime:b","presence",{}]`} {
			if got := c.answer(fmt.Sprintf(push, ref)); got.Ref != ref {
				t.Errorf("%s with ref %s: %+v", push, ref, got)
			}
		}
	}
	// Those that are none are not read, and cannot be answered.
	for _, bad := range []string{`{}`, `{"a":1}`, `[]`, `["1"]`, `true`, `false`, `"` + strings.Repeat("r", 63) + `"`, `"` + strings.Repeat("r", 1<<20) + `"`, strings.Repeat("9", 1<<20)} {
		before := labelled(t, r, "realtime_frames_bad_total", "bad_ref")
		c.message(fmt.Sprintf(`[%s,"r","realtime:a","broadcast",{}]`, bad))
		c.message(fmt.Sprintf(`["10",%s,"realtime:a","broadcast",{}]`, bad))
		c.alive("bad refs")
		if n := labelled(t, r, "realtime_frames_bad_total", "bad_ref") - before; n != 2 {
			t.Errorf("%.40s: counted %v of 2 times", bad, n)
		}
	}
	// Leaving what is not there ends nothing: neither another instance, nor another's channel.
	for _, leave := range []string{`["9","l","realtime:a","phx_leave",{}]`, `["20","l","realtime:a","phx_leave",{}]`, `[20,"l","realtime:b","phx_leave",{}]`, `["1","l","realtime:theirs","phx_leave",{}]`, `[null,"l","realtime:nowhere","phx_leave",{}]`} {
		if got := c.answer(leave); got.Payload.Status != "ok" || got.Ref != `"l"` {
			t.Errorf("%s: %+v", leave, got)
		}
	}
	for _, topic := range []string{"a", "b"} {
		if got := c.answer(`["10","r","realtime:` + topic + `","broadcast",{}]`); got.Payload.Status != "ok" {
			t.Errorf("%s was left: %+v", topic, got)
		}
	}
	// What others have joined is nothing to this socket.
	for _, event := range []string{"broadcast", "access_token", "presence"} {
		if got := c.answer(fmt.Sprintf(`[%q,"r","realtime:theirs",%q,{"event":"e","access_token":"x"}]`, theirs, event)); string(got.Payload.Response) != `{"reason":"unmatched topic"}` {
			t.Errorf("%s on another's channel: %+v", event, got)
		}
	}
	victim.reply(victim.push("", "phoenix", "heartbeat", map[string]any{}))
	if n := count(victim, func(f frame) bool { return f.Event != "phx_reply" }); n != 0 {
		t.Errorf("the victim heard %d messages", n)
	}
	bystanders.undisturbed("spoofed refs")
}

// On wire version 1.0.0 a message is an object: names may come twice, and escaped. All read them as JSON.parse does.
func TestKeysGivenTwice(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	c := r.connect()
	c.write([]byte(upgradeRequest("/socket/websocket?apikey="+token(t, "evil", "authenticated", nil), "")))
	if got := c.response(); got.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(got.Status)
	}
	for _, tt := range []struct{ frame, want string }{
		{`{"topic":"realtime:a","topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}`, `{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1","topic":"phoenix"}`},
		{`{"topic":"phoenix","to\u0070ic":"realtime:a","event":"heartbeat","payload":{},"ref":"2"}`, `{"event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"ref":"2","topic":"realtime:a"}`},
		{`{"\u0074opic":"phoenix","event":"x","\u0065vent":"heartbeat","payload":1,"payload":{},"ref":"x","ref":"3"}`, `{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"3","topic":"phoenix"}`},
		{`{"Topic":"realtime:a","topic":"phoenix","event":"heartbeat","payload":{},"ref":"4","REF":"5"}`, `{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"4","topic":"phoenix"}`},
		{`{"payload":{"topic":"realtime:a","ref":"9"},"topic":"phoenix","event":"heartbeat","ref":"6"}`, `{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"6","topic":"phoenix"}`},
		{`{"topic":"realtime:a","event":"phx_join","payload":{"access_token":"x"},"payload":{},"ref":"7"}`, `{"event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[]}},"ref":"7","topic":"realtime:a"}`},
		{`{"topic":"realtime:a","event":"broadcast","payload":{"event":"e","payload":{},"ids":[1],"event":"f"},"ref":"8"}`, `{"event":"phx_reply","payload":{"status":"error","response":{"reason":"InvalidBroadcast: A broadcast may not have a key named ` + "`ids`" + `"}},"ref":"8","topic":"realtime:a"}`},
	} {
		c.message(tt.frame)
		if op, payload, err := c.next(); err != nil || op != opText || string(payload) != tt.want {
			t.Errorf("%s: %#x %s %v, want %s", tt.frame, op, payload, err, tt.want)
		}
	}
	bystanders.undisturbed("keys given twice")
}
