package protocol_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rowcast/server/protocol"
)

// TestFrames keeps every form a server frame has, in both versions, as the reader of the wire sees it.
func TestFrames(t *testing.T) {
	t.Parallel()
	const joinRef, ref = protocol.Ref(`"6"`), protocol.Ref(`"7"`)
	system := func(extension, status, message, channel string) []byte {
		return protocol.SystemPayload(extension, status, message, channel)
	}
	user := func(b protocol.UserBroadcast) func(protocol.Version) []byte {
		f, err := protocol.NewUserBroadcast(room, b)
		if err != nil {
			t.Fatal(err)
		}
		return f.Bytes
	}
	reply := func(status string, response []byte) func(protocol.Version) []byte {
		return func(v protocol.Version) []byte { return protocol.Reply(v, joinRef, ref, room, status, response) }
	}
	push := func(join, ref protocol.Ref, event string, payload []byte) func(protocol.Version) []byte {
		return func(v protocol.Version) []byte { return protocol.Push(v, join, ref, room, event, payload) }
	}
	changes := [][]byte{
		[]byte(`{"event":"*","schema":"public","table":"messages","filter":"room_id=eq.1"}`),
		[]byte(`{ "event":"INSERT" , "schema":"public" }`),
	}
	replayed := protocol.BroadcastPayload("cur", []byte(`{"x":1}`), []byte(`{"id":"3f0c6f0e","replayed":true}`))
	frames := []struct {
		name string
		make func(protocol.Version) []byte
	}{
		{"heartbeat reply", func(v protocol.Version) []byte { return protocol.HeartbeatReply(v, `"13"`) }},
		{"join reply", reply("ok", slices.Concat([]byte(`{"postgres_changes":`), protocol.EchoChanges(nil), []byte(`}`)))},
		{"join reply with changes", reply("ok", slices.Concat([]byte(`{"postgres_changes":`), protocol.EchoChanges(changes), []byte(`}`)))},
		{"join refused", reply("error", protocol.Unauthorized.Response("room:1"))},
		{"leave reply", reply("ok", nil)},
		{"ack", reply("ok", nil)},
		{"push too large", reply("error", protocol.PayloadSizeExceeded.Response())},
		{"send denied", reply("error", protocol.SendDenied.Response("room:1"))},
		{"unmatched topic", func(v protocol.Version) []byte {
			return protocol.Reply(v, "", ref, room, "error", protocol.UnmatchedTopic.Response())
		}},
		{"close", push(joinRef, joinRef, "phx_close", nil)},
		{"error", push(joinRef, joinRef, "phx_error", []byte(`{"reason":"channel_crash"}`))},
		{"subscribed", push(joinRef, "", "system", system("postgres_changes", "ok", protocol.TextSubscribed, "room:1"))},
		{"token expired", push(joinRef, "", "system", system("system", "error", protocol.InvalidJWTToken.Text(3), "room:1"))},
		{"read denied", push(joinRef, "", "system", system("system", "error", protocol.DenialRead(room), "room:1"))},
		{"read lost", push(joinRef, "", "system", system("system", "error", protocol.NoLongerRead(room), "room:1"))},
		{"disconnect", push("", "", "system", system("system", "ok", protocol.ServerDisconnect.Reason(), ""))},
		{"presence state", push(joinRef, "", "presence_state", []byte(`{"u1":{"metas":[{"phx_ref":"F1","name":"a"}]}}`))},
		{"presence diff", protocol.TextEvent(room, "presence_diff", []byte(`{"joins":{},"leaves":{}}`)).Bytes},
		{"changes", protocol.TextEvent(room, "postgres_changes", []byte(`{"ids":[1],"data":{}}`)).Bytes},
		{"text broadcast", protocol.TextBroadcast(room, []byte(`{"type":"broadcast","event":"cur","payload":{"x":1}}`)).Bytes},
		{"replayed broadcast", push(joinRef, "", "broadcast", replayed)},
		{"user broadcast, JSON", user(protocol.UserBroadcast{Event: "cur", Encoding: protocol.JSON, Payload: []byte(`{"x":1}`)})},
		{"user broadcast, bytes", user(protocol.UserBroadcast{Event: "bin", Payload: []byte{0xde, 0xad}})},
		{"database broadcast", user(protocol.UserBroadcast{
			Event: "cur", Encoding: protocol.JSON, Meta: []byte(`{"id":"3f0c6f0e"}`), Payload: []byte(`{"x":1}`)})},
	}
	var out strings.Builder
	for _, f := range frames {
		for _, v := range []protocol.Version{protocol.V1, protocol.V2} {
			fmt.Fprintf(&out, "%s, %s: ", f.name, v)
			frame := f.make(v)
			op, payload, err := parseFrame(frame)
			switch {
			case frame == nil:
				out.WriteString("not carried\n")
			case err != nil:
				t.Errorf("%s, %s: %v", f.name, v, err)
			case op == opBinary:
				fmt.Fprintf(&out, "% x\n", payload)
			default:
				out.WriteString(textOf(t, frame) + "\n")
			}
		}
	}
	golden(t, "frames.golden", out.String())
}

