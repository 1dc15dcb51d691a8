package socket

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

func TestEcho(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxFrameBytes: 5_000_000}, echoing)
	ctx := t.Context()
	c, _, err := websocket.Dial(ctx, "ws://"+r.listen(t), &websocket.DialOptions{
		CompressionMode: websocket.CompressionContextTakeover, // offered, and not taken up
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for _, size := range []int{0, 1, 125, 126, 1023, 1024, 1025, 65535, 65536, 70_000, 3_000_000} {
		for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
			sent := bytes.Repeat([]byte{'a' + byte(size%26)}, size)
			if err := c.Write(ctx, kind, sent); err != nil {
				t.Fatal(err)
			}
			got, data, err := c.Read(ctx)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if got != kind || !bytes.Equal(data, sent) {
				t.Fatalf("%v of %d bytes came back as %v of %d", kind, size, got, len(data))
			}
		}
	}
	if err := c.Close(4001, "done"); err != nil {
		t.Fatalf("close handshake: %v", err)
	}
	(<-r.sessions).expectClosed(t, ClientClosed)
}

func TestEchoOverTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{}, echoing)
	hs := httptest.NewTLSServer(r)
	t.Cleanup(hs.Close)
	conn, err := tls.Dial("tcp", hs.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c := upgrade(t, conn)
	c.mustWrite(t, opText, "hello")
	c.expect(t, opText, "hello")
	s := <-r.sessions
	s.conn.Close(codeRestart, Restarting)
	c.expectClose(t, codeRestart)
	s.expectClosed(t, Restarting)

	conn, err = tls.Dial("tcp", hs.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c = upgrade(t, conn)
	s = <-r.sessions
	s.conn.Kill(InternalError)
	c.expectEnd(t)
	s.expectClosed(t, InternalError)
}

// A client need not wait for the answer to its handshake: the HTTP server has then read its first frames.
func TestFramesSentWithTheHandshake(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxFrameBytes: 1 << 20}, echoing)
	early := masked(0x81, "first")
	early = append(early, masked(0x81, strings.Repeat("x", 3000))...) // more than our read buffer holds
	early = append(early, masked(0x81, "third")[:5]...)
	c := dial(t, r.listen(t), early...)
	if _, err := c.conn.Write(masked(0x81, "third")[5:]); err != nil {
		t.Fatal(err)
	}
	c.expect(t, opText, "first")
	c.expect(t, opText, strings.Repeat("x", 3000))
	c.expect(t, opText, "third")
}

func TestFragmentsWithPingsBetween(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxFrameBytes: 1 << 20}, echoing)
	c := dial(t, r.listen(t))
	for _, b := range [][]byte{masked(0x01, "one "), masked(0x89, "p"), masked(0x00, "two "), masked(0x80, "three")} {
		if _, err := c.conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	c.expect(t, opPong, "p")
	c.expect(t, opText, "one two three")
}

func TestWhatEndsASocket(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	full := strings.Repeat("x", limit)
	for _, tt := range []struct {
		name   string
		send   []byte
		code   int
		reason Reason
	}{
		{"one byte too many", masked(0x81, full+"x"), codeTooBig, FrameTooBig},
		{"far too many, still being sent", masked(0x82, strings.Repeat(full, 100)), codeTooBig, FrameTooBig},
		{"too many in fragments", append(masked(0x01, full), masked(0x80, "x")...), codeTooBig, FrameTooBig},
		{"unmasked", []byte{0x81, 1, 'x'}, codeProtocolError, ProtocolError},
		{"reserved bit", masked(0xC1, "x"), codeProtocolError, ProtocolError},
		{"unknown opcode", masked(0x83, "x"), codeProtocolError, ProtocolError},
		{"stray continuation", masked(0x80, "x"), codeProtocolError, ProtocolError},
		{"message inside a message", append(masked(0x01, "x"), masked(0x81, "x")...), codeProtocolError, ProtocolError},
		{"long control frame", masked(0x89, strings.Repeat("x", 126)), codeProtocolError, ProtocolError},
		{"fragmented control frame", masked(0x09, "x"), codeProtocolError, ProtocolError},
		{"close frame of one byte", masked(0x88, "x"), codeProtocolError, ProtocolError},
		{"close code that may not be sent", masked(0x88, "\x03\xed"), codeProtocolError, ProtocolError},
		{"close", masked(0x88, "\x03\xe8bye"), codeNormal, ClientClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Options{MaxFrameBytes: limit}, echoing)
			c := dial(t, r.listen(t))
			c.mustWrite(t, opText, full) // the limit itself is legal
			c.expect(t, opText, full)
			go c.conn.Write(tt.send) // the server need not read all of it
			c.expectClose(t, tt.code)
			(<-r.sessions).expectClosed(t, tt.reason)
		})
	}
}

