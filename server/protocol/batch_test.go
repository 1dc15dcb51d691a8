package protocol_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/protocol"
)

func TestBatchOfBroadcasts(t *testing.T) {
	t.Parallel()
	body := `{"messages": [
		{"topic": "room:1", "event": "a", "payload": {"n": 1}, "private": true, "id": "x\"1", "more": [1]},
		{"topic": "realtime:room:1", "event": "ev\u00e9nt", "payload": [ 1, 2 ], "private": false, "id": null},
		{"topic": "t", "event": "e", "payload": "", "private": null},
		{"topic": "t", "event": "e", "payload": 1, "payload": false, "private": true, "private": false}
	], "messages_": 3}`
	got, err := protocol.DecodeBatch([]byte(body), protocol.BatchLimits{})
	if err != nil {
		t.Fatal(err)
	}
	want := []protocol.BatchMessage{
		{Topic: "room:1", Event: "a", Payload: []byte(`{"n": 1}`), Private: true, ID: `x"1`},
		{Topic: "realtime:room:1", Event: "evént", Payload: []byte(`[ 1, 2 ]`)},
		{Topic: "t", Event: "e", Payload: []byte(`""`)},
		{Topic: "t", Event: "e", Payload: []byte(`false`)}, // the last counts
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	sameJSON(t, textOf(t, got[0].Frame().Bytes(protocol.V2)),
		`[null,null,"realtime:room:1","broadcast",{"event":"a","payload":{"n":1},"type":"broadcast","meta":{"id":"x\"1"}}]`)
	sameJSON(t, textOf(t, got[1].Frame().Bytes(protocol.V1)),
		`{"topic":"realtime:realtime:room:1","event":"broadcast","ref":null,"payload":{"event":"evént","payload":[1,2],"type":"broadcast"}}`)
}

func TestBatchThatIsNotAsItShouldBe(t *testing.T) {
	t.Parallel()
	const good = `{"topic":"t","event":"e","payload":{}}`
	long := strings.Repeat("x", 256)
	tests := []struct{ name, body, want string }{
		{"no messages", `{}`, `"can't be blank"`},
		{"no object", `[` + good + `]`, `"can't be blank"`},
		{"null", `{"messages":null}`, `"can't be blank"`},
		{"empty", `{"messages":[ ]}`, `"can't be blank"`},
		{"no array", `{"messages":` + good + `}`, `"is invalid"`},
		{"a message that is no object", `{"messages":[` + good + `,1]}`, `"is invalid"`},
		{"blank fields", `{"messages":[{"topic":"t"},` + good + `,{"topic":" ","event":null,"payload":null}]}`,
			`[{"event":["can't be blank"],"payload":["can't be blank"]},{},
			{"topic":["can't be blank"],"event":["can't be blank"],"payload":["can't be blank"]}]`},
		{"wrong types", `{"messages":[{"topic":1,"event":["e"],"payload":1,"private":"true","id":7}]}`,
			`[{"topic":["is invalid"],"event":["is invalid"],"private":["is invalid"],"id":["is invalid"]}]`},
		{"private by number", `{"messages":[{"topic":"t","event":"e","payload":1,"private":1}]}`, `[{"private":["is invalid"]}]`},
		{"too long", `{"messages":[{"topic":"` + long[:247] + `","event":"` + long + `","payload":0,"id":"` + long + `"}]}`,
			`[{"topic":["A topic may be at most 246 bytes long"],"event":["An event may be at most 255 bytes long"],"id":["An id may be at most 255 bytes long"]}]`},
		{"payload too large", `{"messages":[` + good + `,{"topic":"t","event":"e","payload":"` + long + `"}]}`,
			`[{},{"payload":["Payload size exceeds tenant limit"]}]`},
		{"payload too deep", `{"messages":[{"topic":"t","event":"e","payload":` + strings.Repeat(`[`, 513) + strings.Repeat(`]`, 513) + `}]}`,
			`[{"payload":["is nested too deeply"]}]`},
	}
	for _, tt := range tests {
		limits := protocol.BatchLimits{Messages: 3, PayloadBytes: 200}
		if tt.name == "payload too deep" {
			limits.PayloadBytes = 0
		}
		messages, err := protocol.DecodeBatch([]byte(tt.body), limits)
		var invalid *protocol.InvalidBatch
		if !errors.As(err, &invalid) || messages != nil || invalid.Error() == "" {
			t.Errorf("%s: %v, %v", tt.name, messages, err)
			continue
		}
		var got any = invalid.Whole
		if invalid.Whole == "" {
			got = invalid.Each
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, string(text), tt.want)
	}
	for body, want := range map[string]error{
		``: protocol.ErrMalformed, `{"messages":[` + good: protocol.ErrMalformed, "{\"messages\":[\"\xff\"]}": protocol.ErrUTF8,
		strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000):  protocol.ErrTooDeep,
		`{"messages":[1,` + strings.Repeat(good+",", 3) + `{}]}`: &protocol.InvalidBatch{Whole: "is invalid"},
		`{"messages":[` + strings.Repeat(good+",", 3) + `{}]}`:   protocol.ErrTooManyMessages,
	} {
		if _, err := protocol.DecodeBatch([]byte(body), protocol.BatchLimits{Messages: 3}); err == nil || err.Error() != want.Error() {
			t.Errorf("%.40s: %v, want %v", body, err, want)
		}
	}
}

// What is taken for a batch is one, and its messages can be carried by both versions.
func FuzzDecodeBatch(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"topic":"t","event":"e","payload":{"a":[1]},"private":true,"id":"i"}]}`,
		`{"messages":[{"topic":"t","event":"e","payload":null},{}]}`,
		"{\"messages\" : [ {\"t\\u006fpic\":\"\\ud800\",\"event\":\" \\t\",\"payload\":-1e9}\n]}",
		`{"messages":[],"messages":[{"topic":"a","topic":"b","event":"\"","payload":"\\"}]}`,
		`[]`, `{"messages":{}}`, `{"messages":[[]]}`, `{"messages":"x"}`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := protocol.DecodeBatch(body, protocol.BatchLimits{Messages: 4, PayloadBytes: 64})
		var invalid *protocol.InvalidBatch
		var malformed protocol.DecodeError
		switch {
		case errors.As(err, &invalid):
			wrong := invalid.Whole != ""
			for _, reasons := range invalid.Each {
				wrong = wrong || len(reasons) > 0
			}
			if !wrong {
				t.Fatal("refused for nothing")
			}
			return
		case errors.As(err, &malformed), errors.Is(err, protocol.ErrTooManyMessages):
			return
		case err != nil:
			t.Fatalf("an error of another kind: %v", err)
		}
		if len(messages) == 0 || len(messages) > 4 {
			t.Fatalf("%d messages of %q", len(messages), body)
		}
		for _, m := range messages {
			if m.Topic == "" || m.Event == "" || len(m.Payload) == 0 || len(m.Payload) > 64 {
				t.Fatalf("%+v", m)
			}
			for _, v := range []protocol.Version{protocol.V1, protocol.V2} {
				back, err := protocol.Decode(v, false, []byte(textOf(t, m.Frame().Bytes(v))))
				if err != nil || back.Topic != protocol.TopicPrefix+m.Topic {
					t.Fatalf("%+v comes as %+v: %v", m, back, err)
				}
				payload, _ := protocol.Member(back.Payload, "payload")
				event, _ := protocol.Member(back.Payload, "event")
				text, _ := protocol.Text(event)
				if string(payload) != string(m.Payload) || text != m.Event {
					t.Fatalf("%+v comes as %s", m, back.Payload)
				}
			}
		}
	})
}
