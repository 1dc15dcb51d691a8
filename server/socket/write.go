package socket

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// gatherBytes is how much one write collects from several frames: at a few hundred bytes each the cost of the
	// system call is spread thin long before this.
	gatherBytes = 32 << 10
	// pieceBytes is how much of one large frame goes into one blocking write, and so what WriteTimeout is about: a slow
	// line may take its time for a frame of megabytes as long as it moves.
	pieceBytes = 64 << 10
)

// batch is what a write works with: the frames listed for it, the memory to join them in, and the non-blocking write
// itself, as a closure that is made once.
type batch struct {
	frames  [][]byte
	buf     []byte
	piece   []byte
	written int
	err     error
	try     func(fd uintptr) bool
}

var batches = sync.Pool{New: func() any {
	b := &batch{}
	b.try = func(fd uintptr) bool { b.writeTo(int(fd)); return true } // true: never wait for the socket
	return b
}}

func (b *batch) release() {
	b.piece, b.err = nil, nil
	batches.Put(b)
}

// join returns the frames as one piece, and forgets them: a single frame as it is, several copied together. For the sizes
// that meet here that takes as long as writev or less, and needs no memory per write: see BenchmarkGather.
func (b *batch) join() []byte {
	defer clear(b.frames)
	if len(b.frames) == 1 {
		return b.frames[0]
	}
	b.buf = b.buf[:0]
	for _, f := range b.frames {
		b.buf = append(b.buf, f...)
	}
	return b.buf
}

// writeTo offers the piece to the kernel once. written 0 without an error: the socket takes nothing now.
func (b *batch) writeTo(fd int) {
	for {
		b.written, b.err = syscall.Write(fd, b.piece)
		if b.err == syscall.EINTR {
			continue
		}
		b.written = max(b.written, 0)
		if b.err == syscall.EAGAIN {
			b.err = nil
		}
		return
	}
}

// Queue appends one complete frame, which is shared and must never change again, without writing it yet. It reports
// whether the caller has to Flush: no if somebody else does already, or if the socket takes nothing any more. Once void
// is set the frame does not begin to leave.
func (c *Conn) Queue(frame []byte, void *atomic.Bool) (flush bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut.Load() || !c.pushLocked(queued{frame, void}) || c.unflushed || c.writing {
		return false
	}
	c.unflushed = true
	return true
}

// Flush writes what was queued, as far as the kernel takes it at once.
func (c *Conn) Flush() {
	c.mu.Lock()
	c.writeLocked()
	c.mu.Unlock()
}

// WhenDrained calls then once, as soon as nothing waits for the client or the connection is given up: at once if so. It is
// called under the connection's lock, so it must not block nor use it.
func (c *Conn) WhenDrained(then func()) {
	c.mu.Lock()
	c.drained = append(c.drained, then)
	if c.queue.len() == 0 || c.cut {
		c.drainedLocked()
	}
	c.mu.Unlock()
}

// drainedLocked tells those who wait for it that nothing waits.
func (c *Conn) drainedLocked() {
	for _, then := range c.drained {
		then()
	}
	c.drained = nil
}

// pushLocked queues a data frame. One that finds more than MaxQueueBytes waiting ends the socket as a slow reader,
// provided that what waits was offered to the kernel, or given to the goroutine that does so.
func (c *Conn) pushLocked(w queued) bool {
	limit := c.server.opt.MaxQueueBytes
	if c.queue.push(w, limit) {
		return true
	}
	if c.unflushed {
		c.writeLocked()
		if c.cut || c.queue.push(w, limit) {
			return !c.cut
		}
	}
	c.giveUpLocked()
	return false
}

// giveUpLocked closes the socket of a slow reader. What waits is dropped for a close frame that says why, should the
// client read on in time.
func (c *Conn) giveUpLocked() {
	c.queue.drop()
	c.closeLocked(codeTryLater, SlowReader)
}

// writeLocked hands what waits to the kernel. Where it does not take everything, and where the connection is no plain
// socket (TLS), a goroutine sees to the rest and ends with it. Nothing waits here.
func (c *Conn) writeLocked() {
	c.unflushed = false
	if c.writing || c.cut || c.opening {
		return
	}
	if c.queue.len() == 0 {
		c.drainedLocked()
		return
	}
	if c.raw == nil {
		c.writing = true
		go c.writeBlocking()
		return
	}
	b := batches.Get().(*batch)
	defer b.release()
	for c.offerLocked(b, func() error { return c.raw.Write(b.try) }) {
		if b.err != nil {
			c.cutLocked(ClientGone) // part of a frame may have left: nothing can follow it
			return
		}
		if b.written < len(b.piece) {
			c.writing = true
			go c.writeWhenPossible()
			return
		}
	}
	c.drainedLocked()
}

