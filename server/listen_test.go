package main

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

func TestSocketAddress(t *testing.T) {
	t.Parallel()
	const query = "?apikey=T%26&vsn=2.0.0"
	for server, want := range map[string]string{
		"http://localhost:4000":                  "ws://localhost:4000/realtime/v1/websocket",
		"http://localhost:4000/":                 "ws://localhost:4000/realtime/v1/websocket",
		"https://example.com/base":               "wss://example.com/base/realtime/v1/websocket",
		"wss://example.com/socket/websocket?a=b": "wss://example.com/socket/websocket",
	} {
		if got, err := socketAddress(server, "T&"); err != nil || got != want+query {
			t.Errorf("%s: %s, %v", server, got, err)
		}
	}
	for _, server := range []string{"localhost:4000", "ftp://localhost", "", "http://"} {
		if got, err := socketAddress(server, "T"); err == nil {
			t.Errorf("%q: %s", server, got)
		}
	}
}

func TestListenUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--topic", "a"}, {"--token", "T"}, {"http://a", "http://b", "--topic", "a", "--token", "T"}, {"nowhere", "--topic", "a", "--token", "T"}} {
		got := runProgram(t, nil, append([]string{"listen"}, args...)...)
		if got.code != exitUsage || got.out != "" || got.errout == "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// TestListenKeepsTheToken looks for it in what is said when there is no connection.
func TestListenKeepsTheToken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	l.Close()
	got := runProgram(t, nil, "listen", nobody, "--topic", "a", "--token", "sesame")
	if got.code != exitFinding || !strings.Contains(got.errout, "refused") || strings.Contains(got.errout, "sesame") {
		t.Errorf("no server: %+v", got)
	}
	r := start(t, pgtest.New(t), nil)
	got = runProgram(t, nil, "listen", "http://"+r.public.Addr().String(), "--topic", "a", "--token", "sesame")
	if got.code != exitFinding || !strings.Contains(got.errout, "the server answered 401 Unauthorized: ") || strings.Contains(got.errout, "sesame") {
		t.Errorf("bad token: %+v", got)
	}
}

func TestListenerHears(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		m         protocol.Message
		out, fail string
	}{
		{protocol.Message{Event: "phx_reply", Ref: refJoin, Payload: []byte(`{"status":"ok","response":{"postgres_changes":[]}}`)}, "joined room:1\n", ""},
		{protocol.Message{Event: "phx_reply", Ref: refJoin, Payload: []byte(`{"status":"error","response":{"reason":"No: never"}}`)}, "", "the server refused room:1: No: never"},
		{protocol.Message{Event: "phx_reply", Ref: `"2"`, Payload: []byte(`{"status":"ok"}`)}, "", ""},
		{protocol.Message{Event: "broadcast", Payload: []byte(`{"type":"broadcast","event":"e","payload":{"a":1}}`)}, "broadcast e {\"a\":1}\n", ""},
		{protocol.Message{Event: "broadcast", Push: &protocol.UserBroadcast{Event: "e", Encoding: protocol.JSON, Payload: []byte(`{"a":1}`)}}, "broadcast e {\"a\":1}\n", ""},
		{protocol.Message{Event: "broadcast", Push: &protocol.UserBroadcast{Event: "e\x1b[2J", Payload: []byte("\x00\xff")}}, "broadcast e\ufffd[2J 00ff\n", ""},
		{protocol.Message{Event: "broadcast", Payload: []byte(`[1]`)}, "broadcast [1]\n", ""},
		{protocol.Message{Event: "system", Payload: []byte(`{"status":"ok","message":"hello"}`)}, "system ok hello\n", ""},
		{protocol.Message{Event: "presence_state", Payload: []byte(`{}`)}, "presence_state {}\n", ""},
		{protocol.Message{Event: "phx_error", Payload: []byte(`{}`)}, "", "the server ended room:1"},
	} {
		var out bytes.Buffer
		l := &listener{name: "room:1", out: &out}
		fail := ""
		if err := l.hear(tt.m); err != nil {
			fail = err.Error()
		}
		if out.String() != tt.out || fail != tt.fail {
			t.Errorf("%s %s: %q, %q", tt.m.Event, tt.m.Payload, out.String(), fail)
		}
	}
}