// TestExamples compares with the examples of the protocol as clients know them.
func TestExamples(t *testing.T) {
	t.Parallel()
	sameJSON(t, textOf(t, protocol.HeartbeatReply(protocol.V2, `"13"`)),
		`[null,"13","phoenix","phx_reply",{"status":"ok","response":{}}]`)
	sameJSON(t, textOf(t, protocol.HeartbeatReply(protocol.V1, `"13"`)),
		`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"13","topic":"phoenix"}`)
	sameJSON(t, textOf(t, protocol.Reply(protocol.V2, `"6"`, `"6"`, room, "ok", []byte(`{"postgres_changes":[]}`))),
		`["6","6","realtime:room:1","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]`)
	sameJSON(t, textOf(t, protocol.Reply(protocol.V2, "", `"7"`, room, "error", protocol.UnmatchedTopic.Response())),
		`[null,"7","realtime:room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)
	sameJSON(t, textOf(t, protocol.Push(protocol.V2, `"6"`, `"6"`, room, "phx_close", nil)),
		`["6","6","realtime:room:1","phx_close",{}]`)
	sameJSON(t, textOf(t, protocol.Push(protocol.V2, `"6"`, "", room, "system",
		protocol.SystemPayload("postgres_changes", "ok", "Subscribed to PostgreSQL", "room:1"))),
		`["6",null,"realtime:room:1","system",{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"room:1"}]`)
}

// TestCodes keeps the wording of everything clients are told.
func TestCodes(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	seen := map[protocol.Code]bool{}
	for _, e := range protocol.Codes() {
		if seen[e.Code] {
			t.Errorf("%s is in the table twice", e.Code)
		}
		seen[e.Code] = true
		closes := e.Where&protocol.InClose != 0
		if e.Where == 0 || len(e.Texts) == 0 || closes != (e.Close != 0) {
			t.Errorf("%s is incomplete: %+v", e.Code, e)
		}
		var where []string
		for i, name := range []string{"join reply", "push reply", "system", "REST", "close"} {
			if e.Where&(1<<i) != 0 {
				where = append(where, name)
			}
		}
		if closes {
			where[len(where)-1] += fmt.Sprintf(" %d", e.Close)
		}
		fmt.Fprintf(&out, "%s (%s)\n", e.Code, strings.Join(where, ", "))
		for _, text := range e.Texts {
			fmt.Fprintf(&out, "    %s\n", e.Code.Because(text))
		}
		for _, text := range e.REST {
			fmt.Fprintf(&out, "    over REST: %s\n", text)
		}
	}
	golden(t, "codes.golden", out.String())
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{protocol.TopicNameRequired.Reason(), "TopicNameRequired: You must provide a topic name"},
		{protocol.InvalidJWTToken.Reason(42), "InvalidJWTToken: Token has expired 42 seconds ago"},
		{protocol.InvalidJWTToken.Because(protocol.TextTokenClaims), "InvalidJWTToken: Fields `role` and `exp` are required in JWT"},
		{protocol.JwtSignerError.Because(fmt.Sprintf(protocol.TextSignerKey, "k1")),
			`JwtSignerError: Failed to generate JWT signer for key ID (kid) "k1", check your JWT secret or JWKS configuration`},
		{protocol.Unauthorized.Reason("100%d"), "Unauthorized: You do not have permissions to read from this Channel topic: 100%d"},
		{protocol.DenialRead("realtime:room:1"), "You do not have permissions to read from this Channel topic: room:1"},
		{protocol.NoLongerRead("realtime:realtime:x"), "You no longer have permission to read from this Channel topic: realtime:x"},
		{protocol.UnmatchedTopic.Reason(), "unmatched topic"},
		{string(protocol.PayloadSizeExceeded.Response()), `"payload_size_exceeded"`},
		{string(protocol.PrivateOnly.Response()), `{"reason":"PrivateOnly: This project only allows private channels"}`},
		{string(protocol.UnableToReplayMessages.ResponseBecause(protocol.TextReplayParams)),
			`{"reason":"UnableToReplayMessages: Replay params are not valid"}`},
		{string(protocol.Unauthorized.Response("a\"b")),
			`{"reason":"Unauthorized: You do not have permissions to read from this Channel topic: a\"b"}`},
	} {
		if tt.got != tt.want {
			t.Errorf("got  %s\nwant %s", tt.got, tt.want)
		}
	}
}
