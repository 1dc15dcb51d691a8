package protocol

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestParsePresence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		payload string
		act     PresenceAct
		tracked string
		code    Code
	}{
		{`{"event":"track","payload":{"a":1}}`, PresenceTrack, `{"a":1}`, ""},
		{`{"event":"TRACK","payload": { } ,"type":"presence"}`, PresenceTrack, `{ }`, ""},
		{`{"event":"tr\u0061ck"}`, PresenceTrack, `{}`, ""},
		{`{"event":"Untrack","payload":5}`, PresenceUntrack, "", ""},
		{`{}`, PresenceNothing, "", ""},
		{`{"event":null,"payload":[]}`, PresenceNothing, "", ""},
		{`{"event":"track","payload":null}`, PresenceNothing, "", InvalidPresencePayload},
		{`{"event":"track","payload":[{}]}`, PresenceNothing, "", InvalidPresencePayload},
		{`{"event":"track","payload":"{}"}`, PresenceNothing, "", InvalidPresencePayload},
		{`{"event":"update","payload":{}}`, PresenceNothing, "", UnknownPresenceEvent},
		{`{"event":""}`, PresenceNothing, "", UnknownPresenceEvent},
		{`{"event":1}`, PresenceNothing, "", UnknownPresenceEvent},
		{`[]`, PresenceNothing, "", UnknownPresenceEvent},
	}
	for _, tt := range tests {
		act, tracked, code := ParsePresence([]byte(tt.payload))
		if act != tt.act || string(tracked) != tt.tracked || code != tt.code {
			t.Errorf("%s: %d %q %s", tt.payload, act, tracked, code)
		}
	}
}

func TestPresenceMeta(t *testing.T) {
	t.Parallel()
	tests := []struct{ payload, prev, want string }{
		{`{}`, "", `{"phx_ref":"r"}`},
		{` { } `, "p", `{"phx_ref":"r","phx_ref_prev":"p"}`},
		{`{"a" : [1, 2] }`, "", `{"a" : [1, 2],"phx_ref":"r"}`},
		{`{"phx_ref":"x"}`, "", `{"phx_ref":"r"}`},
		{`{"a":1, "phx_ref":"x","b" :2,"phx_ref_prev":null,"phx\u005fref":{}}`, "p", `{"a":1,"b":2,"phx_ref":"r","phx_ref_prev":"p"}`},
		{`{"a":{"phx_ref":1}}`, "", `{"a":{"phx_ref":1},"phx_ref":"r"}`},
	}
	for _, tt := range tests {
		if got := string(PresenceMeta([]byte(tt.payload), "r", tt.prev)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.payload, got, tt.want)
		}
	}
}

func TestPresencePayloads(t *testing.T) {
	t.Parallel()
	some := []Present{{Key: "a\"b", Metas: [][]byte{[]byte(`{"n":1}`), []byte(`{"n":2}`)}}, {Key: "c", Metas: [][]byte{[]byte(`{}`)}}}
	const want = `{"a\"b":{"metas":[{"n":1},{"n":2}]},"c":{"metas":[{}]}}`
	if got := string(PresenceState(some)); got != want {
		t.Errorf("state %s", got)
	}
	if got := string(PresenceDiff(nil, some)); got != `{"joins":{},"leaves":`+want+`}` {
		t.Errorf("diff %s", got)
	}
}

// FuzzPresenceMeta tracks any payload that a frame may hold: what others are told is JSON, has each of the server's
// references once, and otherwise what was tracked.
func FuzzPresenceMeta(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` {"a" : 1 } `, `{"phx_ref":"x","a":[{"phx_ref":1}]}`, `{"phx\u005fref":"x","phx_ref_prev":null}`, `{"a":"}","":"\"phx_ref\":"}`,
		`{"ids":[1],"a":1,"a":2}`, `{"\ud800":"\u0000"}`, strings.Repeat(`{"a":`, 500) + `1` + strings.Repeat("}", 500),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if checkJSON(payload) != nil || !IsObject(payload) {
			return
		}
		given := bytes.Clone(payload)
		for _, prev := range []string{"", "previous"} {
			meta := PresenceMeta(payload, "reference", prev)
			if checkJSON(meta) != nil || !bytes.Equal(payload, given) {
				t.Fatalf("%q becomes %q", payload, meta)
			}
			var want, got []string
			for key, value := range members(payload) {
				if !isText(key, "phx_ref") && !isText(key, "phx_ref_prev") {
					want = append(want, string(key), string(value))
				}
			}
			want = append(want, `"phx_ref"`, `"reference"`)
			if prev != "" {
				want = append(want, `"phx_ref_prev"`, `"previous"`)
			}
			for key, value := range members(meta) {
				got = append(got, string(key), string(value))
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%q becomes %q", payload, meta)
			}
			diff := PresenceDiff([]Present{{Key: string(payload), Metas: [][]byte{meta}}}, nil)
			if !json.Valid(diff) || strings.Count(string(diff), `"leaves":{}`) == 0 {
				t.Fatalf("the diff of %q is %q", payload, diff)
			}
		}
	})
}
