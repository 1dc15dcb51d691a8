package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
)

// Opcodes of RFC 6455.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

// maxFrame is far beyond anything that is sent here: a larger length is a frame that was not read from its beginning.
const maxFrame = 1 << 17

// appendFrame appends one whole frame. A client's is masked, with zeros: what masking costs the client is not measured.
func appendFrame(dst []byte, opcode byte, payload []byte, fromClient bool) []byte {
	var masked byte
	if fromClient {
		masked = 0x80
	}
	dst = append(dst, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, masked|byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, masked|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, masked|127), uint64(n))
	}
	if fromClient {
		dst = append(dst, 0, 0, 0, 0)
	}
	return append(dst, payload...)
}

// cutFrame takes the first frame off b, and is strict: a frame is whole, unfragmented, without reserved bits, masked if
// and only if a client sent it, and its length is written in as few bytes as can be. ok is false while b holds only a
// part of one.
func cutFrame(b []byte, fromClient bool) (opcode byte, payload, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return 0, nil, b, false, nil
	}
	opcode = b[0] & 0x0f
	switch {
	case b[0]&0x70 != 0:
		return 0, nil, b, false, fmt.Errorf("frame header %x: a reserved bit is set", b[:2])
	case b[0]&0x80 == 0:
		return 0, nil, b, false, fmt.Errorf("frame header %x: fragmented", b[:2])
	case opcode != opText && opcode != opClose && opcode != opPing && opcode != opPong:
		return 0, nil, b, false, fmt.Errorf("frame header %x: unexpected opcode", b[:2])
	case b[1]&0x80 != 0 != fromClient:
		return 0, nil, b, false, fmt.Errorf("frame header %x: masked by the wrong side", b[:2])
	}
	size, header := uint64(b[1]&0x7f), 2
	least := uint64(0)
	switch size {
	case 126:
		if header = 4; len(b) >= header {
			size, least = uint64(binary.BigEndian.Uint16(b[2:])), 126
		}
	case 127:
		if header = 10; len(b) >= header {
			size, least = binary.BigEndian.Uint64(b[2:]), 1<<16
		}
	}
	if len(b) < header {
		return 0, nil, b, false, nil
	}
	if size < least || size > maxFrame || opcode >= opClose && size > 125 {
		return 0, nil, b, false, fmt.Errorf("frame header %x: length %d", b[:header], size)
	}
	var mask []byte
	if fromClient {
		if len(b) < header+4 {
			return 0, nil, b, false, nil
		}
		mask = b[header : header+4]
		header += 4
	}
	end := header + int(size)
	if len(b) < end {
		return 0, nil, b, false, nil
	}
	payload = b[header:end]
	if fromClient && binary.LittleEndian.Uint32(mask) != 0 {
		for i := range payload {
			payload[i] ^= mask[i&3]
		}
	}
	return opcode, payload, b[end:], true, nil
}

// The messages, Phoenix 1.0.0, in the one form that the generator writes, so that floor and plain need no JSON parser:
// their cost is to be that of the sockets.

func appendJoin(dst []byte, as session, private bool, table string) []byte {
	extra := ""
	if as.Key != "" {
		extra = fmt.Sprintf(`,"presence":{"enabled":true,"key":"%s"}`, as.Key)
	}
	if table != "" {
		extra += fmt.Sprintf(`,"postgres_changes":[{"event":"*","schema":"public","table":"%s"}]`, table)
	}
	payload := fmt.Appendf(nil, `{"topic":"%s","event":"phx_join","payload":{"config":{"private":%t,"broadcast":{"self":true}%s}},"ref":"1","join_ref":"1"}`, as.Topic, private, extra)
	return appendFrame(dst, opText, payload, true)
}

// stampMark is followed by a stamp in every broadcast: when it was to be sent, in nanoseconds, and its number in its
// room. Both have a fixed width.
const (
	stampMark  = `"stamp":"`
	timeDigits = 19
	seqDigits  = 10
	stampSize  = timeDigits + 1 + seqDigits
)

// padding makes a frame of 235 bytes, about what a small event of a real application takes.
const padding = 64

// broadcast is a room's publication, made once; only the stamp changes from one to the next.
type broadcast struct {
	frame []byte
	stamp []byte // within frame
}

func newBroadcast(topic string) broadcast {
	payload := fmt.Appendf(nil, `{"topic":"%s","event":"broadcast","payload":{"type":"broadcast","event":"m","payload":{%s%s","pad":"%s"}},"ref":"2","join_ref":"1"}`,
		topic, stampMark, bytes.Repeat([]byte{'0'}, stampSize), bytes.Repeat([]byte{'x'}, padding))
	frame := appendFrame(nil, opText, payload, true)
	at := bytes.Index(frame, []byte(stampMark)) + len(stampMark)
	frame[at+timeDigits] = '-'
	return broadcast{frame, frame[at : at+stampSize]}
}

// at is the frame with a new stamp; it is good until the next call.
func (b broadcast) at(nanoseconds, number int64) []byte {
	putDigits(b.stamp[:timeDigits], nanoseconds)
	putDigits(b.stamp[timeDigits+1:], number)
	return b.frame
}

func putDigits(to []byte, n int64) {
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = byte('0' + n%10)
		n /= 10
	}
}

// readStamp finds the stamp in what a client was sent.
func readStamp(payload []byte) (nanoseconds, number int64, ok bool) {
	i := bytes.Index(payload, []byte(stampMark))
	if i < 0 || len(payload) < i+len(stampMark)+stampSize {
		return 0, 0, false
	}
	stamp := payload[i+len(stampMark):]
	for _, c := range stamp[:timeDigits] {
		nanoseconds = nanoseconds*10 + int64(c-'0')
	}
	for _, c := range stamp[timeDigits+1 : stampSize] {
		number = number*10 + int64(c-'0')
	}
	return nanoseconds, number, true
}

// request is what floor and plain need of a client's message.
type request struct{ topic, event, payload []byte }

func readRequest(message []byte) (r request, ok bool) {
	rest, ok := bytes.CutPrefix(message, []byte(`{"topic":"`))
	if !ok {
		return r, false
	}
	if r.topic, rest, ok = bytes.Cut(rest, []byte(`","event":"`)); !ok {
		return r, false
	}
	if r.event, rest, ok = bytes.Cut(rest, []byte(`","payload":`)); !ok {
		return r, false
	}
	end := bytes.LastIndex(rest, []byte(`,"ref":`))
	if end < 0 {
		return r, false
	}
	r.payload = rest[:end]
	return r, true
}

// joinReply and relayed are what floor and plain say: the same bytes as the server.

func joinReply(topic []byte) []byte {
	return fmt.Appendf(nil, `{"event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[]}},"ref":"1","topic":"%s"}`, topic)
}

func relayed(r request) []byte {
	return fmt.Appendf(nil, `{"event":"broadcast","payload":%s,"ref":null,"topic":"%s"}`, r.payload, r.topic)
}

// eventOf reads the event of a message to a client of version 1.0.0.
func eventOf(payload []byte) []byte {
	rest, _ := bytes.CutPrefix(payload, []byte(`{"event":"`))
	event, _, _ := bytes.Cut(rest, []byte(`"`))
	return event
}

// topicName is a public topic's, of a fixed width so that all frames have the same size.
func topicName(i int) string {
	return "realtime:bench:" + strconv.Itoa(1000+i)
}
