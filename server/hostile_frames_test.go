package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// closeOf is the payload of a close frame.
func closeOf(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// What breaks RFC 6455 ends its own socket, with a code; what only cannot be read is counted, and the socket goes on.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxFrameBytes = 1 << 20 })
	const heartbeat = `[null,"h","phoenix","heartbeat",{}]`
	whole := func(first byte, payload string) []byte { return clientFrame(fin|first, payload) }
	unmasked := append([]byte{fin | opText, byte(len(heartbeat))}, heartbeat...)
	tests := []struct {
		name   string
		sent   []byte
		code   int    // of the close frame
		reason string // of the socket's end
	}{
		{"reserved bit 1, as of compression", whole(0x40|opText, heartbeat), 1002, "protocol_error"},
		{"reserved bit 2", whole(0x20|opText, heartbeat), 1002, "protocol_error"},
		{"reserved bit 3", whole(0x10|opText, heartbeat), 1002, "protocol_error"},
		{"reserved bit on a ping", whole(0x40|opPing, ""), 1002, "protocol_error"},
		{"unmasked", unmasked, 1002, "protocol_error"},
		{"unmasked close", []byte{fin | opClose, 0}, 1002, "protocol_error"},
		{"fragmented ping", clientFrame(opPing, "x"), 1002, "protocol_error"},
		{"fragmented close", clientFrame(opClose, ""), 1002, "protocol_error"},
		{"ping of 126 bytes", whole(opPing, strings.Repeat("x", 126)), 1002, "protocol_error"},
		{"ping of 2^62 bytes", clientHeader(fin|opPing, 1<<62), 1002, "protocol_error"},
		{"close of 126 bytes", whole(opClose, closeOf(1000, strings.Repeat("x", 124))), 1002, "protocol_error"},
		{"continuation of nothing", whole(opContinuation, heartbeat), 1002, "protocol_error"},
		{"text within a text", append(clientFrame(opText, `[null,`), whole(opText, heartbeat)...), 1002, "protocol_error"},
		{"binary within a text", append(clientFrame(opText, `[null,`), whole(opBinary, heartbeat)...), 1002, "protocol_error"},
		{"length with the top bit", clientHeader(fin|opText, 1<<63), 1002, "protocol_error"},
		{"length of all ones", clientHeader(fin|opBinary, 1<<64-1), 1002, "protocol_error"},
		{"close of one byte", whole(opClose, "\x03"), 1002, "protocol_error"},
		{"close with an invalid reason", whole(opClose, closeOf(1000, "\xff\xfe")), 1007, "protocol_error"},
		{"close with half a character", whole(opClose, closeOf(1000, "\xe2\x82")), 1007, "protocol_error"},
		{"close", whole(opClose, closeOf(1000, "bye")), 1000, "client_closed"},
		{"close with nothing", whole(opClose, ""), 1005, "client_closed"},
		{"close of an application", whole(opClose, closeOf(4999, "")), 4999, "client_closed"},
		{"message above the limit", whole(opText, strings.Repeat(" ", 1<<20+1)), 1009, "frame_too_big"},
		{"message above the limit, in pieces", slices.Concat(clientFrame(opText, strings.Repeat(" ", 1<<19)), clientFrame(opContinuation, strings.Repeat(" ", 1<<19)), whole(opContinuation, " ")), 1009, "frame_too_big"},
		{"10 MB", whole(opBinary, strings.Repeat("x", 10<<20)), 1009, "frame_too_big"},
		{"junk", bytes.Repeat([]byte{0x7f}, 4096), 1002, "protocol_error"},
		{"a second handshake", []byte(upgradeRequest("/socket/websocket", "")), 1002, "protocol_error"},
	}
	for opcode := byte(3); opcode < 16; opcode++ {
		if opcode < 8 || opcode > 10 {
			tests = append(tests, struct {
				name   string
				sent   []byte
				code   int
				reason string
			}{fmt.Sprintf("opcode %d", opcode), whole(opcode, "x"), 1002, "protocol_error"})
		}
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		tests = append(tests, struct {
			name   string
			sent   []byte
			code   int
			reason string
		}{fmt.Sprintf("close with code %d", code), whole(opClose, closeOf(code, "")), 1002, "protocol_error"})
	}
	tok := token(t, "evil", "authenticated", nil)
	for _, tt := range tests {
		before := labelled(t, r, "realtime_sockets_closed_total", tt.reason)
		c := r.upgrade(tok)
		c.write(tt.sent)
		if code := c.ended(); code != tt.code {
			t.Errorf("%s: closed with %d, want %d", tt.name, code, tt.code)
		}
		r.await("the socket's end to be counted", func() bool { return labelled(t, r, "realtime_sockets_closed_total", tt.reason) == before+1 })
	}
	bystanders.undisturbed("malformed frames")
}
