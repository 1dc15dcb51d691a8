package socket

import (
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// One client stops reading. It is closed for it; the others get every frame, and whoever sends never waits.
func TestSlowReaderHurtsOnlyItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxQueueBytes: 1 << 20})
	addr := r.listen(t)
	stalled := dial(t, addr)
	stalled.conn.(*net.TCPConn).SetReadBuffer(16 << 10)
	victim := <-r.sessions
	const healthy = 4
	var others []*session
	received := make(chan string, healthy)
	for range healthy {
		c := dial(t, addr)
		others = append(others, <-r.sessions)
		go func() {
			for {
				f, err := c.read()
				if err != nil {
					return
				}
				number, _, _ := strings.Cut(string(f.payload), " ")
				received <- number
			}
		}()
	}
	padding := strings.Repeat("x", 10_000)
	sent := 0
	for ; sent < 10_000; sent++ {
		f := text(fmt.Sprint(sent, " ", padding))
		took := victim.conn.Send(f)
		for _, s := range others {
			if !s.conn.Send(f) {
				t.Fatalf("frame %d refused by a client that reads", sent)
			}
		}
		for range others {
			if got := await(t, received, "a frame"); got != strconv.Itoa(sent) {
				t.Fatalf("got frame %s, want %d", got, sent)
			}
		}
		if !took {
			break
		}
	}
	if sent*len(padding) < 1<<20 || sent == 10_000 {
		t.Fatalf("closed after %d frames", sent)
	}
	victim.expectClosed(t, SlowReader)
	if n := r.metric(t, "realtime_sockets_closed_total", string(SlowReader)); n != 1 {
		t.Fatalf("%v closes counted", n)
	}
	for _, s := range others {
		if s.conn.Reason() != "" {
			t.Fatal("another socket was closed: ", s.conn.Reason())
		}
	}
}

func TestQueueBytesBoundASocket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		r := newRig(t, Options{MaxQueueBytes: limit})
		c, s := r.pipe(t)
		large := text(strings.Repeat("x", 3*limit))
		for range 3 { // larger than the bound, with nothing before it, then with a small one behind it
			if !s.conn.Send(large) || !s.conn.Send(text("small")) {
				t.Fatal("refused")
			}
			c.expect(t, opText, strings.Repeat("x", 3*limit))
			c.expect(t, opText, "small")
			synctest.Wait()
		}
		frame := text(strings.Repeat("y", 1000))
		n := 0
		for s.conn.Send(frame) {
			n++
		}
		if got := n * len(frame); got < limit || got > limit+gatherBytes+2*len(frame) {
			t.Fatalf("%d bytes were taken", got)
		}
		s.expectClosed(t, SlowReader)
		c.r.Reset(c.conn)
		for _, err := c.read(); err == nil; _, err = c.read() {
			n--
		}
		if n <= 0 {
			t.Fatal("everything arrived")
		}
	})
}

