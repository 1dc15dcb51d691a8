package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"rowcast/server/protocol"
)

// within tells whether part lies inside whole, in memory.
func within(part, whole []byte) bool {
	if len(part) == 0 {
		return true
	}
	start, from := uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return start >= from && start+uintptr(len(part)) <= from+uintptr(len(whole))
}

// FuzzMember: in an object that encoding/json reads, Member finds what encoding/json finds, where it stands. In anything
// else it may find what it likes, but inside of it.
func FuzzMember(f *testing.F) {
	for _, seed := range []string{
		`{"a":1}`, `{"a":{"a":2},"a":[3,"]"]}`, ` { "\u0061" : "\"}" , "b":null } `, `{"":"","a":-1e9}`, `{"a\\":1,"a":2}`,
		`{"a`, `{"a":`, `{"a":}`, `{:`, `{"a":1,,}`, `{]`, `{"a":{`, `[}`, `[{]`, `{"\`, `{"a":"\`, `{a:1}`,
	} {
		f.Add([]byte(seed), "a")
	}
	f.Fuzz(func(t *testing.T, object []byte, key string) {
		value, ok := protocol.Member(object, key)
		if !within(value, object) {
			t.Fatalf("%q of %q was found elsewhere: %q", key, object, value)
		}
		var want map[string]json.RawMessage
		if !utf8.Valid(object) || json.Unmarshal(object, &want) != nil {
			return
		}
		if raw, has := want[key]; has != ok || !bytes.Equal(raw, value) {
			t.Fatalf("%q of %q: got %q %v, want %q %v", key, object, value, ok, raw, has)
		}
	})
}

// FuzzText: a JSON string is read as encoding/json reads it.
func FuzzText(f *testing.F) {
	for _, seed := range []string{`"a"`, `"\u0000\ud83d\ude00\ud800"`, `"`, `""`, `null`, `5`, `"\"`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		got, ok := protocol.Text(value)
		value = bytes.Clone(value) // got must not change with it
		var want string
		if !utf8.Valid(value) || len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &want) != nil {
			return
		}
		if value[len(value)-1] == '"' && (!ok || got != want) { // without white space behind it, as a member's value
			t.Fatalf("%q: got %q %v, want %q", value, got, ok, want)
		}
	})
}

// FuzzParseAccessToken: what is there is told, absent and null are told apart, and everything else is refused by name.
func FuzzParseAccessToken(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"jwt"}`, `{}`, `{"access_token":null}`, `{"access_token":5}`, `{"access_token":"a","acc\u0065ss_token":"b"}`,
		`{"access_token":["\ud800"]}`, `[]`, `null`, `{"access_token"`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		token, present, isNull, err := protocol.ParseAccessToken(payload)
		var want map[string]any
		object := utf8.Valid(payload) && json.Unmarshal(payload, &want) == nil && want != nil
		value, has := want["access_token"]
		text, isText := value.(string)
		if readable := object && (!has || value == nil || isText); readable != (err == nil) {
			t.Fatalf("%q: %v", payload, err)
		}
		if err != nil {
			var wrong *protocol.JoinError
			if !errors.As(err, &wrong) || wrong.Field == "" || wrong.Want == "" || token != "" {
				t.Fatalf("error %v names no field, or left %q", err, token)
			}
			return
		}
		if token != text || present != has || isNull != (has && value == nil) {
			t.Fatalf("%q: got %q %v %v", payload, token, present, isNull)
		}
	})
}

// FuzzCheckBroadcast: what passes harms nobody, as the official client reads it.
func FuzzCheckBroadcast(f *testing.F) {
	for _, seed := range []string{
		`{"type":"broadcast","event":"e","payload":{}}`, `{"event":5}`, `{"event":5,"event":null}`, `{"\u0069ds":1}`, `{"meta":{}}`,
		`{"m\u0065ta":1,"event":"e"}`, `{"payload":{"ids":1}}`, `[]`, `null`, ` {} `, `{"even\ud800t":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		problem := protocol.CheckBroadcast(payload)
		if !utf8.Valid(payload) || !json.Valid(payload) {
			return // never relayed
		}
		var got map[string]any
		harmless := json.Unmarshal(payload, &got) == nil && got != nil
		for _, key := range []string{"ids", "meta"} {
			_, has := got[key]
			harmless = harmless && !has
		}
		_, isText := got["event"].(string)
		harmless = harmless && (isText || got["event"] == nil)
		if harmless != (problem == "") {
			t.Fatalf("%s: %q", payload, problem)
		}
	})
}