func TestClientThatVanishes(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	addr := r.listen(t)
	for _, linger := range []int{-1, 0} { // in order, and with a reset
		c := dial(t, addr)
		s := <-r.sessions
		c.conn.(*net.TCPConn).SetLinger(linger)
		c.conn.Close()
		s.expectClosed(t, ClientGone)
	}
	await(t, r.empty(), "the sockets to be forgotten")
}

// Close lets out what was queued before it and nothing that comes after it, and only the first one counts.
func TestClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	c := dial(t, r.listen(t))
	s := <-r.sessions
	for range 100 {
		if !s.conn.Send(text("queued")) {
			t.Fatal("refused before Close")
		}
	}
	s.conn.Close(1001, SlowReader)
	s.conn.Close(codeNormal, Idle)
	if s.conn.Send(text("late")) || s.conn.Queue(text("late"), nil) {
		t.Fatal("accepted after Close")
	}
	s.conn.Flush()
	c.mustWrite(t, opPing, "too late for a pong")
	c.mustWrite(t, opText, "not handed on")
	for range 100 {
		c.expect(t, opText, "queued")
	}
	c.expectClose(t, 1001)
	s.expectClosed(t, SlowReader)
	if len(s.got) != 0 {
		t.Fatalf("the handler got %q after Close", <-s.got)
	}
}

func TestNothingFollowsTheAnswerToAClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	addr := r.listen(t)
	for range 50 {
		c := dial(t, addr)
		s := <-r.sessions
		stop, more := make(chan struct{}), make(chan struct{}, 20) // so many frames may be under way
		go func() {
			defer close(stop)
			for s.conn.Send(text("data")) {
				more <- struct{}{}
			}
		}()
		c.mustRead(t)
		c.mustWrite(t, opClose, "\x03\xe9")
		for {
			f := c.mustRead(t)
			<-more
			if f.op == opText {
				continue
			}
			if f.op != opClose || binary.BigEndian.Uint16(f.payload) != 1001 {
				t.Fatalf("got opcode %#x %q, want the close frame back", f.op, f.payload)
			}
			break
		}
		c.expectEnd(t)
		<-stop
		s.expectClosed(t, ClientClosed)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	c := dial(t, r.listen(t))
	s := <-r.sessions
	s.conn.Kill(InternalError)
	s.conn.Kill(Idle)
	s.conn.Close(codeRestart, Restarting)
	c.expectEnd(t)
	s.expectClosed(t, InternalError)
}

// A handler that panics loses its socket and nothing else.
func TestHandlerPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{}, func(s *session) {
		s.onText = func(data string) {
			if data == "bomb" {
				panic(data)
			}
		}
	}, echoing)
	addr := r.listen(t)
	victim, other := dial(t, addr), dial(t, addr)
	other.mustWrite(t, opText, "x")
	other.expect(t, opText, "x")
	victim.mustWrite(t, opText, "bomb")
	victim.expectClose(t, codeInternal)
	other.mustWrite(t, opText, "still here")
	other.expect(t, opText, "still here")
}

func TestOpenerPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{Open: func(*http.Request) (Opener, *Refusal) {
		return func(*Conn) Handler { panic("bomb") }, nil
	}})
	c := dial(t, r.listen(t))
	c.expectClose(t, codeInternal)
	await(t, r.empty(), "the socket to be forgotten")
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	addr := r.listen(t)
	seen := map[string]bool{}
	for range 10 {
		c := dial(t, addr)
		s := <-r.sessions
		if id := s.conn.ID(); len(id) != 32 || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[s.conn.ID()] = true
		if got, want := s.conn.RemoteAddr(), c.conn.LocalAddr().String(); got != want {
			t.Fatalf("remote address %s, want %s", got, want)
		}
	}
}

// The official kind of client closes its socket with a code and waits for the server to hang up.
func TestCloseHandshakeWithLibraryClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	c, _, err := websocket.Dial(t.Context(), "ws://"+r.listen(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	s := <-r.sessions
	s.conn.Close(codeRestart, Restarting)
	if _, _, err = c.Read(context.Background()); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		t.Fatalf("read: %v", err)
	}
	s.expectClosed(t, Restarting)
}
