package socket

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// These tests count what the whole process has, so they do not run beside others.

// settled waits until count returns no more than want, and returns the last count.
func settled(want int, count func() int) int {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if n := count(); n <= want {
			return n
		}
	}
	return count()
}

func openFiles(t *testing.T) func() int {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return func() int { return 0 }
	}
	return func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Error(err)
		}
		return len(list)
	}
}

func TestOneGoroutinePerIdleSocket(t *testing.T) {
	const n = 200
	r := newRig(t, Options{}, echoing)
	addr := r.listen(t)
	dial(t, addr)
	<-r.sessions
	before := settledCount() // the one socket included, and what serves HTTP
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = dial(t, addr)
		clients[i].mustWrite(t, opText, "hello") // so that reader and writer have worked
		clients[i].expect(t, opText, "hello")
	}
	if got := settled(before+n, runtime.NumGoroutine); got != before+n {
		t.Fatalf("%d goroutines for %d idle sockets", got-before, n)
	}
}

// settledCount is the number of goroutines once it stops changing.
func settledCount() int {
	last, since := runtime.NumGoroutine(), time.Now()
	for time.Since(since) < 100*time.Millisecond {
		if n := runtime.NumGoroutine(); n != last {
			last, since = n, time.Now()
		}
		runtime.Gosched()
	}
	return last
}

func TestNothingIsLeftOfClosedSockets(t *testing.T) {
	r := newRig(t, Options{}, echoing)
	addr := r.listen(t)
	files := openFiles(t)
	endings := []func(*client, *session){
		func(c *client, s *session) { c.expectCloseAfter(t, s, codeRestart, Restarting) },
		func(c *client, s *session) { c.mustWrite(t, opClose, "\x03\xe8"); c.expectClose(t, codeNormal) },
		func(c *client, s *session) { s.conn.Kill(InternalError); c.expectEnd(t) },
		func(c *client, s *session) {},
	}
	round := func(n int) {
		for i := range n {
			c := dial(t, addr)
			s := <-r.sessions
			c.mustWrite(t, opText, "hello")
			c.expect(t, opText, "hello")
			endings[i%len(endings)](c, s)
			c.conn.Close()
		}
		await(t, r.empty(), "the sockets to be forgotten")
	}
	round(100)
	goroutines, fds := settledCount(), files()
	round(2000)
	if got := settled(goroutines, runtime.NumGoroutine); got > goroutines {
		t.Errorf("%d goroutines, %d before", got, goroutines)
	}
	if got := settled(fds, files); got > fds {
		t.Errorf("%d open files, %d before", got, fds)
	}
	if n := r.metric(t, "realtime_sockets", ""); n != 0 {
		t.Errorf("%v sockets counted as open", n)
	}
}

func (c *client) expectCloseAfter(t *testing.T, s *session, code int, reason Reason) {
	t.Helper()
	s.conn.Close(code, reason)
	c.expectClose(t, code)
	s.expectClosed(t, reason)
}
