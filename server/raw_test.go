package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
	"unicode/utf8"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// Opcodes of RFC 6455, and the bit that says that a frame ends its message.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
	fin            = 0x80
)

// raw is a client that can break every rule: it writes bytes, and takes what it reads apart by itself.
type raw struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// connect opens a connection and says nothing.
func (r *running) connect() *raw {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.public.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return newRaw(r.t, conn)
}

func newRaw(t testing.TB, conn net.Conn) *raw {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	return &raw{t, conn, bufio.NewReader(conn)}
}

// upgradeRequest is a legal handshake with more header lines, each ending in CRLF.
func upgradeRequest(target, more string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + more + "\r\n"
}

const socketPath = "/socket/websocket?vsn=2.0.0&apikey="

// upgrade opens a socket of wire version 2.0.0.
func (r *running) upgrade(tok string) *raw {
	r.t.Helper()
	c := r.connect()
	c.write([]byte(upgradeRequest(socketPath+tok, "")))
	if got := c.response(); got.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("handshake answered %s", got.Status)
	}
	return c
}

// response reads the answer to a request; its body can be read until the next call.
func (c *raw) response() *http.Response {
	c.t.Helper()
	got, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read the answer: %v", err)
	}
	return got
}

// write sends bytes. What the server no longer takes is no failure: it may have closed already.
func (c *raw) write(b []byte) bool {
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write(b)
	if errors.Is(err, net.ErrClosed) || isTimeout(err) {
		c.t.Errorf("write: %v", err)
	}
	return err == nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// message sends one whole text message.
func (c *raw) message(text string) bool { return c.write(clientFrame(fin|opText, text)) }

// clientFrame is a frame as a client must mask it; the key is 0, so that the payload can be read. first holds FIN, reserved
// bits and opcode.
func clientFrame(first byte, payload string) []byte {
	return append(clientHeader(first, uint64(len(payload))), payload...)
}

// clientHeader is what stands before a payload of size bytes.
func clientHeader(first byte, size uint64) []byte {
	b := []byte{first}
	switch {
	case size < 126:
		b = append(b, 0x80|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), size)
	}
	return append(b, 0, 0, 0, 0)
}

// next reads one frame, which must be whole and unmasked, as a server's are.
func (c *raw) next() (op byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(c.r, head[:2]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != fin || head[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("illegal frame from the server: % x", head[:2])
	}
	n := uint64(head[1])
	if extra := map[uint64]int{126: 2, 127: 8}[n]; extra > 0 {
		if _, err := io.ReadFull(c.r, head[10-extra:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(head[2:])
		if extra == 2 {
			n &= 0xffff
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return head[0] & 0xf, payload, err
}

// reply reads up to the answer to a push and gives its status and response; what stands before it is dropped.
func (c *raw) reply(ref string) (status, response string) {
	c.t.Helper()
	for {
		op, payload, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for the reply to %s: %v", ref, err)
		}
		if op == opClose {
			c.t.Fatalf("waiting for the reply to %s: closed with %q", ref, payload)
		}
		var answer struct {
			Status   string
			Response json.RawMessage
		}
		f, err := parseFrame("2.0.0", op == opBinary, payload)
		if op != opPong && err != nil {
			c.t.Fatalf("read %q: %v", payload, err)
		}
		if f.Event == "phx_reply" && f.Ref != nil && *f.Ref == ref && json.Unmarshal(f.Payload, &answer) == nil {
			return answer.Status, string(answer.Response)
		}
	}
}

// alive proves that the socket has read and understood everything up to here.
func (c *raw) alive(what string) {
	c.t.Helper()
	c.message(`[null,"alive","phoenix","heartbeat",{}]`)
	if status, response := c.reply("alive"); status != "ok" {
		c.t.Errorf("%s: heartbeat answered %s %s", what, status, response)
	}
}

// ended reads to the end and gives the code of the server's close frame, which it answers; 0 if there was none, as when a
// connection is reset.
func (c *raw) ended() (code int) {
	c.t.Helper()
	for {
		op, payload, err := c.next()
		switch {
		case isTimeout(err):
			c.t.Fatalf("the socket was not ended")
		case err != nil:
			return code
		case code != 0:
			c.t.Errorf("opcode %#x after the close frame", op)
		case op == opClose && len(payload) == 0:
			code = 1005 // RFC 6455: no status code was given
		case op == opClose:
			code = int(binary.BigEndian.Uint16(payload))
			if !utf8.Valid(payload[2:]) {
				c.t.Errorf("the reason of the close frame is not UTF-8: %q", payload[2:])
			}
			c.write(clientFrame(fin|opClose, string(payload[:2])))
		}
	}
}

// bystanders are two clients on a private channel, whose talk no attack may disturb.
type bystanders struct {
	r        *running
	from, to *client
	joinRef  string
	sent     int
}

// underAttack starts a server with bystanders on it.
func underAttack(t testing.TB, change func(*Config)) (*running, *bystanders) {
	t.Helper()
	r := start(t, pgtest.New(t), change)
	r.exec(allowMembers + `insert into members values ('good1', 'healthy'), ('good2', 'healthy')`)
	b := &bystanders{r: r, from: r.dial(token(t, "good1", "authenticated", nil)), to: r.dial(token(t, "good2", "authenticated", nil))}
	for _, c := range []*client{b.from, b.to} {
		joinRef, status, reason := c.join("healthy", private())
		if status != "ok" {
			t.Fatalf("bystander: %s", reason)
		}
		if c == b.from {
			b.joinRef = joinRef
		}
	}
	return r, b
}

// undisturbed has the bystanders talk, and wants to see nothing else on their sockets.
func (b *bystanders) undisturbed(after string) {
	b.r.t.Helper()
	b.sent++
	event := fmt.Sprint("talk", b.sent)
	ref := b.from.push(b.joinRef, "realtime:healthy", "broadcast", map[string]any{"type": "broadcast", "event": event, "payload": map[string]any{}})
	if status, response := b.from.reply(ref); status != "ok" {
		b.r.t.Errorf("after %s: a bystander cannot send: %s", after, response)
	}
	for _, c := range []*client{b.from, b.to} {
		c.wait("the talk of bystanders", broadcastOf("healthy", event))
		for _, f := range c.all() {
			if f.Event != "phx_reply" && f.Event != "broadcast" || f.Topic != "realtime:healthy" {
				b.r.t.Errorf("after %s: a bystander heard %s %s %s", after, f.Topic, f.Event, f.Payload)
			}
		}
		if n := count(c, isEvent("healthy", "broadcast")); n != b.sent {
			b.r.t.Errorf("after %s: a bystander heard %d broadcasts of %d", after, n, b.sent)
		}
	}
}

// labelled is the value of a metric with this label, or 0.
func labelled(t testing.TB, r *running, name, label string) float64 {
	t.Helper()
	return metricstest.Value(t, r.metrics, name, label)
}
