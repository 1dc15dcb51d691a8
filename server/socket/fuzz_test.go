package socket

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzClientBytes sends anything at all. The socket must end, with a reason, once; and whatever it answers before that
// must be whole, legal frames, a close frame last.
func FuzzClientBytes(f *testing.F) {
	f.Add(masked(0x81, "hello"))
	f.Add(append(masked(0x89, "ping"), masked(0x88, "\x03\xe8")...))
	f.Add(append(masked(0x01, "frag"), masked(0x80, "ment")...))
	f.Add(masked(0x82, "more than the limit allows: 0123456789012345678901234567890123456789"))
	f.Add([]byte{0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4})
	f.Add([]byte{0x88, 0x81, 0, 0, 0, 0, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Options{MaxFrameBytes: 64, MaxQueueBytes: 1 << 10}, echoing)
			c, s := r.pipe(t)
			c.conn.SetReadDeadline(time.Now().Add(5 * time.Minute)) // the bubble's: idle, then closing, take a little over one
			go c.conn.Write(data)
			closed := false
			for {
				got, err := c.read()
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && closed {
					break
				}
				if err != nil {
					t.Fatalf("% x: %v", data, err)
				}
				if closed {
					t.Fatalf("% x: opcode %#x after the close frame", data, got.op)
				}
				closed = got.op == opClose
			}
			if reason := await(t, s.closed, "Closed"); reason == "" {
				t.Fatalf("% x: ended without a reason", data)
			}
		})
	})
}
