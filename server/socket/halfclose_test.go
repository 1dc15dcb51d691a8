package socket

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A client that broke the protocol is told why, and that nothing follows, while it may still be sending. It does not have
// to wait for that until the connection is dropped.
func TestBrokenProtocolEndsTheOutput(t *testing.T) {
	t.Parallel()
	for name, backlog := range map[string]bool{"nothing waits": false, "frames wait": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Options{CloseTimeout: time.Hour, SendBuffer: 64 << 10, MaxQueueBytes: 64 << 20})
			c, s := stalled(t, r)
			sent := 0
			if backlog {
				sent = fill(t, s, strings.Repeat("x", 3000), nil)
			}
			c.mustWrite(t, 0x3, "")
			s.expectClosed(t, ProtocolError)
			c.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			for range sent {
				if f := c.mustRead(t); f.op != opText {
					t.Fatalf("opcode %#x", f.op)
				}
			}
			if f := c.mustRead(t); f.op != opClose {
				t.Fatalf("opcode %#x", f.op)
			}
			if _, err := c.read(); err != io.EOF {
				t.Fatal(err)
			}
			if r.Count() != 1 {
				t.Error("the connection was closed: what the client was still sending made the kernel throw away the close frame")
			}
		})
	}
}

// goodbye is a connection whose last word waits for the peer, as that of TLS does.
type goodbye struct {
	net.Conn
	once    sync.Once
	waiting chan struct{}
	release chan struct{}
}

func (g *goodbye) CloseWrite() error {
	g.once.Do(func() { close(g.waiting) })
	<-g.release
	return nil
}

// Whoever wants to send to a socket does not wait for its goodbye.
func TestNobodyWaitsForTheGoodbye(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	near, far := net.Pipe()
	g := &goodbye{Conn: far, waiting: make(chan struct{}), release: make(chan struct{})}
	c, s := r.over(t, near, g)
	c.mustWrite(t, 0x3, "")
	if f := c.mustRead(t); f.op != opClose {
		t.Fatalf("opcode %#x", f.op)
	}
	await(t, g.waiting, "the goodbye")
	called := make(chan struct{})
	go func() {
		defer close(called)
		s.conn.Queue(text("late"), nil)
		s.conn.Flush()
		s.conn.Close(codeRestart, Restarting)
	}()
	select {
	case <-called:
	case <-time.After(5 * time.Second):
		t.Error("a caller waits for the peer")
	}
	close(g.release)
	<-called
	s.expectClosed(t, ProtocolError)
}
