package socket

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A message may come slowly, byte by byte, as long as it ends before a heartbeat is overdue.
func TestSlowMessageArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, echoing)
		c, _ := r.pipe(t)
		for range 3 {
			for _, b := range masked(0x80|opText, strings.Repeat("x", 50)) {
				time.Sleep(time.Second)
				if _, err := c.conn.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			c.expect(t, opText, strings.Repeat("x", 50))
		}
	})
}

// One that goes on for ever is ended, whatever keeps coming: bytes, empty pieces, pings between them.
func TestMessageThatNeverEnds(t *testing.T) {
	t.Parallel()
	for name, piece := range map[string][]byte{
		"a byte at a time": {'x'},
		"empty pieces":     masked(0x00, ""),
		"pings between":    append(masked(0x80|opPing, ""), masked(0x00, "x")...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{MaxFrameBytes: 1 << 20, MaxQueueBytes: 1 << 20})
				c, s := r.pipe(t)
				begin := time.Now()
				first := masked(opText, "")
				if name == "a byte at a time" {
					first = masked(0x80|opText, strings.Repeat("x", 1<<16))[:20]
				}
				if _, err := c.conn.Write(first); err != nil {
					t.Fatal(err)
				}
				var dripping sync.WaitGroup
				defer dripping.Wait()
				dripping.Go(func() {
					for err := error(nil); err == nil; _, err = c.conn.Write(piece) {
						time.Sleep(time.Second)
					}
				})
				f := c.mustRead(t)
				for f.op == opPong {
					f = c.mustRead(t)
				}
				if f.op != opClose || string(f.payload) != "\x03\xf0" {
					t.Fatalf("got opcode %#x %q, want close 1008", f.op, f.payload)
				}
				if d := time.Since(begin); d < 60*time.Second || d > 66*time.Second {
					t.Fatalf("closed after %v", d)
				}
				for err := error(nil); err == nil; _, err = c.read() {
				}
				s.expectClosed(t, FrameTooSlow)
			})
		})
	}
}

// A client may give any reason for its close, text or not. The answer is legal all the same.
func TestCloseReasonThatIsNoText(t *testing.T) {
	t.Parallel()
	for reason, code := range map[string]int{"bye": 1000, "h\u00e9": 1000, "": 1000, "\xff": 1007, "half \xe2\x82": 1007, "\xed\xa0\x80": 1007} {
		r := newRig(t, Options{})
		c := dial(t, r.listen(t))
		s := <-r.sessions
		c.mustWrite(t, opClose, "\x03\xe8"+reason)
		want := ClientClosed
		answer := "\x03\xe8" + reason
		if code != 1000 {
			want, answer = ProtocolError, "\x03\xef"
		}
		c.expect(t, opClose, answer)
		s.expectClosed(t, want)
	}
}