// Data from several senders and answers to a storm of pings share one connection: every frame must arrive whole,
// each sender's in order.
func TestFramesStayWholeInAPingStorm(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxQueueBytes: 64 << 20})
	c := dial(t, r.listen(t))
	s := <-r.sessions
	const senders, frames, pings = 3, 400, 5000
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for i := range frames {
				size := (i * 7919 * (sender + 1)) % 3000
				if i%50 == 0 {
					size = 150_000
				}
				payload := fmt.Sprintf("%d %d %d ", sender, i, size) + strings.Repeat(strconv.Itoa(sender), size)
				if !s.conn.Send(text(payload)) {
					t.Errorf("frame %d of sender %d refused", i, sender)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for i := range pings {
			if err := c.write(opPing, strconv.Itoa(i)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var next [senders]int
	pong, got := -1, 0
	for got < senders*frames || pong < pings-1 {
		f := c.mustRead(t)
		switch f.op {
		case opPong:
			n, err := strconv.Atoi(string(f.payload))
			if err != nil || n <= pong || n >= pings {
				t.Fatalf("pong %q after %d", f.payload, pong)
			}
			pong = n
		case opText:
			var sender, i, size int
			if _, err := fmt.Sscanf(string(f.payload[:min(len(f.payload), 40)]), "%d %d %d ", &sender, &i, &size); err != nil {
				t.Fatalf("%.40q: %v", f.payload, err)
			}
			want := fmt.Sprintf("%d %d %d ", sender, i, size) + strings.Repeat(strconv.Itoa(sender), size)
			if string(f.payload) != want || i != next[sender] {
				t.Fatalf("frame %d of sender %d is damaged or out of order (want %d)", i, sender, next[sender])
			}
			next[sender]++
			got++
		default:
			t.Fatalf("opcode %#x", f.op)
		}
	}
	wg.Wait()
	out, writes := r.metric(t, "realtime_sent_bytes_total", ""), r.metric(t, "realtime_writes_total", "")
	if writes == 0 || out < senders*frames*1000 {
		t.Fatalf("%v bytes in %v writes counted", out, writes)
	}
}

// A client that only asks and never reads makes the server remember a handful of answers.
func TestPingFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{MaxQueueBytes: 1 << 20})
		c, s := r.pipe(t)
		for i := range 10_000 {
			c.mustWrite(t, opPing, strconv.Itoa(i))
		}
		synctest.Wait()
		s.conn.mu.Lock()
		waiting := s.conn.queue.pongs
		s.conn.mu.Unlock()
		if waiting > maxPongs {
			t.Fatalf("%d pongs wait", waiting)
		}
		answers := 1
		for f := c.mustRead(t); string(f.payload) != "9999"; f = c.mustRead(t) {
			if answers++; answers > 2*maxPongs {
				t.Fatal("the newest ping was not answered")
			}
		}
	})
}

// On a plain socket too, a client that takes nothing is given up; one that takes a little now and then is not.
func TestStalledBacklogEndsTheSocket(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 64 << 10, WriteTimeout: 100 * time.Millisecond, MaxQueueAge: -1, IdleTimeout: -1})
	for name, stall := range map[string]func(*testing.T, *session){
		"in the middle of a frame": func(t *testing.T, s *session) { s.conn.Send(text(strings.Repeat("x", 3_000_000))) },
		"before the first byte":    func(t *testing.T, s *session) { clog(t, s); s.conn.Send(text("x")) },
	} {
		_, s := stalled(t, r)
		stall(t, s)
		if reason := await(t, s.closed, name); reason != WriteTimeout {
			t.Errorf("%s: %s", name, reason)
		}
	}
}

// clog fills what the kernel holds for a client that does not read, until it has taken nothing for a while.
func clog(t *testing.T, s *session) {
	garbage := make([]byte, 64<<10)
	for refused := 0; refused < 1000; runtime.Gosched() {
		err := s.conn.raw.Write(func(fd uintptr) bool {
			if n, _ := syscall.Write(int(fd), garbage); n > 0 {
				refused = 0
			} else {
				refused++
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlowSocketTakesALargeFrame(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	r := newRig(t, Options{SendBuffer: 64 << 10, WriteTimeout: timeout, MaxQueueAge: -1})
	c, s := stalled(t, r)
	payload := strings.Repeat("x", 2_000_000)
	s.conn.Send(text(payload))
	begin := time.Now()
	c.r.Reset(pausing{c.conn, 2 * timeout / (2_000_000 / 4096)}) // 4 KB is what a buffered reader takes at once
	c.expect(t, opText, payload)
	if d := time.Since(begin); d < timeout {
		t.Fatalf("taken in %v: nothing was tested", d)
	}
	if reason := s.conn.Reason(); reason != "" {
		t.Error(reason)
	}
}

type pausing struct {
	net.Conn
	pause time.Duration
}

func (p pausing) Read(b []byte) (int, error) {
	time.Sleep(p.pause)
	return p.Conn.Read(b[:min(len(b), 4096)])
}
