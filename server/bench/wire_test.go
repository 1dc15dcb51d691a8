package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestFramesComeBackWhole(t *testing.T) {
	t.Parallel()
	for _, fromClient := range []bool{false, true} {
		var stream []byte
		var want [][]byte
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 100_000} {
			want = append(want, bytes.Repeat([]byte{'a' + byte(size%7)}, size))
			stream = appendFrame(stream, opText, want[len(want)-1], fromClient)
		}
		if _, _, _, ok, err := cutFrame(stream[:1], fromClient); ok || err != nil {
			t.Errorf("one byte: %t, %v", ok, err)
		}
		for i, b := range want {
			for _, part := range []int{2, 5, 9, 13, len(b)} { // a part is no frame
				if whole := len(appendFrame(nil, opText, b, fromClient)); part < whole {
					if _, _, _, ok, err := cutFrame(stream[:part], fromClient); ok || err != nil {
						t.Errorf("%d of %d bytes: %t, %v", part, whole, ok, err)
					}
				}
			}
			opcode, payload, rest, ok, err := cutFrame(stream, fromClient)
			if err != nil || !ok || opcode != opText || !bytes.Equal(payload, b) {
				t.Fatalf("frame %d: opcode %d, %d bytes, %t, %v", i, opcode, len(payload), ok, err)
			}
			stream = rest
		}
	}
}

func TestMasksAreTakenOff(t *testing.T) {
	t.Parallel()
	_, payload, _, ok, err := cutFrame([]byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, true)
	if !ok || err != nil || string(payload) != "Hello" { // RFC 6455, section 5.7
		t.Errorf("%q, %t, %v", payload, ok, err)
	}
}

// badFrames are what no server may send, or ours does not.
var badFrames = map[string]string{
	"reserved bit":         "\xc1\x00",
	"fragment":             "\x01\x01a",
	"continuation":         "\x80\x01a",
	"binary":               "\x82\x01a",
	"unknown opcode":       "\x8b\x00",
	"masked":               "\x81\x81\x00\x00\x00\x00a",
	"length too long":      "\x81\x7e\x00\x7d" + strings.Repeat("a", 125),
	"length much too long": "\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
	"beyond all measure":   "\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
	"long control frame":   "\x89\x7e\x00\x7e" + strings.Repeat("a", 126),
}

func TestBadFramesAreFound(t *testing.T) {
	t.Parallel()
	for name, frame := range badFrames {
		if _, _, _, ok, err := cutFrame([]byte(frame), false); err == nil || ok {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	if _, _, _, ok, err := cutFrame([]byte("\x81\x01a"), true); err == nil || ok {
		t.Errorf("a client's frame without a mask: %t, %v", ok, err)
	}
}

func TestStampsSurviveTheWay(t *testing.T) {
	t.Parallel()
	b := newBroadcast(topicName(7))
	for _, stamp := range [][2]int64{{1795315438050622746, 1}, {1795315438050622747, 9_999_999_999}, {1, 0}} {
		_, message, rest, ok, err := cutFrame(bytes.Clone(b.at(stamp[0], stamp[1])), true)
		if !ok || err != nil || len(rest) != 0 {
			t.Fatalf("%t, %v, %d bytes left", ok, err, len(rest))
		}
		r, ok := readRequest(message)
		if !ok || string(r.topic) != "realtime:bench:1007" || string(r.event) != "broadcast" {
			t.Fatalf("read %+v from %s", r, message)
		}
		out := relayed(r)
		sent, number, ok := readStamp(out)
		if !ok || sent != stamp[0] || number != stamp[1] || string(eventOf(out)) != "broadcast" {
			t.Errorf("%d %d: read %d %d %t from %s", stamp[0], stamp[1], sent, number, ok, out)
		}
		if size := len(appendFrame(nil, opText, out, false)); size != 235 {
			t.Errorf("a delivery has %d bytes", size)
		}
	}
	for _, text := range []string{"", `{"event":"system"}`, `{"stamp":"123`} {
		if _, _, ok := readStamp([]byte(text)); ok {
			t.Errorf("a stamp in %q", text)
		}
	}
}

func TestOnlyOurOwnMessagesAreRead(t *testing.T) {
	t.Parallel()
	_, join, _, _, _ := cutFrame(appendJoin(nil, session{Topic: "realtime:x"}, true, ""), true)
	if r, ok := readRequest(join); !ok || string(r.topic) != "realtime:x" || string(r.event) != "phx_join" || !bytes.Contains(r.payload, []byte(`"private":true`)) {
		t.Errorf("%s: %+v", join, r)
	}
	for _, text := range []string{"", "{}", `{"topic":"a"}`, `{"topic":"a","event":"b"}`, `{"topic":"a","event":"b","payload":{}}`} {
		if r, ok := readRequest([]byte(text)); ok {
			t.Errorf("%q: %+v", text, r)
		}
	}
}
