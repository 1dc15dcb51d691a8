package socket

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// told is what a server that echoes says to a client's bytes, pongs left out: they may be fewer than the pings.
type told struct {
	echoes []frame
	code   int // of the close frame, 0 if there is none
}

// read plays RFC 6455's part of a server, one frame after the other. It was written from the RFC, not from the server.
func (m *told) read(data []byte, limit int) {
	var message *frame // begun, not ended
	take := func(n uint64) (b []byte, ok bool) {
		if n > uint64(len(data)) {
			return nil, false
		}
		b, data = data[:n], data[n:]
		return b, true
	}
	for {
		m.code = codeNormal // where the bytes end the socket is idle, and is closed for it
		head, ok := take(2)
		if !ok {
			return
		}
		n := uint64(head[1] & 0x7f)
		if extra := map[uint64]uint64{126: 2, 127: 8}[n]; extra > 0 {
			b, ok := take(extra)
			if !ok {
				return
			}
			n = binary.BigEndian.Uint64(append(make([]byte, 8-extra), b...))
		}
		if n >= 1<<63 {
			m.code = codeProtocolError
			return
		}
		var key []byte
		if head[1]&0x80 != 0 {
			if key, ok = take(4); !ok {
				return
			}
		}
		final, op := head[0]&0x80 != 0, head[0]&0x0f
		control := op >= opClose
		if head[0]&0x70 != 0 || key == nil || op > opPong || op > opBinary && op < opClose || control && (n > 125 || !final) ||
			op == 0 && message == nil || (op == opText || op == opBinary) && message != nil {
			m.code = codeProtocolError
			return
		}
		if control {
			payload, ok := take(n)
			if !ok {
				m.code = 0 // half a control frame is not waited for
				return
			}
			if op == opClose {
				m.code = closeCode(unmask(payload, key))
				return
			}
			continue
		}
		if message == nil {
			message = &frame{op: op}
		}
		if room := uint64(limit - len(message.payload)); n > room && uint64(len(data)) > room {
			m.code = codeTooBig
			return
		}
		payload, ok := take(n)
		if !ok {
			return
		}
		if message.payload = append(message.payload, unmask(payload, key)...); final {
			m.echoes, message = append(m.echoes, *message), nil
		}
	}
}

func unmask(payload, key []byte) []byte {
	plain := slices.Clone(payload)
	for i := range plain {
		plain[i] ^= key[i%4]
	}
	return plain
}

// closeCode is how a close frame is answered.
func closeCode(payload []byte) int {
	if len(payload) == 0 {
		return noCode
	}
	if len(payload) == 1 {
		return codeProtocolError
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case code < 1000, code >= 1004 && code <= 1006, code > 1014 && code < 3000, code > 4999:
		return codeProtocolError
	case !utf8.Valid(payload[2:]):
		return codeNotText
	}
	return code
}

// noCode stands for a close frame without a code, and is never in one.
const noCode = 1005

// FuzzClientBytes sends anything at all. What comes back is what the RFC says, in whole frames, and the socket ends, with a
// reason, once. That nothing is left behind the bubble sees to: it does not end before all its goroutines have.
func FuzzClientBytes(f *testing.F) {
	f.Add(masked(0x81, "hello"))
	f.Add(append(masked(0x89, "ping"), masked(0x88, "\x03\xe8")...))
	f.Add(append(masked(0x01, "frag"), masked(0x80, "ment")...))
	f.Add(slices.Concat(masked(0x02, "a"), masked(0x8a, "pong"), masked(0x00, ""), masked(0x89, "ping"), masked(0x80, "b"), masked(0x81, "c")))
	f.Add(masked(0x82, "more than the limit allows: 0123456789012345678901234567890123456789"))
	f.Add(append(masked(0x02, "0123456789012345678901234567890123456789012345678901234567890123"), masked(0x80, "")...))
	f.Add(append(masked(0x02, "0123456789012345678901234567890123456789012345678901234567890123"), masked(0x80, "4")...))
	f.Add([]byte{0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4})
	f.Add([]byte{0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 'x'})
	f.Add([]byte{0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 'x'})
	f.Add([]byte{0x88, 0x81, 0, 0, 0, 0, 'x'})
	f.Add(masked(0x88, "\x03\xe8\xff"))
	f.Add(masked(0x88, ""))
	f.Add(append(masked(0x81, "x"), masked(0x89, "half")[:7]...))
	f.Add(masked(0x0b, "x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 64
		var want told
		want.read(data, limit)
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Options{MaxFrameBytes: limit, MaxQueueBytes: 1 << 20}, echoing)
			c, s := r.pipe(t)
			c.conn.SetReadDeadline(time.Now().Add(5 * time.Minute)) // the bubble's: idle, then closing, take a little over one
			go c.conn.Write(data)
			var got told
			closed := false
			for {
				f, err := c.read()
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && closed {
					break
				}
				if err != nil {
					t.Fatalf("% x: %v", data, err)
				}
				switch {
				case closed:
					t.Fatalf("% x: opcode %#x after the close frame", data, f.op)
				case f.op == opClose && len(f.payload) == 0:
					closed, got.code = true, noCode
				case f.op == opClose:
					closed, got.code = true, int(binary.BigEndian.Uint16(f.payload))
				case f.op != opPong:
					got.echoes = append(got.echoes, f)
				}
			}
			if reason := await(t, s.closed, "Closed"); reason == "" {
				t.Fatalf("% x: ended without a reason", data)
			}
			same := func(a, b frame) bool { return a.op == b.op && string(a.payload) == string(b.payload) }
			if got.code != want.code || !slices.EqualFunc(got.echoes, want.echoes, same) {
				t.Fatalf("% x: got %v, want %v", data, got, want)
			}
		})
	})
}
