package socket

import (
	"errors"
	"os"
	"sync"
	"time"
)

const (
	// gatherBytes is how much one write collects from several frames: at a few hundred bytes each the cost of the
	// system call is spread thin long before this, and a writer that blocks holds no more than this.
	gatherBytes = 16 << 10
	// writeBytes is how much of one large frame goes into one write, and so what WriteTimeout is about: a slow line
	// may take its time for a frame of megabytes as long as it moves.
	writeBytes = 64 << 10
)

// batch is what a writer works with: the frames it took and the memory to gather them in.
type batch struct {
	frames [][]byte
	buf    []byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// gather returns the frames as one piece: a single frame as it is, several copied together. For the sizes that meet
// here that takes as long as writev or less, and needs no memory per write: see BenchmarkGather.
func (b *batch) gather() []byte {
	if len(b.frames) == 1 {
		return b.frames[0]
	}
	if b.buf == nil {
		b.buf = make([]byte, 0, gatherBytes)
	}
	b.buf = b.buf[:0]
	for _, f := range b.frames {
		b.buf = append(b.buf, f...)
	}
	return b.buf
}

// wakeAndUnlock sees to it that a writer takes what was just queued. No goroutine waits for that: one is started when
// there is something and ends when there is nothing.
func (c *Conn) wakeAndUnlock() {
	start := !c.writing
	c.writing = true
	c.mu.Unlock()
	if start {
		go c.writeLoop()
	}
}

func (c *Conn) writeLoop() {
	b := batches.Get().(*batch)
	for c.takeBatch(b) {
		if err := c.writeBatch(b.gather()); err != nil {
			reason := ClientGone
			if errors.Is(err, os.ErrDeadlineExceeded) {
				reason = WriteTimeout
			}
			c.Kill(reason) // part of a frame may have left: nothing can follow it
		}
		clear(b.frames)
	}
	batches.Put(b)
}

// takeBatch takes what the next write carries. Finding nothing it ends the writer's part, in the same critical section:
// the deadline is cleared before another writer can be started and set its own.
func (c *Conn) takeBatch(b *batch) bool {
	c.mu.Lock()
	b.frames = c.queue.take(b.frames[:0], gatherBytes)
	if len(b.frames) > 0 {
		c.mu.Unlock()
		return true
	}
	if !c.cut {
		c.tap.SetWriteDeadline(time.Time{})
	}
	c.writing = false
	last, fin := c.read, c.fin && !c.cut
	c.mu.Unlock()
	switch {
	case last:
		c.bury()
	case fin:
		c.closeWrite()
	}
	return false
}

func (c *Conn) writeBatch(p []byte) error {
	for len(p) > 0 {
		c.tap.SetWriteDeadline(time.Now().Add(c.server.opt.WriteTimeout))
		n, err := c.tap.Conn.Write(p[:min(len(p), writeBytes)])
		c.server.opt.Metrics.WritesOut.Inc()
		c.server.opt.Metrics.BytesOut.Add(float64(n))
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// closeWrite tells the peer that nothing follows, while the other direction stays open for what it is still sending.
func (c *Conn) closeWrite() {
	if half, ok := c.tap.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}
