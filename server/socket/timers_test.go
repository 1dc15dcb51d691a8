package socket

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Here time is the bubble's: it moves only when everybody waits, and then at once.

func TestIdleSocketIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		c, s := r.pipe(t)
		begin := time.Now()
		c.expectClose(t, codeNormal)
		if d := time.Since(begin); d < 60*time.Second || d > 65*time.Second {
			t.Fatalf("closed after %v", d)
		}
		s.expectClosed(t, Idle)
	})
}

func TestPingsKeepASocketOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		c, s := r.pipe(t)
		for range 20 {
			time.Sleep(59 * time.Second)
			c.mustWrite(t, opPing, "here")
			c.expect(t, opPong, "here")
		}
		c.expectClose(t, codeNormal)
		s.expectClosed(t, Idle)
	})
}

// A client that only says that it lives does not keep a socket for ever.
func TestUnusedSocketIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		c, s := r.pipe(t)
		time.Sleep(time.Hour)
		s.unused.Store(true)
		time.Sleep(9 * time.Minute)
		s.unused.Store(false) // in time, and the next time counts from its own beginning
		time.Sleep(time.Minute)
		c.mustWrite(t, opPing, "here")
		c.expect(t, opPong, "here")
		s.unused.Store(true)
		begin := time.Now()
		c.expectClose(t, codeNormal)
		if d := time.Since(begin); d < 10*time.Minute || d > 11*time.Minute {
			t.Fatalf("closed after %v", d)
		}
		s.expectClosed(t, Unused)
	})
}

func TestUnusedTimeoutCanBeLifted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1, UnusedTimeout: -1}, echoing)
		c, s := r.pipe(t)
		s.unused.Store(true)
		time.Sleep(24 * time.Hour)
		c.mustWrite(t, opText, "still there?")
		c.expect(t, opText, "still there?")
	})
}

// What the server sends keeps nothing open: only the client can show that it is there.
func TestSendingDoesNotHideSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		c, s := r.pipe(t)
		var ticking sync.WaitGroup
		ticking.Go(func() {
			for s.conn.Send(text("tick")) {
				time.Sleep(time.Second)
			}
		})
		defer ticking.Wait()
		ticks := 0
		f := c.mustRead(t)
		for ; f.op == opText; f = c.mustRead(t) {
			ticks++
		}
		if ticks < 60 || ticks > 66 || f.op != opClose {
			t.Fatalf("%d ticks, then opcode %#x", ticks, f.op)
		}
	})
}

func TestIdleTimeoutCanBeLifted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1}, echoing)
		c, _ := r.pipe(t)
		time.Sleep(24 * time.Hour)
		c.mustWrite(t, opText, "still there?")
		c.expect(t, opText, "still there?")
	})
}

func TestStalledWriteEndsTheSocket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{MaxQueueBytes: 1 << 20})
		_, s := r.pipe(t) // which never reads
		begin := time.Now()
		for range 10 {
			if !s.conn.Send(text("x")) {
				t.Fatal("a write that has just begun was refused")
			}
		}
		s.expectClosed(t, WriteTimeout)
		if d := time.Since(begin); d != 10*time.Second {
			t.Fatalf("closed after %v", d)
		}
	})
}

// WriteTimeout is about standing still, not about the size of a frame.
func TestSlowLineTakesALargeFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{MaxQueueBytes: 1 << 20, IdleTimeout: -1})
		c, s := r.pipe(t)
		payload := strings.Repeat("x", 3_000_000)
		s.conn.Send(text(payload))
		c.r.Reset(slowLine{c.conn})
		begin := time.Now()
		c.expect(t, opText, payload)
		if d := time.Since(begin); d < time.Minute {
			t.Fatalf("the line was not slow: %v", d)
		}
		if s.conn.Reason() != "" {
			t.Fatal(s.conn.Reason())
		}
	})
}

type slowLine struct{ net.Conn }

func (l slowLine) Read(p []byte) (int, error) {
	time.Sleep(2 * time.Second)
	return l.Conn.Read(p)
}

// A write deadline left behind would end a later write that has nothing to do with it.
func TestWriteDeadlineIsCleared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		near, far := net.Pipe()
		d := &deadlines{Conn: far}
		c, s := r.over(t, near, d)
		for range 3 {
			s.conn.Send(text("one"))
			s.conn.Send(text("two"))
			c.expect(t, opText, "one")
			c.expect(t, opText, "two")
			synctest.Wait()
			if last := d.last.Load(); last == nil || !last.IsZero() {
				t.Fatalf("the deadline left behind is %v", last)
			}
			time.Sleep(time.Minute)
		}
		if d.set.Load() == 0 {
			t.Fatal("written without a deadline")
		}
	})
}

type deadlines struct {
	net.Conn
	last atomic.Pointer[time.Time]
	set  atomic.Int32
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.last.Store(&t)
	if !t.IsZero() {
		d.set.Add(1)
	}
	return d.Conn.SetWriteDeadline(t)
}

