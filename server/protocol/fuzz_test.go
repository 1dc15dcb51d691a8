package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/protocol"
)

// checkMessage holds for every accepted text message: what encoding/json reads in the frame is what Decode read, and
// the message can be sent back in both versions.
func checkMessage(t *testing.T, m protocol.Message, want [5]json.RawMessage) {
	t.Helper()
	for i, got := range []string{string(m.JoinRef), string(m.Ref)} {
		if got == "" {
			got = "null"
		}
		if wantRef := string(want[i]); got != wantRef {
			t.Fatalf("reference %d: got %s, want %s", i, got, wantRef)
		}
	}
	var topic, event string
	if json.Unmarshal(want[2], &topic) != nil || json.Unmarshal(want[3], &event) != nil || m.Topic != topic || m.Event != event {
		t.Fatalf("got topic %q event %q, want %s %s", m.Topic, m.Event, want[2], want[3])
	}
	if !bytes.Equal(m.Payload, want[4]) || m.Push != nil {
		t.Fatalf("got payload %s, want %s", m.Payload, want[4])
	}
	payload := m.Payload
	if !protocol.IsObject(payload) {
		payload = []byte(`{}`)
	}
	for _, v := range []protocol.Version{protocol.V1, protocol.V2} {
		back := []byte(textOf(t, protocol.Push(v, m.JoinRef, m.Ref, m.Topic, m.Event, m.Payload)))
		again, err := protocol.Decode(v, false, back)
		if err != nil {
			t.Fatalf("%s does not come back: %v", back, err)
		}
		if again.Topic != m.Topic || again.Event != m.Event || again.Ref != m.Ref || !bytes.Equal(again.Payload, payload) {
			t.Fatalf("%+v came back as %+v", m, again)
		}
		textOf(t, protocol.Reply(v, m.JoinRef, m.Ref, m.Topic, "ok", m.Payload))
	}
}

// checkRefused holds for every refused frame: the error has a label and nothing of the content is left.
func checkRefused(t *testing.T, m protocol.Message, err error) {
	t.Helper()
	var cause protocol.DecodeError
	if !errors.As(err, &cause) || cause.Label() == "" || cause.Error() == cause.Label() {
		t.Fatalf("error %v has no name or no sentence", err)
	}
	if m.Payload != nil || m.Push != nil {
		t.Fatalf("a refused frame left %+v", m)
	}
	textOf(t, protocol.Reply(protocol.V2, m.JoinRef, m.Ref, m.Topic, "error", protocol.MalformedWebSocketMessage.Response(err)))
}

func FuzzDecodeV1(f *testing.F) {
	for _, seed := range []string{
		`{"topic":"realtime:room:1","event":"phx_join","payload":{"config":{}},"ref":"1","join_ref":"1"}`,
		`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"13"}`,
		` {"topic":"a","t\u006fpic":"b","event":"e\ud83d\ude00\ud800","payload":[{"x":"\\\""}],"ref":12, "x":{}} `,
		`{"topic":"t","event":"e","payload":null,"ref":null,"join_ref":null}`, `{}`, `[]`, `{"topic":}`, "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := protocol.Decode(protocol.V1, false, data)
		if err != nil {
			checkRefused(t, m, err)
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil {
			t.Fatalf("accepted although: %v", err)
		}
		joinRef, ok := object["join_ref"]
		if !ok {
			joinRef = json.RawMessage("null")
		}
		checkMessage(t, m, [5]json.RawMessage{joinRef, object["ref"], object["topic"], object["event"], object["payload"]})
	})
}

func FuzzDecodeV2Text(f *testing.F) {
	for _, seed := range []string{
		`["6","6","realtime:room:1","phx_join",{"config":{"private":true}}]`, `[null,"13","phoenix","heartbeat",{}]`,
		` [ 1 , "\"]" , "a\\" , "\u0000é" , {"a":[1,{"b":"]}"}]} , 6 ] `, `["6","7","t","e","\ud800"]`,
		`["6","7","t","e"]`, `[[],{},"t","e",{}]`, `{"a":1}`, `[`, "", "[null,null,\"\xff\",\"\",{}]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := protocol.Decode(protocol.V2, false, data)
		if err != nil {
			checkRefused(t, m, err)
			return
		}
		var array []json.RawMessage
		if err := json.Unmarshal(data, &array); err != nil || len(array) < 5 {
			t.Fatalf("accepted with %d elements, %v", len(array), err)
		}
		checkMessage(t, m, [5]json.RawMessage(array))
	})
}

