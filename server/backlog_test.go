package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
)

// halting is a client that reads one frame at a time, when the test asks for it. What it does not read waits in the
// server, and a little in the kernel.
type halting struct {
	t    *testing.T
	conn *websocket.Conn
}

func (r *running) dialHalting(t *testing.T, tok string) halting {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	small := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return conn, err
	}
	conn, _, err := websocket.Dial(ctx, "ws://"+r.public.Addr().String()+"/socket/websocket?vsn=2.0.0&apikey="+tok,
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: small}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	return halting{t, conn}
}

func (h halting) write(message string) {
	h.t.Helper()
	if err := h.conn.Write(context.Background(), websocket.MessageText, []byte(message)); err != nil {
		h.t.Fatal(err)
	}
}

func (h halting) next() frame {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, data, err := h.conn.Read(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	f, err := parseFrame("2.0.0", kind == websocket.MessageBinary, data)
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

// A client that does not read keeps a backlog. When its right is taken away, what has not begun to leave is dropped, and
// only that: its other channel goes on.
func TestRevocationDropsTheBacklog(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('slow', 'a'), ('slow', 'b'), ('quick', 'a'), ('quick', 'b');`)
	slow, quick := r.dialHalting(t, token(t, "slow", "authenticated", nil)), r.dial(token(t, "quick", "authenticated", nil))
	for _, room := range []string{"a", "b"} {
		if _, status, reason := quick.join(room, private()); status != "ok" {
			t.Fatal(reason)
		}
		slow.write(`["1","1","realtime:` + room + `","phx_join",{"config":{"private":true}}]`)
		if f := slow.next(); f.Event != "phx_reply" {
			t.Fatalf("%+v", f)
		}
	}
	const messages = 300 // of which the kernel holds a part
	r.exec(`select realtime.send(jsonb_build_object('n', n, 'padding', repeat('x', 3000)), 'm', 'a'),
		case when n % 100 = 0 then realtime.send(jsonb_build_object('n', n), 'm', 'b') end from generate_series(1, $1) as n`, messages)
	r.exec(`select realtime.send('{}', 'last', 'b')`)
	quick.wait("the last message", broadcastOf("b", "last"))
	r.exec(`delete from members where user_id = 'slow' and room = 'a'`)
	r.await("the cut", func() bool { return counter(t, r, "realtime_channels_closed_total") == 1 })

	inA, inB, closed := 0, 0, false
	for last := false; !closed || !last; {
		f := slow.next()
		var p struct {
			Event   string
			Payload struct{ N int }
		}
		if f.Event == "broadcast" && json.Unmarshal(f.Payload, &p) != nil {
			t.Fatalf("%s", f.Payload)
		}
		switch {
		case f.Event == "phx_close":
			closed = true
		case f.Event != "broadcast":
		case f.Topic == "realtime:a":
			if inA++; closed || p.Payload.N != inA {
				t.Fatalf("message %d of room a, the %dth, closed %v", p.Payload.N, inA, closed)
			}
		case p.Event == "last":
			last = true
		default:
			inB++
		}
	}
	if inA == messages {
		t.Errorf("all %d messages arrived: nothing was dropped", messages)
	}
	if inB != messages/100 {
		t.Errorf("%d messages of the other room, want %d", inB, messages/100)
	}
}