// offerLocked puts together the next piece and makes one attempt to write it; false if nothing waits.
func (c *Conn) offerLocked(b *batch, attempt func() error) bool {
	if b.frames = c.queue.gather(b.frames[:0], gatherBytes); len(b.frames) == 0 {
		return false
	}
	b.piece, b.written = b.join(), 0
	if err := attempt(); err != nil {
		b.err = err
	}
	c.queue.advance(b.written)
	c.count(b.written)
	return true
}

func (c *Conn) count(written int) {
	c.server.opt.Metrics.WritesOut.Inc()
	c.server.opt.Metrics.BytesOut.Add(float64(written))
}

// endOutputLocked tells the peer, where that was asked for, that nothing follows, while the other direction stays open
// for what it is still sending.
func (c *Conn) endOutputLocked() {
	half, ok := c.tap.Conn.(interface{ CloseWrite() error })
	switch {
	case !ok || !c.fin || c.cut:
	case c.raw != nil:
		half.CloseWrite()
	default:
		go half.CloseWrite() // TLS says goodbye, for which it may wait
	}
}

// writeWhenPossible writes the backlog of a plain socket, whenever it takes some more. Only what the kernel has taken has
// left: of the rest, frames can still be given up.
func (c *Conn) writeWhenPossible() {
	b := batches.Get().(*batch)
	c.setWriteDeadline()
	emptied, last := false, false
	err := c.raw.Write(func(fd uintptr) bool {
		for {
			c.mu.Lock()
			if c.cut {
				c.mu.Unlock()
				return true
			}
			if !c.offerLocked(b, func() error { b.writeTo(int(fd)); return nil }) {
				emptied, last = true, c.idleLocked()
				c.mu.Unlock()
				return true
			}
			c.mu.Unlock()
			if b.err != nil {
				return true
			}
			if b.written > 0 {
				c.setWriteDeadline()
			}
			if b.written < len(b.piece) {
				return false // until the socket takes more
			}
		}
	})
	if err == nil {
		err = b.err
	}
	b.release()
	if !emptied {
		last = c.stopWriting(err)
	}
	if last {
		c.bury()
	}
}

// writeBlocking writes what waits on a connection that can only be written to by waiting.
func (c *Conn) writeBlocking() {
	b := batches.Get().(*batch)
	defer b.release()
	for {
		c.mu.Lock()
		if b.frames = c.queue.gather(b.frames[:0], gatherBytes); len(b.frames) == 0 {
			last := c.idleLocked()
			c.mu.Unlock()
			if last {
				c.bury()
			}
			return
		}
		piece := b.join()
		c.queue.advance(len(piece))
		c.mu.Unlock()
		if err := c.writePieces(piece); err != nil {
			if c.stopWriting(err) {
				c.bury()
			}
			return
		}
	}
}

func (c *Conn) writePieces(p []byte) error {
	for len(p) > 0 {
		c.setWriteDeadline()
		n, err := c.tap.Conn.Write(p[:min(len(p), pieceBytes)])
		c.count(n)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (c *Conn) setWriteDeadline() {
	c.tap.SetWriteDeadline(time.Now().Add(c.server.opt.WriteTimeout))
}

// idleLocked ends the writer's part in the critical section that found nothing to write, so that no frame is left behind
// and the deadline is cleared before anybody else can write and fall over it. last: the reader has ended before.
func (c *Conn) idleLocked() (last bool) {
	if !c.cut {
		c.tap.SetWriteDeadline(time.Time{})
	}
	c.writing = false
	c.drainedLocked()
	c.endOutputLocked()
	return c.read
}

// stopWriting ends the writer's part because of an error, or because the connection was given up.
func (c *Conn) stopWriting(err error) (last bool) {
	reason := ClientGone
	if errors.Is(err, os.ErrDeadlineExceeded) {
		reason = WriteTimeout
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutLocked(reason) // part of a frame may have left: nothing can follow it
	c.writing = false
	return c.read
}