// FuzzDecodeServer: whatever a server sends, a client of ours reads it or says why not.
func FuzzDecodeServer(f *testing.F) {
	f.Add(true, []byte("\x04\x01\x01\x02\x01te{}[1]"))
	f.Add(true, []byte{4, 255, 255, 255, 1})
	f.Add(true, []byte{4})
	f.Add(true, []byte{3, 0, 0, 0, 0})
	f.Add(false, []byte(`[null,null,"realtime:a","broadcast",{"event":"e"}]`))
	f.Add(false, []byte(`[`))
	f.Fuzz(func(t *testing.T, binary bool, data []byte) {
		m, err := protocol.DecodeServer(binary, data)
		var cause protocol.DecodeError
		switch {
		case err != nil && !errors.As(err, &cause):
			t.Fatalf("error %v has no name", err)
		case err != nil:
		case binary:
			if p := m.Push; p == nil || !within(p.Meta, data) || !within(p.Payload, data) ||
				len(m.Topic)+len(p.Event)+len(p.Meta)+len(p.Payload)+5 != len(data) {
				t.Fatalf("% x became %+v", data, m)
			}
		case !json.Valid(m.Payload) || m.Push != nil:
			t.Fatalf("%q became %+v", data, m)
		}
	})
}

// FuzzSystemPayload: whatever names clients and messages hold, what is made of them is one JSON object that says them.
func FuzzSystemPayload(f *testing.F) {
	f.Add("system", "error", "no \"permission\"\n", "room:\x00\u2028\xff")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, extension, status, message, channel string) {
		raw := protocol.SystemPayload(extension, status, message, channel)
		var got map[string]string
		if err := json.Unmarshal(raw, &got); err != nil || !utf8.Valid(raw) {
			t.Fatalf("%q: %v", raw, err)
		}
		want := map[string]string{"extension": extension, "status": status, "message": message, "channel": channel}
		if channel == "" {
			delete(want, "channel")
		}
		if len(got) != len(want) {
			t.Fatalf("%q", raw)
		}
		for key, text := range want {
			if got[key] != eachToValidUTF8(text) {
				t.Fatalf("%s: got %q, want %q", key, got[key], text)
			}
		}
	})
}

// eachToValidUTF8 puts a mark in the place of each byte that is not UTF-8.
func eachToValidUTF8(s string) string { return string([]rune(s)) }

// FuzzParseVersion: what is accepted begins as one of the versions spoken here, and another patch of it is accepted too.
func FuzzParseVersion(f *testing.F) {
	for _, seed := range []string{"", "1.0.0", "2.0.0", "2.0.1-rc.1+build", "2.0.0-rc", "1.0.01", "3.0.0", "2.0", "1.0.0\x00", strings.Repeat("1.0.", 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, vsn string) {
		v, ok := protocol.ParseVersion(vsn)
		switch {
		case !ok && v != 0:
			t.Fatalf("%q is refused, and is %v", vsn, v)
		case ok && vsn != "" && (len(vsn) < 5 || vsn[:4] != v.String()[:4]):
			t.Fatalf("%q is %v", vsn, v)
		case ok && strings.ContainsFunc(vsn, func(r rune) bool { return r <= ' ' || r > '~' }):
			t.Fatalf("%q is accepted", vsn)
		}
	})
}

// A frame that nests too deep to be checked is answered where its head can be read; what is echoed must be JSON by itself.
func TestHeadOfWhatIsTooDeep(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 20_000)
	const topic, event = "realtime:a", "broadcast"
	for _, tt := range []struct {
		version protocol.Version
		data    string
		joinRef protocol.Ref
		ref     protocol.Ref
		topic   string
	}{
		{protocol.V2, `["1","2","realtime:a","broadcast",` + deep, `"1"`, `"2"`, topic},
		{protocol.V2, `[ 1 , -2.5e1 ,"realtime:a","broadcast",{"x":` + deep, `1`, `-2.5e1`, topic},
		{protocol.V2, `[1x,-,"realtime:a","broadcast",` + deep, ``, ``, topic},
		{protocol.V2, `["1","2",` + deep, ``, ``, ``},
		{protocol.V2, `[[],"2","realtime:a","broadcast",` + deep, ``, ``, ``},
		{protocol.V2, deep, ``, ``, ``},
		{protocol.V1, `{"ref":"2","topic":"realtime:a","event":"broadcast","join_ref":"1","payload":` + deep, `"1"`, `"2"`, topic},
		{protocol.V1, `{"payload":` + deep + strings.Repeat("]", 20_000) + `,"ref":"2","topic":"realtime:a","event":"broadcast"}`, ``, `"2"`, topic},
		{protocol.V1, `{"payload":` + deep + `,"ref":"2","topic":"realtime:a","event":"broadcast"}`, ``, ``, ``},
		{protocol.V1, strings.Repeat(`{"topic":`, 20_000), ``, ``, ``},
	} {
		m, err := protocol.Decode(tt.version, false, []byte(tt.data))
		if err != protocol.ErrTooDeep {
			t.Errorf("%.60s: %v", tt.data, err)
		}
		if m.JoinRef != tt.joinRef || m.Ref != tt.ref || m.Topic != tt.topic || m.Payload != nil {
			t.Errorf("%.60s: %+v", tt.data, m)
		}
		if tt.topic != "" && m.Event != event {
			t.Errorf("%.60s: event %q", tt.data, m.Event)
		}
		checkRefused(t, m, err)
	}
}
