package socket

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Sizes of the buffers between coder/websocket and the connection. The reader's is what an idle socket keeps; the
// writer's must hold a whole control frame (127 bytes), so that one flush is one Write and one Write is one frame.
const (
	readBuffer  = 1 << 10
	writeBuffer = 256
)

// closeText is where the text of a close frame begins: behind two bytes of header and two of code.
const closeText = 4

// longAgo is a deadline that has passed: it wakes a blocked read without touching the other direction.
var longAgo = time.Unix(1, 0)

// tap is the net.Conn that coder/websocket sees. It reads from the real connection, but what the library writes
// (pongs and close frames) goes into the socket's queue, where it meets the data frames in order.
type tap struct {
	net.Conn              // the real connection
	conn     *Conn        // whose queue takes the control frames
	early    []byte       // read by the HTTP server before it let go of the connection
	failed   bool         // reading ended by the connection, not by what was read; used by the reader only
	began    atomic.Int64 // Server.now when the message that is being read began; 0 between messages
}

func (t *tap) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		if t.early = t.early[n:]; len(t.early) == 0 {
			t.early = nil
		}
		return n, nil
	}
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.conn.lastRead.Store(t.conn.server.now())
	}
	if err != nil {
		t.failed = true
	}
	return n, err
}

// Write takes one whole control frame. It copies, because the library uses its buffer again, and never blocks. The
// library answers a close frame with the same reason, whatever bytes it is made of; ours are text.
func (t *tap) Write(p []byte) (int, error) {
	frame := bytes.Clone(p)
	if frame[0] == closeFrame && len(frame) > closeText && !utf8.Valid(frame[closeText:]) {
		frame = []byte{closeFrame, 2, codeNotText >> 8, codeNotText & 0xff}
	}
	if !t.conn.sendControl(frame) {
		return 0, net.ErrClosed
	}
	return len(p), nil
}

// Close is the library's wish to end the connection: reading stops at once, but what waits in the queue, our close
// frame last, must still leave. The connection itself is closed by whoever leaves it last, see Conn.depart.
func (t *tap) Close() error { return t.Conn.SetReadDeadline(longAgo) }

// hijacker gives coder/websocket the tap and small buffers in place of the HTTP server's connection and its 4 KB ones.
type hijacker struct {
	http.ResponseWriter
	conn *Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, old, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t := &h.conn.tap
	t.Conn, t.conn = raw, h.conn
	if n := old.Reader.Buffered(); n > 0 {
		early, _ := old.Reader.Peek(n)
		t.early = bytes.Clone(early)
	}
	return t, bufio.NewReadWriter(bufio.NewReaderSize(t, readBuffer), bufio.NewWriterSize(t, writeBuffer)), nil
}
