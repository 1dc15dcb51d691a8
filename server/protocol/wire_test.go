package protocol_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"rowcast/server/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	opText   = 1
	opBinary = 2
)

// parseFrame reads one server frame and wants nothing before, after or around it.
func parseFrame(frame []byte) (opcode byte, payload []byte, err error) {
	if len(frame) < 2 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", len(frame))
	}
	if frame[0]&0xf0 != 0x80 {
		return 0, nil, fmt.Errorf("first byte %#x: want FIN and no reserved bit", frame[0])
	}
	if frame[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("a masked frame")
	}
	n, header := int(frame[1]), 2
	switch {
	case n == 126 && len(frame) >= 4:
		n, header = int(binary.BigEndian.Uint16(frame[2:])), 4
		if n < 126 {
			return 0, nil, fmt.Errorf("length %d in the long form", n)
		}
	case n == 127 && len(frame) >= 10:
		n, header = int(binary.BigEndian.Uint64(frame[2:])), 10
		if n <= 0xffff {
			return 0, nil, fmt.Errorf("length %d in the longest form", n)
		}
	}
	if len(frame) != header+n {
		return 0, nil, fmt.Errorf("header says %d+%d bytes, the frame has %d", header, n, len(frame))
	}
	if cap(frame) != len(frame) {
		return 0, nil, fmt.Errorf("%d bytes of spare capacity", cap(frame)-len(frame))
	}
	return frame[0] & 0x0f, frame[header:], nil
}

// textOf is the payload of a text frame, which must be UTF-8 and JSON.
func textOf(tb testing.TB, frame []byte) string {
	tb.Helper()
	op, payload, err := parseFrame(frame)
	if err != nil {
		tb.Fatal(err)
	}
	if op != opText {
		tb.Fatalf("opcode %d, want text", op)
	}
	if !utf8.Valid(payload) || !json.Valid(payload) {
		tb.Fatalf("not UTF-8 JSON: %q", payload)
	}
	return string(payload)
}

func binaryOf(tb testing.TB, frame []byte) []byte {
	tb.Helper()
	op, payload, err := parseFrame(frame)
	if err != nil {
		tb.Fatal(err)
	}
	if op != opBinary {
		tb.Fatalf("opcode %d, want binary", op)
	}
	return payload
}

// userBroadcast reads kind 4 as a client does.
func userBroadcast(tb testing.TB, b []byte) (topic string, u protocol.UserBroadcast) {
	tb.Helper()
	if len(b) < 5 || b[0] != 4 {
		tb.Fatalf("not a frame of kind 4: % x", b)
	}
	t, e, m := int(b[1]), int(b[2]), int(b[3])
	rest := b[5:]
	if len(rest) < t+e+m {
		tb.Fatalf("shorter than its sizes: % x", b)
	}
	u.Encoding = protocol.Encoding(b[4])
	topic, rest = string(rest[:t]), rest[t:]
	u.Event, rest = string(rest[:e]), rest[e:]
	u.Meta, u.Payload = rest[:m], rest[m:]
	return topic, u
}

func fromHex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func sameJSON(tb testing.TB, got, want string) {
	tb.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		tb.Fatalf("got %s: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		tb.Fatalf("want %s: %v", want, err)
	}
	if !reflect.DeepEqual(g, w) {
		tb.Errorf("got  %s\nwant %s", got, want)
	}
}

// golden compares with a file under testdata; -update rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if that is meant, run with -update\ngot:\n%s", path, got)
	}
}
