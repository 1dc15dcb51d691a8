package protocol_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/protocol"
)

const (
	pushJSON  = "03 01 01 0f 03 00 01 36 37 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 31 63 75 72 7b 22 78 22 3a 31 7d"
	pushBytes = "03 01 01 0f 03 00 00 36 38 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 31 62 69 6e de ad"
)

// push builds a binary push frame.
func push(joinRef, ref, topic, event, meta string, encoding byte, payload string) []byte {
	b := []byte{3, byte(len(joinRef)), byte(len(ref)), byte(len(topic)), byte(len(event)), byte(len(meta)), encoding}
	return append(b, joinRef+ref+topic+event+meta+payload...)
}

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

func TestDecode(t *testing.T) {
	t.Parallel()
	room := "realtime:room:1"
	joined := protocol.Message{JoinRef: `"6"`, Ref: `"7"`, Topic: room, Event: "broadcast", Payload: []byte(`{"a":1}`)}
	tests := []struct {
		name    string
		version protocol.Version
		frame   string
		want    protocol.Message
	}{
		{"v2", protocol.V2, `["6","7","realtime:room:1","broadcast",{"a":1}]`, joined},
		{"v2 with space and more elements", protocol.V2,
			" [ \"6\"\n,\t\"7\" , \"realtime:room:1\" , \"broadcast\" , {\"a\":1} , [1,{}], 2 ]\r\n", joined},
		{"v2 with escapes", protocol.V2, `["6","7","realtime:\u0072oom:1","br\u006fadcast",{"a":1}]`, joined},
		{"v2 heartbeat", protocol.V2, `[null,"13","phoenix","heartbeat",{}]`,
			protocol.Message{Ref: `"13"`, Topic: "phoenix", Event: "heartbeat", Payload: []byte(`{}`)}},
		{"v2 numbers as refs, brackets in strings", protocol.V2, `[6,-1e3,"a]\"[","}{",["]"]]`,
			protocol.Message{JoinRef: "6", Ref: "-1e3", Topic: `a]"[`, Event: "}{", Payload: []byte(`["]"]`)}},
		{"v2 any payload", protocol.V2, `[null,null,"","","\\"]`, protocol.Message{Payload: []byte(`"\\"`)}},
		{"v2 refs of 64 bytes", protocol.V2, `["` + strings.Repeat("1", 62) + `",null,"t","e",null]`, protocol.Message{
			JoinRef: protocol.Ref(`"` + strings.Repeat("1", 62) + `"`), Topic: "t", Event: "e", Payload: []byte("null")}},
		{"v2 as deep as allowed", protocol.V2, `[null,null,"t","e",` + nested(protocol.MaxDepth) + `]`,
			protocol.Message{Topic: "t", Event: "e", Payload: []byte(nested(protocol.MaxDepth))}},
		{"v2 as deep as allowed, more beside it", protocol.V2, `[null,null,"t","e",[` + nested(protocol.MaxDepth-1) + `,[],{}]]`,
			protocol.Message{Topic: "t", Event: "e", Payload: []byte(`[` + nested(protocol.MaxDepth-1) + `,[],{}]`)}},
		{"v2 many brackets side by side", protocol.V2, `[null,null,"t","e",[` + strings.Repeat("[],", 600) + `"[["]]`,
			protocol.Message{Topic: "t", Event: "e", Payload: []byte(`[` + strings.Repeat("[],", 600) + `"[["]`)}},

		{"v1", protocol.V1, `{"topic":"realtime:room:1","event":"broadcast","payload":{"a":1},"ref":"7","join_ref":"6"}`, joined},
		{"v1 in another order, unknown keys", protocol.V1,
			` { "x" : [1] , "join_ref":"6","ref" : "7", "payload" : {"a":1} ,"event":"broadcast","topic":"realtime:room:1"} `, joined},
		{"v1 last duplicate wins, also escaped", protocol.V1,
			`{"topic":"x","event":"y","payload":1,"ref":2,"join_ref":3,` +
				`"t\u006fpic":"realtime:room:1","event":"broadcast","payload":{"a":1},"ref":"7","join_ref":"6"}`, joined},
		{"v1 heartbeat", protocol.V1, `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"13"}`,
			protocol.Message{Ref: `"13"`, Topic: "phoenix", Event: "heartbeat", Payload: []byte(`{}`)}},
		{"v1 nulls are there", protocol.V1, `{"topic":"t","event":"e","payload":null,"ref":null}`,
			protocol.Message{Topic: "t", Event: "e", Payload: []byte("null")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := protocol.Decode(tt.version, false, []byte(tt.frame))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodePush(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 127)
	tests := []struct {
		name  string
		frame []byte
		want  protocol.Message
	}{
		{"JSON, as the client sends it", fromHex(t, pushJSON), protocol.Message{
			JoinRef: `"6"`, Ref: `"7"`, Topic: "realtime:room:1", Event: "broadcast",
			Push: &protocol.UserBroadcast{Event: "cur", Encoding: protocol.JSON, Payload: []byte(`{"x":1}`)}}},
		{"bytes, as the client sends them", fromHex(t, pushBytes), protocol.Message{
			JoinRef: `"6"`, Ref: `"8"`, Topic: "realtime:room:1", Event: "broadcast",
			Push: &protocol.UserBroadcast{Event: "bin", Payload: []byte{0xde, 0xad}}}},
		{"no refs, no payload", push("", "", "t", "e", "", 0, ""), protocol.Message{
			Topic: "t", Event: "broadcast", Push: &protocol.UserBroadcast{Event: "e", Payload: []byte{}}}},
		{"metadata, any encoding but 0 is JSON", push("1", "2", "t", "e", ` {"a":1} `, 9, `"text"`), protocol.Message{
			JoinRef: `"1"`, Ref: `"2"`, Topic: "t", Event: "broadcast",
			Push: &protocol.UserBroadcast{Event: "e", Encoding: protocol.JSON, Meta: []byte(`{"a":1}`), Payload: []byte(`"text"`)}}},
		{"longest names, refs that need escapes", push("\"\n", long, long, long, "", 0, "\xff"), protocol.Message{
			JoinRef: `"\"\n"`, Ref: protocol.Ref(`"` + long + `"`), Topic: long, Event: "broadcast",
			Push: &protocol.UserBroadcast{Event: long, Payload: []byte{0xff}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := protocol.Decode(protocol.V2, true, tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	deep := nested(protocol.MaxDepth + 1)
	bottomless := strings.Repeat("[", 1_000_000)
	tests := []struct {
		name    string
		version protocol.Version
		binary  bool
		frame   string
		want    protocol.DecodeError
		ref     protocol.Ref // what can still be answered
	}{
		{"empty", protocol.V2, false, "", protocol.ErrMalformed, ""},
		{"no JSON", protocol.V2, false, "hello", protocol.ErrMalformed, ""},
		{"two texts", protocol.V2, false, `[null,null,"t","e",{}] []`, protocol.ErrMalformed, ""},
		{"unfinished", protocol.V2, false, `["6","7","t","e",{}`, protocol.ErrMalformed, ""},
		{"an object on v2", protocol.V2, false, `{"topic":"t","event":"e","payload":{},"ref":"1"}`, protocol.ErrShape, ""},
		{"four elements", protocol.V2, false, `["6","7","t","e"]`, protocol.ErrShape, ""},
		{"no elements", protocol.V2, false, `[]`, protocol.ErrShape, ""},
		{"a text", protocol.V2, false, `"[1,2,3,4,5]"`, protocol.ErrShape, ""},
		{"topic is no text", protocol.V2, false, `["6","7",1,"e",{}]`, protocol.ErrShape, `"7"`},
		{"event is no text", protocol.V2, false, `["6","7","t",null,{}]`, protocol.ErrShape, `"7"`},
		{"ref is an object", protocol.V2, false, `["6",{},"t","e",{}]`, protocol.ErrRef, ""},
		{"ref is a boolean", protocol.V2, false, `["6",true,"t","e",{}]`, protocol.ErrRef, ""},
		{"join_ref is too long", protocol.V2, false, `["` + strings.Repeat("1", 63) + `","7","t","e",{}]`, protocol.ErrRef, ""},
		{"a number too long for a ref", protocol.V2, false, `[null,` + strings.Repeat("1", 65) + `,"t","e",{}]`, protocol.ErrRef, ""},
		{"not UTF-8", protocol.V2, false, "[null,\"7\",\"t\",\"e\",\"\xff\"]", protocol.ErrUTF8, ""},
		{"a surrogate in UTF-8", protocol.V1, false, "{\"topic\":\"\xed\xa0\x80\",\"event\":\"\",\"payload\":0,\"ref\":0}", protocol.ErrUTF8, ""},
		{"too deep", protocol.V2, false, `[null,"7","t","e",` + deep + `]`, protocol.ErrTooDeep, `"7"`},
		{"far too deep", protocol.V2, false, bottomless, protocol.ErrTooDeep, ""},
		{"too deep in v1", protocol.V1, false, `{"topic":"t","event":"e","ref":"7","payload":` + deep + `}`, protocol.ErrTooDeep, `"7"`},

		{"an array on v1", protocol.V1, false, `["6","7","t","e",{}]`, protocol.ErrShape, ""},
		{"no topic", protocol.V1, false, `{"event":"e","payload":{},"ref":"1"}`, protocol.ErrShape, ""},
		{"no event", protocol.V1, false, `{"topic":"t","payload":{},"ref":"1"}`, protocol.ErrShape, ""},
		{"no payload", protocol.V1, false, `{"topic":"t","event":"e","ref":"1"}`, protocol.ErrShape, ""},
		{"no ref", protocol.V1, false, `{"topic":"t","event":"e","payload":{}}`, protocol.ErrShape, ""},
		{"keys are exact", protocol.V1, false, `{"Topic":"t","event":"e","payload":{},"ref":"1"}`, protocol.ErrShape, ""},
		{"only a nested ref", protocol.V1, false, `{"topic":"t","event":"e","payload":{"ref":"1"}}`, protocol.ErrShape, ""},

		{"binary on v1", protocol.V1, true, string(push("1", "2", "t", "e", "", 1, "{}")), protocol.ErrBinaryOnV1, ""},
		{"empty binary", protocol.V2, true, "", protocol.ErrTruncated, ""},
		{"kind alone", protocol.V2, true, "\x03", protocol.ErrTruncated, ""},
		{"kind 0", protocol.V2, true, "\x00\x01\x01\x01\x01", protocol.ErrKind, ""},
		{"kind 4", protocol.V2, true, "\x04\x01\x01\x00\x00te", protocol.ErrKind, ""},
		{"sizes beyond the end", protocol.V2, true, "\x03\x01\x01\x05\x01\x00\x0012abc", protocol.ErrTruncated, ""},
		{"topic not UTF-8", protocol.V2, true, string(push("1", "2", "\xff", "e", "", 0, "")), protocol.ErrUTF8, ""},
		{"ref not UTF-8", protocol.V2, true, string(push("1", "\xff", "t", "e", "", 0, "")), protocol.ErrUTF8, ""},
		{"metadata is an array", protocol.V2, true, string(push("1", "2", "t", "e", "[]", 0, "")), protocol.ErrMetadata, `"2"`},
		{"metadata is no JSON", protocol.V2, true, string(push("1", "2", "t", "e", "{", 0, "")), protocol.ErrMetadata, `"2"`},
		{"says JSON, is none", protocol.V2, true, string(push("1", "2", "t", "e", "", 1, "{")), protocol.ErrPushPayload, `"2"`},
		{"says JSON, is empty", protocol.V2, true, string(push("1", "2", "t", "e", "", 1, "")), protocol.ErrPushPayload, `"2"`},
		{"says JSON, not UTF-8", protocol.V2, true, string(push("1", "2", "t", "e", "", 1, "\"\xff\"")), protocol.ErrUTF8, `"2"`},
		{"says JSON, too deep", protocol.V2, true, string(push("1", "2", "t", "e", "", 1, deep)), protocol.ErrTooDeep, `"2"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := protocol.Decode(tt.version, tt.binary, []byte(tt.frame))
			if err != tt.want {
				t.Fatalf("got error %v, want %s", err, tt.want.Label())
			}
			if m.Ref != tt.ref {
				t.Errorf("got ref %s, want %s", m.Ref, tt.ref)
			}
			if m.Payload != nil || m.Push != nil {
				t.Error("a refused frame left content behind")
			}
			if err.Error() == tt.want.Label() {
				t.Errorf("%q is a label, not a sentence", err)
			}
		})
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	accepted := map[string]protocol.Version{
		"": protocol.V1, "1.0.0": protocol.V1, "1.0.7": protocol.V1, "1.0.10": protocol.V1, "1.0.1-rc.1": protocol.V1,
		"1.0.0+build.5": protocol.V1, "2.0.0": protocol.V2, "2.0.3": protocol.V2, "2.0.1-a+b-c": protocol.V2, "2.0.0+a-b": protocol.V2,
	}
	for vsn, want := range accepted {
		if got, ok := protocol.ParseVersion(vsn); !ok || got != want {
			t.Errorf("%q: got %v %v, want %v", vsn, got, ok, want)
		}
	}
	for _, vsn := range []string{
		"1", "1.0", "1.0.", "2.0", "1.1.0", "2.1.0", "3.0.0", "0.9.0", "1.0.0-rc", "2.0.0-0", "1.0.01", "01.0.0", "1.0.0.0",
		"v1.0.0", " 1.0.0", "1.0.0 ", "1.0.x", "1.0.1-", "1.0.1-a..b", "1.0.1-01", "1.0.1+", "1.0.1+ä", "-", "+", "1.0.-1",
		"2.0.0+" + strings.Repeat("a", 64),
	} {
		if got, ok := protocol.ParseVersion(vsn); ok {
			t.Errorf("%q was accepted as %v", vsn, got)
		}
	}
}
