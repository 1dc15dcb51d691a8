package socket

import (
	"strings"
	"testing"
)

// Whoever waits for it is told when nothing waits for the client any more, once, and not before.
func TestWhenDrained(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: 64 << 20})
	c, s := stalled(t, r)
	tell := func() chan struct{} {
		told := make(chan struct{}) // closed twice, it panics
		s.conn.WhenDrained(func() { close(told) })
		return told
	}
	await(t, tell(), "an empty queue")
	sent := fill(t, s, strings.Repeat("x", 3000), nil)
	first, second := tell(), tell()
	select {
	case <-first:
		t.Fatal("told while frames wait")
	default:
	}
	for range sent {
		c.mustRead(t)
	}
	await(t, first, "an empty queue")
	await(t, second, "an empty queue")
	s.conn.Queue(text("not flushed yet"), nil)
	unflushed := tell()
	select {
	case <-unflushed:
		t.Fatal("told before the flush")
	default:
	}
	s.conn.Flush()
	await(t, unflushed, "an empty queue")
	fill(t, s, strings.Repeat("x", 3000), nil)
	gone := tell()
	s.conn.Kill(ClientGone)
	await(t, gone, "the end of the connection")
	await(t, tell(), "a connection that has ended")
}

// A connection that cannot be written to without waiting tells it too.
func TestWhenDrainedWithoutADescriptor(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	c, s := r.pipe(t)
	if !s.conn.Send(text("hello")) {
		t.Fatal("not taken")
	}
	told := make(chan struct{})
	s.conn.WhenDrained(func() { close(told) })
	c.expect(t, opText, "hello")
	await(t, told, "an empty queue")
}
