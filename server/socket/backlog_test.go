package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// stalled is a client that reads nothing for now, over a connection that holds little.
func stalled(t *testing.T, r *rig) (*client, *session) {
	c := dial(t, r.listen(t))
	if err := c.conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	return c, <-r.sessions
}

// fill queues frames of one kind until the socket takes no more of them at once; it returns how many.
func fill(t *testing.T, s *session, payload string, void *atomic.Bool) int {
	for n := 1; n < 100_000; n++ {
		if s.conn.Queue(text(fmt.Sprint(n, " ", payload)), void) {
			s.conn.Flush()
		}
		s.conn.mu.Lock()
		waiting := s.conn.queue.len()
		s.conn.mu.Unlock()
		if waiting >= 50 {
			return n
		}
	}
	t.Fatal("nothing ever waited")
	return 0
}

// What the kernel has taken cannot be called back; what still waits can, and the frame that has begun to leave is finished.
func TestVoidFramesDoNotBeginToLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: 64 << 20})
	c, s := stalled(t, r)
	var revoked atomic.Bool
	sent := fill(t, s, strings.Repeat("r", 3000), &revoked)
	var kept atomic.Bool
	s.conn.Queue(text("kept 1"), &kept)
	s.conn.Queue(text("revoked last"), &revoked)
	s.conn.mu.Lock()
	revoked.Store(true)
	began := s.conn.queue.out
	if s.conn.queue.sent > 0 {
		began++
	}
	s.conn.mu.Unlock()
	s.conn.Queue(text("kept 2"), &kept)
	s.conn.Send(text("goodbye"))
	if int(began) >= sent {
		t.Fatalf("all %d frames had left: there was nothing to call back", sent)
	}
	for n := 1; n <= int(began); n++ {
		if f := c.mustRead(t); !strings.HasPrefix(string(f.payload), fmt.Sprint(n, " r")) {
			t.Fatalf("frame %d is %.20q", n, f.payload)
		}
	}
	for _, want := range []string{"kept 1", "kept 2", "goodbye"} {
		c.expect(t, opText, want)
	}
}

// Frames of several channels, some of them given up at random moments, to a client that reads haltingly: each frame
// arrives whole, those of the channel that lives all and in order.
func TestGivingUpFramesKeepsTheOthersWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: 64 << 20})
	c, s := stalled(t, r)
	const frames = 3000
	go func() {
		rng := rand.New(rand.NewPCG(1, 2))
		void := new(atomic.Bool)
		for n := range frames {
			payload := strings.Repeat("x", rng.IntN(2000))
			if rng.IntN(200) == 0 {
				payload = strings.Repeat("x", 100_000)
			}
			flush := s.conn.Queue(text(fmt.Sprintf("lives %d %s", n, payload)), nil)
			flush = s.conn.Queue(text(fmt.Sprintf("dies %d %s", n, payload)), void) || flush
			if flush && rng.IntN(3) > 0 {
				s.conn.Flush()
			} else if flush {
				s.conn.Send(text("between"))
			}
			if rng.IntN(20) == 0 {
				void.Store(true)
				void = new(atomic.Bool)
			}
		}
	}()
	lives, dies := 0, 0
	for lives < frames {
		f := c.mustRead(t)
		var n int
		switch kind, rest, _ := strings.Cut(string(f.payload), " "); kind {
		case "lives":
			if fmt.Sscanf(rest, "%d", &n); n != lives {
				t.Fatalf("frame %d after %d", n, lives-1)
			}
			lives++
		case "dies":
			dies++
		case "between":
		default:
			t.Fatalf("%.40q", f.payload)
		}
	}
	if dies == frames {
		t.Error("no frame was given up: nothing was tested")
	}
}

// Frames that nobody has offered to the kernel yet are no sign of a slow reader.
func TestUnflushedFramesAreNotABacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxQueueBytes: 10_000, SendBuffer: 256 << 10})
	c := dial(t, r.listen(t))
	s := <-r.sessions
	const frames = 12 // more than may wait, less than the kernel holds
	payload := strings.Repeat("x", 4000)
	flush := false
	for range frames {
		flush = s.conn.Queue(text(payload), nil) || flush
	}
	if !flush {
		t.Fatal("nobody was asked to flush")
	}
	s.conn.Flush()
	for range frames {
		c.expect(t, opText, payload)
	}
}

// A client that takes a little now and then never stands still; it is closed for being too far behind.
func TestBacklogOfAnAgeEndsTheSocket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		c, s := r.pipe(t)
		begin := time.Now()
		frame := text(strings.Repeat("x", gatherBytes)) // written alone
		for range 60 {
			s.conn.Send(frame)
		}
		done := make(chan struct{})
		go func() { // one frame in five seconds
			defer close(done)
			for {
				if _, err := io.CopyN(io.Discard, c.conn, int64(len(frame))); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		}()
		if reason := <-s.closed; reason != SlowReader {
			t.Fatal(reason)
		}
		if d := time.Since(begin); d < time.Minute || d > 80*time.Second {
			t.Fatalf("closed after %v", d)
		}
		<-done
	})
}

