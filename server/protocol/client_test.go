package protocol_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/protocol"
)

// TestDecodeServer reads back what the server writes.
func TestDecodeServer(t *testing.T) {
	t.Parallel()
	const topic = "realtime:room:1"
	push := protocol.UserBroadcast{Event: "message", Encoding: protocol.JSON, Meta: []byte(`{"id":"7"}`), Payload: []byte(`{"a":1}`)}
	broadcast, err := protocol.NewUserBroadcast(topic, push)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		frame []byte
		want  protocol.Message
	}{
		{broadcast.Bytes(protocol.V2), protocol.Message{Topic: topic, Event: "broadcast", Push: &push}},
		{protocol.Push(protocol.V2, `"1"`, "", topic, "system", []byte(`{"a":1}`)),
			protocol.Message{JoinRef: `"1"`, Topic: topic, Event: "system", Payload: []byte(`{"a":1}`)}},
		{protocol.Reply(protocol.V2, `"1"`, `"2"`, topic, "ok", nil),
			protocol.Message{JoinRef: `"1"`, Ref: `"2"`, Topic: topic, Event: "phx_reply", Payload: []byte(`{"status":"ok","response":{}}`)}},
	} {
		op, payload, err := parseFrame(tt.frame)
		if err != nil {
			t.Fatal(err)
		}
		got, err := protocol.DecodeServer(op == opBinary, payload)
		if err != nil {
			t.Fatalf("%q: %v", payload, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", payload, diff)
		}
		for n := range payload { // cut short anywhere, it is an error or a shorter payload, never a panic
			_, _ = protocol.DecodeServer(op == opBinary, payload[:n])
		}
	}
	for data, want := range map[string]error{
		"": protocol.ErrTruncated, "\x03\x01": protocol.ErrKind, "\x04": protocol.ErrTruncated, "\x04\x01\x01\x00\x00t": protocol.ErrTruncated,
	} {
		if _, err := protocol.DecodeServer(true, []byte(data)); err != want {
			t.Errorf("%q: %v, want %v", data, err, want)
		}
	}
}