func FuzzDecodeBinary(f *testing.F) {
	f.Add(fromHex(f, pushJSON))
	f.Add(fromHex(f, pushBytes))
	f.Add(push("", "", "", "", "", 0, ""))
	f.Add(push("1", "\"", "t", "e", `{"id":"x"}`, 1, ` [1, "\u0000"] `))
	f.Add(push("1", "2", "t", "e", ` `, 1, `"text"`))
	f.Add(push("1", "2", "t", "e", `[]`, 0, `x`))
	f.Add([]byte{3, 1, 1, 255, 0, 0, 0})
	f.Add([]byte{4, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := protocol.Decode(protocol.V1, true, data); err != protocol.ErrBinaryOnV1 || m.Push != nil {
			t.Fatalf("version 1.0.0 read a binary frame: %+v, %v", m, err)
		}
		m, err := protocol.Decode(protocol.V2, true, data)
		if err != nil {
			checkRefused(t, m, err)
			return
		}
		textOf(t, protocol.Reply(protocol.V2, m.JoinRef, m.Ref, m.Topic, "ok", nil))
		frame, err := protocol.NewUserBroadcast(m.Topic, *m.Push)
		if err != nil {
			t.Fatalf("what came in cannot go out: %v", err)
		}
		topic, got := userBroadcast(t, binaryOf(t, frame.Bytes(protocol.V2)))
		if topic != m.Topic || got.Event != m.Push.Event || got.Encoding != m.Push.Encoding ||
			!bytes.Equal(got.Meta, m.Push.Meta) || !bytes.Equal(got.Payload, m.Push.Payload) {
			t.Fatalf("%+v came out as %+v", *m.Push, got)
		}
		if m.Push.Encoding == protocol.Binary {
			if b := frame.Bytes(protocol.V1); b != nil {
				t.Fatalf("version 1.0.0 carries bytes: %q", b)
			}
			return
		}
		back, err := protocol.Decode(protocol.V1, false, []byte(textOf(t, frame.Bytes(protocol.V1))))
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := protocol.Member(back.Payload, "payload")
		if back.Topic != m.Topic || !bytes.Equal(payload, bytes.Trim(m.Push.Payload, " \t\r\n")) {
			t.Fatalf("%+v came out as %s", *m.Push, back.Payload)
		}
	})
}

func FuzzParseJoin(f *testing.F) {
	for _, seed := range []string{
		`{"config":{"broadcast":{"ack":false,"self":false},"presence":{"key":"","enabled":false},"postgres_changes":[],"private":false}}`,
		`{"config":{"private":true,"broadcast":{"replay":{"after":["a","b"],"since":1,"limit":2}}}}`,
		`{"access_token":"jwt","user_token":null,"config":{"private":"TRUE","broadcast":{"replay":{"since":1,"limit":2}}}}`,
		`{"config":{"postgres_changes":[{"id":1, "a":{"id":2}},null,{},{ },{"\u0069d":[]}],"presence":{"key":-1.5}}}`,
		`{"config":{"postgres_changes":[{"a":"\ud800"},{"a":"\ud800"}]}}`, `{"config":null}`, `{"config":[]}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := protocol.ParseJoin(data)
		if err != nil {
			var wrong *protocol.JoinError
			if !errors.As(err, &wrong) || wrong.Field == "" || wrong.Want == "" {
				t.Fatalf("error %v names no field", err)
			}
			return
		}
		if !utf8.ValidString(j.PresenceKey) || !utf8.ValidString(j.Token) || j.Replay.Valid && !j.HasReplay {
			t.Fatalf("accepted as %+v", j)
		}
		checkEcho(t, j.Changes)
	})
}

// checkEcho wants every entry back in order, with an id and otherwise unchanged.
func checkEcho(t *testing.T, entries [][]byte) {
	t.Helper()
	before := slices.Clone(entries)
	var echo []map[string]any
	raw := protocol.EchoChanges(entries)
	if err := json.Unmarshal(raw, &echo); err != nil || len(echo) != len(entries) {
		t.Fatalf("%d entries came back as %s: %v", len(entries), raw, err)
	}
	for i, entry := range entries {
		var want map[string]any
		if err := json.Unmarshal(entry, &want); err != nil {
			t.Fatal(err)
		}
		id, ok := echo[i]["id"].(float64)
		if !ok || id != float64(int(id)) || id < 0 || id >= 1<<27 {
			t.Fatalf("id of %s", raw)
		}
		want["id"] = id
		if diff := cmp.Diff(want, echo[i]); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.Equal(before[i], entry) {
			t.Fatal("an entry was changed")
		}
	}
}
