package protocol

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unicode/utf8"
)

// WebSocket opcodes of data frames; every frame here is final (RFC 6455, section 5.2).
const (
	opText   = 0x1
	opBinary = 0x2
	finBit   = 0x80
)

// headerRoom is the longest header of an unmasked frame: two bytes and a length of eight.
const headerRoom = 10

// newFrame starts a frame whose payload is probably size bytes long, leaving room for the header in front.
func newFrame(size int) []byte {
	return make([]byte, headerRoom, headerRoom+size)
}

// seal writes the header of a frame begun with newFrame and returns the frame without spare capacity, so that nobody
// can append to shared bytes.
func seal(buf []byte, opcode byte) []byte {
	n := len(buf) - headerRoom
	start := headerRoom
	switch {
	case n <= 125:
		start -= 2
		buf[start+1] = byte(n)
	case n <= 0xffff:
		start -= 4
		buf[start+1] = 126
		binary.BigEndian.PutUint16(buf[start+2:], uint16(n))
	default:
		start -= 10
		buf[start+1] = 127
		binary.BigEndian.PutUint64(buf[start+2:], uint64(n))
	}
	buf[start] = finBit | opcode
	return buf[start:len(buf):len(buf)]
}

// Frame is one message for many receivers. Each wire version is encoded at most once, when the first receiver asks for
// it. A Frame may be used by any number of goroutines, and its bytes must not be changed.
type Frame struct {
	topic, event string
	payload      []byte // of a text frame: the payload; of a user broadcast: the user's
	meta         []byte
	user         bool // a user broadcast: binary on version 2.0.0
	text         bool // but text there as well, on the join joinRef
	joinRef      Ref
	encoding     Encoding

	v1, v2 encoded
}

type encoded struct {
	once  sync.Once
	bytes []byte // written inside once
}

// TextBroadcast is a broadcast that both versions carry as text, its payload verbatim. The payload must be valid JSON
// and is kept until the frame is let go.
func TextBroadcast(topic string, payload []byte) *Frame {
	return TextEvent(topic, EventBroadcast, payload)
}

// TextEvent is any other event for all members of a topic (presence_diff, postgres_changes).
func TextEvent(topic, event string, payload []byte) *Frame {
	return &Frame{topic: topic, event: event, payload: object(payload)}
}

// NewUserBroadcast is a broadcast that version 2.0.0 carries in binary and version 1.0.0 as text, if it can. JSON
// payload and metadata must be valid and are kept until the frame is let go.
func NewUserBroadcast(topic string, b UserBroadcast) (*Frame, error) {
	switch {
	case len(topic) > MaxName:
		return nil, fmt.Errorf("encode broadcast: topic of %d bytes, at most %d", len(topic), MaxName)
	case len(b.Event) > MaxName:
		return nil, fmt.Errorf("encode broadcast: event of %d bytes, at most %d", len(b.Event), MaxName)
	case len(b.Meta) > MaxName:
		return nil, fmt.Errorf("encode broadcast: metadata of %d bytes, at most %d", len(b.Meta), MaxName)
	case !utf8.ValidString(topic) || !utf8.ValidString(b.Event):
		return nil, fmt.Errorf("encode broadcast: topic or event is not UTF-8")
	case b.Encoding > JSON:
		return nil, fmt.Errorf("encode broadcast: unknown encoding %d", b.Encoding)
	case b.Encoding == JSON && len(b.Payload) == 0:
		return nil, fmt.Errorf("encode broadcast: no payload, which is not JSON")
	case len(b.Meta) > 0 && !IsObject(b.Meta):
		return nil, fmt.Errorf("encode broadcast: metadata is not an object")
	}
	return &Frame{
		topic: topic, event: b.Event, payload: b.Payload, meta: b.Meta, user: true, encoding: b.Encoding,
	}, nil
}

// Extension is what a right on a topic is about.
type Extension uint8

const (
	ExtensionBroadcast Extension = iota // and whatever is not presence
	ExtensionPresence
)

// Extension is what its receivers need the right to.
func (f *Frame) Extension() Extension {
	if !f.user && (f.event == EventPresenceDiff || f.event == EventPresenceState) {
		return ExtensionPresence
	}
	return ExtensionBroadcast
}

// IsPresenceState tells whether the frame says who is present, all of them; a diff says what has changed since.
func (f *Frame) IsPresenceState() bool { return !f.user && f.event == EventPresenceState }

// Replayed is a broadcast of the past for one receiver. JSON goes as text in either version, and names the receiver's join;
// other payloads go as they did live.
func Replayed(joinRef Ref, topic string, b UserBroadcast) (*Frame, error) {
	f, err := NewUserBroadcast(topic, b)
	if err == nil && b.Encoding == JSON {
		f.text, f.joinRef = true, joinRef
	}
	return f, err
}

// Bytes is the frame for receivers of one version, or nil if that version cannot carry it: version 1.0.0 has no binary
// payloads.
func (f *Frame) Bytes(v Version) []byte {
	if v == V1 {
		f.v1.once.Do(f.encodeV1)
		return f.v1.bytes
	}
	f.v2.once.Do(f.encodeV2)
	return f.v2.bytes
}

// Size is how many bytes one receiver's frame takes at most, without encoding anything, and leaving out what may have to be
// escaped in the names.
func (f *Frame) Size() int { return f.room() + frameOverhead }

// room is for encoding: about what version 2.0.0 takes.
func (f *Frame) room() int {
	return len(f.topic) + len(f.event) + len(f.payload) + len(f.meta) + frameOverhead
}

func (f *Frame) encodeV1() {
	switch {
	case !f.user:
		f.v1.bytes = Push(V1, "", "", f.topic, f.event, f.payload)
	case f.encoding == JSON:
		buf := appendOpenV1(newFrame(f.room()+len(`"payload":,"type":"broadcast","meta":`)), EventBroadcast)
		buf = appendBroadcast(buf, f.event, f.payload, f.meta)
		f.v1.bytes = seal(appendCloseV1(buf, "", f.topic), opText)
	}
}

func (f *Frame) encodeV2() {
	if !f.user {
		f.v2.bytes = Push(V2, "", "", f.topic, f.event, f.payload)
		return
	}
	if f.text {
		f.v2.bytes = Push(V2, f.joinRef, "", f.topic, EventBroadcast, BroadcastPayload(f.event, f.payload, f.meta))
		return
	}
	buf := append(newFrame(f.room()), kindBroadcast,
		byte(len(f.topic)), byte(len(f.event)), byte(len(f.meta)), byte(f.encoding))
	buf = append(buf, f.topic...)
	buf = append(buf, f.event...)
	buf = append(buf, f.meta...)
	f.v2.bytes = seal(append(buf, f.payload...), opBinary)
}
