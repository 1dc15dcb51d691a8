package socket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
)

// A small WebSocket client that believes nothing: every frame from the server is checked bit by bit.

const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA
)

type frame struct {
	op      byte
	payload []byte
}

type client struct {
	conn net.Conn
	r    *bufio.Reader
}

// handshake is a legal request with more header lines, each ending in CRLF.
func handshake(more string) string {
	return "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + more + "\r\n"
}

// dial opens a socket; early is sent in the same packet as the request.
func dial(t testing.TB, addr string, early ...byte) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return upgrade(t, conn, early...)
}

func upgrade(t testing.TB, conn net.Conn, early ...byte) *client {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write(append([]byte(handshake("")), early...)); err != nil {
		t.Fatal(err)
	}
	c := &client{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake answered %s", resp.Status)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("Sec-WebSocket-Accept = %q", got)
	}
	return c
}

// read returns the next frame or says what is wrong with it. The server never fragments, so FIN is required.
func (c *client) read() (frame, error) {
	var h [2]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return frame{}, err
	}
	f := frame{op: h[0] & 0x0f}
	switch {
	case h[0]&0x80 == 0:
		return f, errors.New("no FIN")
	case h[0]&0x70 != 0:
		return f, fmt.Errorf("reserved bits %#x", h[0])
	case h[1]&0x80 != 0:
		return f, errors.New("masked frame from a server")
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return f, err
		}
		if n = uint64(binary.BigEndian.Uint16(b[:])); n < 126 {
			return f, fmt.Errorf("length %d not in its shortest form", n)
		}
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return f, err
		}
		if n = binary.BigEndian.Uint64(b[:]); n < 1<<16 || n > 1<<30 {
			return f, fmt.Errorf("length %d not in its shortest form or absurd", n)
		}
	}
	switch f.op {
	case opText, opBinary:
	case opClose, opPing, opPong:
		if n > 125 {
			return f, fmt.Errorf("control frame of %d bytes", n)
		}
	default:
		return f, fmt.Errorf("opcode %#x", f.op)
	}
	f.payload = make([]byte, n)
	_, err := io.ReadFull(c.r, f.payload)
	return f, err
}

func (c *client) mustRead(t testing.TB) frame {
	t.Helper()
	f, err := c.read()
	if err != nil {
		t.Fatalf("read frame: %v", err)
	}
	return f
}

func (c *client) expect(t testing.TB, op byte, payload string) {
	t.Helper()
	if f := c.mustRead(t); f.op != op || string(f.payload) != payload {
		t.Fatalf("got opcode %#x %.80q, want %#x %.80q", f.op, f.payload, op, payload)
	}
}

// expectClose wants a close frame with this code, with nothing before and nothing after it. It answers like a browser.
func (c *client) expectClose(t testing.TB, code int) {
	t.Helper()
	f := c.mustRead(t)
	if f.op != opClose || len(f.payload) < 2 || int(binary.BigEndian.Uint16(f.payload)) != code {
		t.Fatalf("got opcode %#x %q, want close %d", f.op, f.payload, code)
	}
	c.write(opClose, string(f.payload[:2])) // the server may be gone already
	c.expectEnd(t)
	c.conn.Close()
}

func (c *client) expectEnd(t testing.TB) {
	t.Helper()
	if f, err := c.read(); err == nil {
		t.Fatalf("got opcode %#x %.80q after the end", f.op, f.payload)
	}
}

