package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"unicode/utf8"

	"github.com/coder/websocket"
)

const (
	firstRead = 2 << 10  // memory a message starts with; most fit
	keepRead  = 64 << 10 // larger memory is not kept for the next message
)

// readMemory is borrowed when a message begins and given back when it was handled: an idle socket holds none.
var readMemory = sync.Pool{New: func() any { b := make([]byte, 0, firstRead); return &b }}

// run is the socket's one goroutine: it feeds the handler, and tells it why the socket ended. err: there is none, for that reason.
func (c *Conn) run(h Handler, err error) {
	if err == nil {
		err = c.guard("frame", func() error { return c.readFrames(h) })
	}
	reason, code := c.conclude(err)
	reason = c.settle(reason)
	switch {
	case code != 0:
		c.dismiss(code, reason)
	case c.tap.failed:
		c.Kill(reason)
	}
	c.server.closed(c, reason)
	c.finish(h, reason)
	if code != 0 {
		io.Copy(io.Discard, c.tap.Conn) // see dismiss
	}
	c.ws.CloseNow() // the connection itself stays open until the queue is written, see tap.Close
	c.depart()
}

// begin has the socket's handler made, before the client can take the socket for open.
func (c *Conn) begin(open Opener) (h Handler, err error) {
	err = c.guard("open", func() error {
		h = open(c)
		c.handler.Store(&h)
		return nil
	})
	return h, err
}

// finish tells the handler, if there is one, that the socket is gone.
func (c *Conn) finish(h Handler, reason Reason) {
	if h != nil {
		c.guard("closed", func() error { h.Closed(reason); return nil })
	}
}

// errPanic stands for a handler that panicked: its socket ends, the others go on.
var errPanic = errors.New("handler panicked")

func (c *Conn) guard(step string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.server.opt.Logger.Error("socket handler panicked", "socket_id", c.ID(), "step", step,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return f()
}

// readFrames hands message after message to h until reading fails. The context never ends: the library would set a
// timer for every read otherwise, and it is the tap that stops a read.
func (c *Conn) readFrames(h Handler) error {
	for {
		kind, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		memory := readMemory.Get().(*[]byte)
		c.tap.began.Store(max(c.server.now(), 1))
		data, err := readAll(r, (*memory)[:0])
		c.tap.began.Store(0)
		if err == nil && !c.shut.Load() {
			h.Frame(kind == websocket.MessageBinary, data)
		}
		if cap(data) <= keepRead {
			*memory = data[:0]
			readMemory.Put(memory)
		}
		if err != nil {
			return err
		}
	}
}

// readAll appends all of r to data. Memory grows with what has come, not with what a frame's header announces.
func readAll(r io.Reader, data []byte) ([]byte, error) {
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return data, err
		}
	}
}

// conclude says why reading ended, and the code of the close frame that the peer is still owed, if any.
func (c *Conn) conclude(err error) (Reason, int) {
	var closed websocket.CloseError
	switch {
	case errors.Is(err, errPanic):
		return InternalError, codeInternal
	case errors.As(err, &closed) && !utf8.ValidString(closed.Reason): // answered in tap.Write
		return ProtocolError, 0
	case errors.As(err, &closed):
		return ClientClosed, 0
	case c.tap.failed:
		return ClientGone, 0
	case errors.Is(err, websocket.ErrMessageTooBig):
		return FrameTooBig, codeTooBig
	default:
		return ProtocolError, codeProtocolError
	}
}

// dismiss ends the socket for something that happened while the peer may still be sending. To close a connection with
// unread bytes in it makes the kernel throw away our close frame with the rest. So it is closed for writing only, and
// the reader reads and drops what still comes, until the peer hangs up or CloseTimeout is over. In most cases the
// library has sent a close frame, with a text; then Close does nothing.
func (c *Conn) dismiss(code int, reason Reason) {
	c.Close(code, reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fin = true
	if !c.writing {
		c.endOutputLocked()
	}
}