func TestCloseTimeout(t *testing.T) {
	t.Parallel()
	for name, peer := range map[string]func(*testing.T, *client){
		"the client takes the close frame and says nothing": func(t *testing.T, c *client) {
			if f := c.mustRead(t); f.op != opClose {
				t.Fatalf("opcode %#x", f.op)
			}
			c.expectEnd(t)
		},
		"the client takes nothing": func(*testing.T, *client) {},
		"the client goes on talking": func(t *testing.T, c *client) {
			var talk sync.WaitGroup
			talk.Go(func() {
				for c.write(opText, "blah") == nil {
					time.Sleep(time.Second)
				}
			})
			c.mustRead(t)
			c.expectEnd(t)
			t.Cleanup(talk.Wait)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{})
				c, s := r.pipe(t)
				begin := time.Now()
				s.conn.Close(codeRestart, Restarting)
				peer(t, c)
				s.expectClosed(t, Restarting)
				if d := time.Since(begin); d != 5*time.Second {
					t.Fatalf("dropped after %v", d)
				}
				if len(s.got) != 0 {
					t.Fatal("handed on after Close: ", <-s.got)
				}
			})
		})
	}
}

func TestCloseDoesNotWaitForAnAnswerThatCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		c, s := r.pipe(t)
		begin := time.Now()
		s.conn.Close(codeRestart, Restarting)
		c.expectClose(t, codeRestart)
		s.expectClosed(t, Restarting)
		<-r.empty()
		if d := time.Since(begin); d != 0 {
			t.Fatalf("took %v", d)
		}
	})
}

// A client that says goodbye and takes nothing any more is not waited for longer than another.
func TestClientClosesWithoutReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		c, s := r.pipe(t)
		begin := time.Now()
		s.conn.Send(text("unread"))
		c.mustWrite(t, opClose, "\x03\xe8")
		s.expectClosed(t, ClientClosed)
		if d := time.Since(begin); d != 0 {
			t.Fatalf("the handler heard after %v", d)
		}
		<-r.empty()
		if d := time.Since(begin); d != 5*time.Second {
			t.Fatalf("dropped after %v", d)
		}
	})
}

// The handler hears of a broken protocol at once, while the peer still has time to take the close frame.
func TestBrokenProtocolIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		c, s := r.pipe(t)
		begin := time.Now()
		go c.conn.Write(append(masked(0x83, ""), make([]byte, 1<<20)...))
		s.expectClosed(t, ProtocolError)
		if d := time.Since(begin); d != 0 {
			t.Fatalf("the handler heard after %v", d)
		}
		if f := c.mustRead(t); f.op != opClose {
			t.Fatalf("opcode %#x", f.op)
		}
		c.expectEnd(t)
		if d := time.Since(begin); d != 5*time.Second {
			t.Fatalf("dropped after %v", d)
		}
	})
}

func TestHalfAPing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		c, s := r.pipe(t)
		if _, err := c.conn.Write(masked(0x89, "never finished")[:10]); err != nil {
			t.Fatal(err)
		}
		s.expectClosed(t, ClientGone)
		<-r.empty()
	})
}

// Kill drops the connection even while the handler is busy, and does not wait for it.
func TestKillWhileTheHandlerWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, func(s *session) {
			s.onText = func(string) { time.Sleep(20 * time.Second) }
		})
		c, s := r.pipe(t)
		c.mustWrite(t, opText, "work")
		synctest.Wait() // until it does
		begin := time.Now()
		s.conn.Kill(InternalError)
		c.expectEnd(t)
		if d := time.Since(begin); d != 0 {
			t.Fatalf("dropped after %v", d)
		}
		s.expectClosed(t, InternalError)
		if d := time.Since(begin); d != 20*time.Second {
			t.Fatalf("Closed came after %v, before Frame had returned", d)
		}
	})
}

// The request's handler has returned: nothing of the socket depends on the request.
func TestCloseBeforeTheHandlerExists(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var conn *Conn
		closed := make(chan Reason, 1)
		r := newRig(t, Options{Open: func(*http.Request) (Opener, *Refusal) {
			return func(c *Conn) Handler {
				conn = c
				if c.Handler() != nil {
					t.Error("a handler before the opener returned")
				}
				c.Send(text("welcome"))
				c.Close(1001, SlowReader)
				return &session{conn: c, got: make(chan string, 1), closed: closed}
			}, nil
		}})
		r.sessions <- nil // pipe expects one
		c, _ := r.pipe(t)
		c.expect(t, opText, "welcome")
		c.expectClose(t, 1001)
		if got := <-closed; got != SlowReader {
			t.Fatal(got)
		}
		if conn.Handler() == nil {
			t.Fatal("no handler after the opener returned")
		}
	})
}