// Whoever takes its frames is not far behind, however many they are, and though there are always some that wait.
func TestSteadyReaderIsNeverTooFarBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		c, s := r.pipe(t)
		frame := text(strings.Repeat("x", gatherBytes)) // written alone
		const seconds, ahead = 600, 5
		for range ahead {
			s.conn.Send(frame)
		}
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range seconds {
				s.conn.Send(frame)
				s.conn.Send(frame)
				time.Sleep(time.Second)
			}
		}()
		for range 2*seconds + ahead {
			if _, err := c.read(); err != nil {
				t.Fatal(err, s.conn.Reason())
			}
			time.Sleep(500 * time.Millisecond)
		}
		<-stop
	})
}

// A reader that is given up for being slow may still read on: the frame that had begun to leave whole, and then why.
func TestSlowReaderIsToldWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: 256 << 10, CloseTimeout: time.Minute})
	c, s := stalled(t, r)
	sent := 0
	for s.conn.Send(text(fmt.Sprint(sent, " ", strings.Repeat("x", 3000)))) {
		sent++
	}
	s.conn.mu.Lock()
	waiting := s.conn.queue.len()
	s.conn.mu.Unlock()
	if waiting > 2 {
		t.Errorf("%d frames wait for a client that was given up", waiting)
	}
	arrived := 0
	f := c.mustRead(t)
	for ; f.op == opText; f = c.mustRead(t) {
		if !strings.HasPrefix(string(f.payload), fmt.Sprint(arrived, " x")) {
			t.Fatalf("frame %d is %.20q", arrived, f.payload)
		}
		arrived++
	}
	if f.op != opClose || binary.BigEndian.Uint16(f.payload) != codeTryLater || arrived >= sent {
		t.Fatalf("opcode %#x %q after %d frames of %d", f.op, f.payload, arrived, sent)
	}
	c.mustWrite(t, opClose, "\x03\xf5")
	s.expectClosed(t, SlowReader)
}

// One that does not read on keeps nothing of ours: not in the queue, and not in the kernel.
func TestSlowReaderIsThrownOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: 256 << 10, CloseTimeout: time.Millisecond})
	c, s := stalled(t, r)
	for s.conn.Send(text(strings.Repeat("x", 3000))) {
	}
	s.expectClosed(t, SlowReader)
	await(t, r.empty(), "the socket to be forgotten")
	if _, err := io.Copy(io.Discard, c.conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}

// A dropped connection keeps no frames while its handler works.
func TestKillDropsTheBacklog(t *testing.T) {
	t.Parallel()
	working, done := make(chan struct{}), make(chan struct{})
	r := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: 64 << 20}, func(s *session) {
		s.onText = func(string) { close(working); <-done }
	})
	c, s := stalled(t, r)
	fill(t, s, strings.Repeat("x", 3000), nil)
	c.mustWrite(t, opText, "work")
	<-working
	s.conn.Kill(InternalError)
	s.conn.mu.Lock()
	waiting := s.conn.queue.len()
	s.conn.mu.Unlock()
	if waiting > 1 { // the one that had begun to leave
		t.Errorf("%d frames wait in a dropped connection", waiting)
	}
	close(done)
	s.expectClosed(t, InternalError)
}

// One caller is asked to flush, and one write takes everything along: also what others have queued meanwhile.
func TestOneWriteForARound(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	c := dial(t, r.listen(t))
	s := <-r.sessions
	for range 3 {
		before := r.metric(t, "realtime_writes_total", "")
		for i := range 10 {
			if flush := s.conn.Queue(text("x"), nil); flush != (i == 0) {
				t.Fatalf("frame %d of a round: flush %v", i, flush)
			}
		}
		s.conn.Flush()
		if writes := r.metric(t, "realtime_writes_total", "") - before; writes != 1 {
			t.Errorf("%v writes", writes)
		}
		for range 10 {
			c.expect(t, opText, "x")
		}
	}
}

// While a backlog is being written nobody is asked to flush.
func TestBacklogNeedsNoFlush(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: 64 << 20})
	c, s := stalled(t, r)
	sent := fill(t, s, strings.Repeat("x", 3000), nil)
	if s.conn.Queue(text("last"), nil) {
		t.Error("asked to flush")
	}
	for range sent {
		c.mustRead(t)
	}
	c.expect(t, opText, "last")
}

// A connection that breaks is noticed by whoever writes, also while its handler works and nobody reads.
func TestWriterNoticesABrokenConnection(t *testing.T) {
	t.Parallel()
	for name, backlog := range map[string]bool{"nothing waits": false, "frames wait": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			working, done := make(chan struct{}), make(chan struct{})
			r := newRig(t, Options{SendBuffer: 64 << 10}, func(s *session) {
				s.onText = func(string) { close(working); <-done }
			})
			c, s := stalled(t, r)
			c.mustWrite(t, opText, "work")
			<-working
			if backlog {
				fill(t, s, strings.Repeat("x", 3000), nil)
			}
			c.conn.(*net.TCPConn).SetLinger(0)
			c.conn.Close()
			noticed := make(chan struct{})
			go func() {
				defer close(noticed)
				for s.conn.Reason() == "" {
					if !backlog {
						s.conn.Send(text("x"))
					}
					runtime.Gosched()
				}
			}()
			await(t, noticed, "the writer to notice")
			close(done)
			s.expectClosed(t, ClientGone)
		})
	}
}
