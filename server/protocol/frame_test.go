package protocol_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/protocol"
)

const room = "realtime:room:1"

// TestHeaderLengths meets each form of the length at its edges, for text and binary.
func TestHeaderLengths(t *testing.T) {
	t.Parallel()
	around := len(`[null,null,"t","e",{"a":""}]`)
	for _, n := range []int{around, 125, 126, 127, 65535, 65536, 70000} {
		payload := `{"a":"` + strings.Repeat("x", n-around) + `"}`
		got := textOf(t, protocol.Push(protocol.V2, "", "", "t", "e", []byte(payload)))
		if len(got) != n || !strings.HasSuffix(got, payload+"]") {
			t.Errorf("%d bytes came out as %d", n, len(got))
		}
		b := make([]byte, n-len("\x04\x01\x01\x00\x00te"))
		f, err := protocol.NewUserBroadcast("t", protocol.UserBroadcast{Event: "e", Payload: b})
		if err != nil {
			t.Fatal(err)
		}
		if got := binaryOf(t, f.Bytes(protocol.V2)); len(got) != n {
			t.Errorf("%d bytes came out as %d in binary", n, len(got))
		}
	}
}

func TestUserBroadcast(t *testing.T) {
	t.Parallel()
	id := `{"id":"3f0c6f0e-9d3b-4c3e-8a0d-1b2c3d4e5f60"}`
	tests := []struct {
		name string
		push protocol.UserBroadcast
		v1   string // "" = cannot be carried
		v2   string // hex
	}{
		{"JSON", protocol.UserBroadcast{Event: "cur", Encoding: protocol.JSON, Payload: []byte(`{"x":1}`)},
			`{"event":"broadcast","payload":{"event":"cur","payload":{"x":1},"type":"broadcast"},"ref":null,"topic":"realtime:room:1"}`,
			"04 0f 03 00 01 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 31 63 75 72 7b 22 78 22 3a 31 7d"},
		{"bytes", protocol.UserBroadcast{Event: "bin", Payload: []byte{0xde, 0xad}}, "",
			"04 0f 03 00 00 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 31 62 69 6e de ad"},
		{"from the database", protocol.UserBroadcast{
			Event: "cur", Encoding: protocol.JSON, Payload: []byte(`{"x":1}`), Meta: []byte(id)},
			`{"event":"broadcast","payload":{"event":"cur","payload":{"x":1},"type":"broadcast","meta":` + id + `},"ref":null,"topic":"realtime:room:1"}`,
			"04 0f 03 2d 01 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 31 63 75 72" + fmt.Sprintf("%x", id) + "7b 22 78 22 3a 31 7d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, err := protocol.NewUserBroadcast(room, tt.push)
			if err != nil {
				t.Fatal(err)
			}
			size := f.Size()
			if diff := cmp.Diff(fromHex(t, tt.v2), binaryOf(t, f.Bytes(protocol.V2))); diff != "" {
				t.Error(diff)
			}
			if tt.v1 == "" {
				if b := f.Bytes(protocol.V1); b != nil {
					t.Errorf("v1 carries %q", b)
				}
			} else if got := textOf(t, f.Bytes(protocol.V1)); got != tt.v1 {
				t.Errorf("got  %s\nwant %s", got, tt.v1)
			}
			for _, v := range []protocol.Version{protocol.V1, protocol.V2} {
				if n := len(f.Bytes(v)); size < n || n > 0 && size > n+130 {
					t.Errorf("said %d bytes, is %d on %s", size, n, v)
				}
			}
		})
	}
}

func TestUserBroadcastRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", protocol.MaxName+1)
	object := []byte(`{}`)
	for name, try := range map[string]struct {
		topic string
		push  protocol.UserBroadcast
	}{
		"topic":          {long, protocol.UserBroadcast{Event: "e"}},
		"event":          {"t", protocol.UserBroadcast{Event: long}},
		"metadata":       {"t", protocol.UserBroadcast{Meta: []byte(`{"a":"` + long + `"}`)}},
		"metadata shape": {"t", protocol.UserBroadcast{Meta: []byte(`[]`)}},
		"topic UTF-8":    {"\xff", protocol.UserBroadcast{Event: "e"}},
		"event UTF-8":    {"t", protocol.UserBroadcast{Event: "\xff"}},
		"encoding":       {"t", protocol.UserBroadcast{Encoding: 2, Payload: object}},
		"empty JSON":     {"t", protocol.UserBroadcast{Encoding: protocol.JSON}},
	} {
		if f, err := protocol.NewUserBroadcast(try.topic, try.push); err == nil {
			t.Errorf("%s: accepted as %x", name, f.Bytes(protocol.V2))
		}
	}
	if _, err := protocol.NewUserBroadcast(long[1:], protocol.UserBroadcast{Event: long[1:], Payload: object}); err != nil {
		t.Errorf("the longest names were refused: %v", err)
	}
}

