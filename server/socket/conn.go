package socket

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Conn is one open WebSocket. Its methods are safe from any goroutine and never block.
type Conn struct {
	server   *Server
	id       [16]byte
	remote   string
	tap      tap
	raw      syscall.RawConn // the connection's descriptor; nil where it is no plain socket
	ws       *websocket.Conn // used by the reader only
	handler  atomic.Pointer[Handler]
	lastRead atomic.Int64 // Server.now of the last bytes received
	unused   int64        // since when, on Server.now, the handler has no use for it; 0: it has. The sweep's own
	shut     atomic.Bool  // no frame is accepted or handed to the handler any more; set under mu

	mu        sync.Mutex // guards what follows; held across writes, which do not wait
	opening   bool       // the handshake is not answered: there is nothing yet to write to, nor to close
	queue     queue
	unflushed bool   // somebody has promised to Flush
	writing   bool   // a goroutine writes what the socket did not take at once
	read      bool   // the reader has ended
	cut       bool   // the connection is given up: nothing more is written
	fin       bool   // our side is to be closed once the queue is empty
	reason    Reason // the first one given
	timer     *time.Timer
	backlog   backlog
	drained   []func() // to be called when nothing waits
}

func newConn(s *Server, remote string) *Conn {
	c := &Conn{server: s, remote: remote, opening: true}
	rand.Read(c.id[:]) // never fails: the runtime ends the program rather than return an error
	c.lastRead.Store(s.now())
	return c
}

// ID is a random name for this connection, 32 hexadecimal digits.
func (c *Conn) ID() string { return hex.EncodeToString(c.id[:]) }

// RemoteAddr is the peer's address as the kernel knows it.
func (c *Conn) RemoteAddr() string { return c.remote }

// Handler is what the Opener returned, or nil while it has not returned yet.
func (c *Conn) Handler() Handler {
	if h := c.handler.Load(); h != nil {
		return *h
	}
	return nil
}

// Send queues one complete WebSocket frame, which is shared and must never change again, and writes it if the socket
// takes it. It reports whether the socket still takes frames. A frame that finds more than MaxQueueBytes waiting ends the
// socket as a slow reader.
func (c *Conn) Send(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut.Load() || !c.pushLocked(queued{frame: frame}) {
		return false
	}
	c.writeLocked()
	return true
}

// sendControl queues a control frame of the WebSocket library. After a close frame, ours or the answer to the client's,
// nothing may follow (RFC 6455, 5.5.1): later ones are swallowed, so that the library goes on reading for the client's.
func (c *Conn) sendControl(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut.Load() {
		return !c.cut
	}
	c.queue.pushControl(frame)
	if frame[0] == closeFrame {
		c.shutLocked()
	}
	c.writeLocked()
	return true
}

// Close ends the socket in order: what waits is written, then a close frame with this code; no frame is accepted after
// it. The connection is dropped when the client has answered, or after CloseTimeout. Only the first call counts.
func (c *Conn) Close(code int, reason Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.shut.Load() {
		c.closeLocked(code, reason)
	}
}

// Disconnect closes the socket because its user is to go.
func (c *Conn) Disconnect() { c.Close(codePolicy, Disconnected) }

// closeLocked queues the close frame behind what waits.
func (c *Conn) closeLocked(code int, reason Reason) {
	c.reason = reason
	c.queue.pushControl([]byte{closeFrame, 2, byte(code >> 8), byte(code)})
	c.shutLocked()
	c.writeLocked()
}

// Kill drops the connection at once, without a close frame; what waits is lost. An earlier reason is kept.
func (c *Conn) Kill(reason Reason) {
	c.mu.Lock()
	c.cutLocked(reason)
	c.mu.Unlock()
}

// Reason is why the socket ended, or "" while it is open.
func (c *Conn) Reason() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// shutLocked closes the door behind a close frame. From now on the peer has CloseTimeout to take what waits and to
// answer; the timer does not care which of the two it fails at.
func (c *Conn) shutLocked() {
	c.shut.Store(true)
	c.timer = time.AfterFunc(c.server.opt.CloseTimeout, func() { c.Kill(ClientGone) })
}

// cutLocked gives the connection up. Closing it may wait for a reader or writer to let go of the descriptor, and the
// caller may hold locks of its own, so that happens elsewhere.
func (c *Conn) cutLocked(reason Reason) {
	if c.cut {
		return
	}
	if c.reason == "" {
		c.reason = reason
	}
	c.cut = true
	c.shut.Store(true)
	c.queue.drop()
	c.drainedLocked()
	if c.opening || c.read && !c.writing {
		return // see opened; or closed already
	}
	c.dropLocked()
}

func (c *Conn) dropLocked() {
	// A peer that does not take its bytes would keep them in the kernel's memory long after us: throw them away.
	go drop(c.tap.Conn, c.reason == SlowReader || c.reason == WriteTimeout)
}

func drop(raw net.Conn, abort bool) {
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn() // closing the TLS layer would first write an alert, for up to five seconds
	}
	if t, ok := raw.(*net.TCPConn); ok && abort {
		t.SetLinger(0)
	}
	raw.Close()
}

// opened tells that the handshake has been answered. What was done to the socket before takes effect now.
func (c *Conn) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening = false
	if c.cut {
		c.dropLocked()
		return
	}
	c.writeLocked()
}

// settle records why the socket ended, unless that is known already, and returns it.
func (c *Conn) settle(reason Reason) Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == "" {
		c.reason = reason
	}
	return c.reason
}

// depart ends the reader's part; the connection is closed by the last of reader and writer.
func (c *Conn) depart() {
	c.mu.Lock()
	c.read = true
	c.shut.Store(true)
	last := !c.writing
	c.mu.Unlock()
	if last {
		c.bury()
	}
}

// bury closes the connection and forgets the socket. It runs once, when neither reader nor writer is left.
func (c *Conn) bury() {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.tap.Conn.Close()
	c.server.remove(c)
}