// masked builds a client's frame; first is the first byte, FIN, reserved bits and opcode.
func masked(first byte, payload string) []byte {
	var b bytes.Buffer
	b.WriteByte(first)
	switch n := len(payload); {
	case n < 126:
		b.WriteByte(0x80 | byte(n))
	case n < 1<<16:
		b.WriteByte(0x80 | 126)
		binary.Write(&b, binary.BigEndian, uint16(n))
	default:
		b.WriteByte(0x80 | 127)
		binary.Write(&b, binary.BigEndian, uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b.Write(key[:])
	for i := range len(payload) {
		b.WriteByte(payload[i] ^ key[i%4])
	}
	return b.Bytes()
}

func (c *client) write(op byte, payload string) error {
	_, err := c.conn.Write(masked(0x80|op, payload))
	return err
}

func (c *client) mustWrite(t testing.TB, op byte, payload string) {
	t.Helper()
	if err := c.write(op, payload); err != nil {
		t.Fatalf("write frame: %v", err)
	}
}

// text builds a server's data frame, as the rest of the program would.
func text(payload string) []byte {
	f := masked(0x80|opText, "")[:1]
	switch n := len(payload); {
	case n < 126:
		f = append(f, byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 127), uint64(n))
	}
	return append(f, payload...)
}

// session is a Handler that tells the test what happened to it. It echoes if asked to.
type session struct {
	conn   *Conn
	echo   bool
	unused atomic.Bool
	onText func(string)
	got    chan string // buffered; what is beyond is dropped
	closed chan Reason
}

func (s *session) Frame(binary bool, data []byte) {
	if s.onText != nil {
		s.onText(string(data))
	}
	select {
	case s.got <- string(data):
	default:
	}
	if s.echo {
		f := text(string(data))
		if binary {
			f[0] = 0x80 | opBinary
		}
		s.conn.Send(f)
	}
}

func (s *session) InUse() bool     { return !s.unused.Load() }
func (s *session) Closed(r Reason) { s.closed <- r; close(s.closed) } // a second call panics

// rig is a server whose sessions come out of a channel.
type rig struct {
	*Server
	sessions chan *session
}

func newRig(t testing.TB, opt Options, prepare ...func(*session)) *rig {
	r := &rig{sessions: make(chan *session, 10_000)}
	if opt.Open == nil {
		opt.Open = func(*http.Request) (Opener, *Refusal) {
			return func(c *Conn) Handler {
				s := &session{conn: c, got: make(chan string, 16), closed: make(chan Reason, 1)}
				for _, p := range prepare {
					p(s)
				}
				go func() {
					s.awaitOpen()
					r.sessions <- s
				}()
				return s
			}, nil
		}
	}
	r.Server = NewServer(opt)
	r.Start()
	t.Cleanup(r.Close)
	return r
}

// awaitOpen waits until the socket is open, or will not be: the handler is there before.
func (s *session) awaitOpen() {
	for opening := true; opening && len(s.closed) == 0; runtime.Gosched() { // no sleep: tests count the seconds
		s.conn.mu.Lock()
		opening = s.conn.opening
		s.conn.mu.Unlock()
	}
}

func echoing(s *session) { s.echo = true }

// listen serves the rig on loopback and returns its address.
func (r *rig) listen(t testing.TB) string {
	hs := httptest.NewServer(r)
	t.Cleanup(hs.Close)
	return hs.Listener.Addr().String()
}

// pipe opens a socket over net.Pipe, for use inside a synctest bubble.
func (r *rig) pipe(t testing.TB) (*client, *session) {
	t.Helper()
	near, far := net.Pipe()
	return r.over(t, near, far)
}

func (r *rig) over(t testing.TB, near, far net.Conn) (*client, *session) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake(""))))
	if err != nil {
		t.Fatal(err)
	}
	w := &hijackable{httptest.NewRecorder(), far}
	r.ServeHTTP(w, req)
	if w.Code != http.StatusSwitchingProtocols {
		t.Fatalf("handshake answered %d %s", w.Code, w.Body)
	}
	t.Cleanup(func() { near.Close() })
	return &client{near, bufio.NewReader(near)}, <-r.sessions
}

type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// await receives from ch, or fails the test instead of hanging it.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func (s *session) expectClosed(t testing.TB, want Reason) {
	t.Helper()
	if got := await(t, s.closed, "Closed"); got != want {
		t.Fatalf("closed with reason %q, want %q", got, want)
	}
	if s.conn.Send(text("late")) {
		t.Fatal("Send reports success on a closed socket")
	}
}

// metric reads a figure as an operator would; reason is its label, or "".
func (r *rig) metric(t testing.TB, name, reason string) float64 {
	t.Helper()
	return metricstest.Value(t, r.opt.Metrics, name, reason)
}