// TestTextBroadcast wants the payload back byte for byte, whatever space or escapes it has.
func TestTextBroadcast(t *testing.T) {
	t.Parallel()
	payload := `{"type" : "broadcast","event":"cur", "extra":1.50,"payload":{"x":"\u00e9é"}}`
	f := protocol.TextBroadcast(room, []byte(payload))
	if got, want := textOf(t, f.Bytes(protocol.V2)), `[null,null,"realtime:room:1","broadcast",`+payload+`]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want := `{"event":"broadcast","payload":` + payload + `,"ref":null,"topic":"realtime:room:1"}`
	if got := textOf(t, f.Bytes(protocol.V1)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestFrameShared wants one encoding per version, however many ask at once.
func TestFrameShared(t *testing.T) {
	t.Parallel()
	f, err := protocol.NewUserBroadcast(room, protocol.UserBroadcast{Event: "e", Encoding: protocol.JSON, Payload: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	firsts := make([][2]*byte, 16)
	for i := range firsts {
		wg.Go(func() { firsts[i] = [2]*byte{&f.Bytes(protocol.V1)[0], &f.Bytes(protocol.V2)[0]} })
	}
	wg.Wait()
	for _, first := range firsts {
		if first != firsts[0] {
			t.Fatal("encoded more than once")
		}
	}
}

// TestNoClientBreaks holds the rules that make realtime-js throw when broken: text for all but kind 4, and a payload
// that is always an object.
func TestNoClientBreaks(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{"", "null", `"ids"`, "[1]", "1", "true", " "} {
		for _, v := range []protocol.Version{protocol.V1, protocol.V2} {
			for _, frame := range [][]byte{
				protocol.Push(v, `"6"`, "", room, "system", []byte(payload)),
				protocol.TextBroadcast(room, []byte(payload)).Bytes(v),
			} {
				if got := textOf(t, frame); !strings.Contains(got, `{}`) {
					t.Errorf("%q went out in %s", payload, got)
				}
			}
		}
	}
}

func TestV1HasNoJoinRef(t *testing.T) {
	t.Parallel()
	for _, frame := range [][]byte{
		protocol.Reply(protocol.V1, `"6"`, `"7"`, room, "ok", nil),
		protocol.Push(protocol.V1, `"6"`, `"6"`, room, "phx_close", nil),
	} {
		var got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(textOf(t, frame)), &got); err != nil {
			t.Fatal(err)
		}
		if len(got) != 4 || got["topic"] == nil || got["event"] == nil || got["payload"] == nil || got["ref"] == nil {
			t.Errorf("keys of %s", textOf(t, frame))
		}
	}
}

// TestStrings sends texts that need care through every place a text can be in.
func TestStrings(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for c := range 0x180 {
		all.WriteRune(rune(c))
	}
	for _, s := range []string{
		"", `"`, `\`, `\"`, "a\nb\r\t\x00\x1f\x7f", "é€😀", "\u2028\u2029", "</script>&", "\ufffd", all.String(),
		"\xff", "a\xe2\x82", "\xed\xa0\x80z", strings.Repeat(`"`, 500),
	} {
		want := string([]rune(s)) // each byte that is no UTF-8 becomes U+FFFD
		var got []any
		frame := protocol.Push(protocol.V2, protocol.TextRef(s), "", s, s, protocol.SystemPayload(s, s, s, s+"x"))
		if err := json.Unmarshal([]byte(textOf(t, frame)), &got); err != nil {
			t.Fatal(err)
		}
		if got[0] != want || got[2] != want || got[3] != want {
			t.Errorf("%q came out as %q, %q, %q", s, got[0], got[2], got[3])
		}
		system := map[string]any{"extension": want, "status": want, "message": want, "channel": want + "x"}
		if diff := cmp.Diff(any(system), got[4]); diff != "" {
			t.Error(diff)
		}
	}
}

// A replayed broadcast is text on the receiver's join, in either version; bytes are what they were live.
func TestReplayed(t *testing.T) {
	t.Parallel()
	meta := []byte(`{"id":"1","replayed":true}`)
	json, err := protocol.Replayed(protocol.TextRef("7"), "realtime:a", protocol.UserBroadcast{Event: "e", Encoding: protocol.JSON, Payload: []byte(`[1]`), Meta: meta})
	if err != nil {
		t.Fatal(err)
	}
	const payload = `{"event":"e","payload":[1],"type":"broadcast","meta":{"id":"1","replayed":true}}`
	for version, want := range map[protocol.Version]string{
		protocol.V1: `{"event":"broadcast","payload":` + payload + `,"ref":null,"topic":"realtime:a"}`,
		protocol.V2: `["7",null,"realtime:a","broadcast",` + payload + `]`,
	} {
		if frame := json.Bytes(version); frame[0] != 0x81 || !strings.HasSuffix(string(frame), want) {
			t.Errorf("version %s: %q, want %s", version, frame, want)
		}
	}
	live := protocol.UserBroadcast{Event: "e", Encoding: protocol.Binary, Payload: []byte{0, 1}, Meta: meta}
	bytes, err := protocol.Replayed(protocol.TextRef("7"), "realtime:a", live)
	if err != nil {
		t.Fatal(err)
	}
	same, err := protocol.NewUserBroadcast("realtime:a", live)
	if err != nil || string(bytes.Bytes(protocol.V2)) != string(same.Bytes(protocol.V2)) || bytes.Bytes(protocol.V1) != nil {
		t.Errorf("bytes: %q, %v", bytes.Bytes(protocol.V2), err)
	}
	if _, err := protocol.Replayed("", "realtime:a", protocol.UserBroadcast{Event: strings.Repeat("x", 256), Encoding: protocol.JSON, Payload: []byte(`1`)}); err == nil {
		t.Error("an event of 256 bytes")
	}
}
