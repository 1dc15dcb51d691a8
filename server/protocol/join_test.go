package protocol_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/protocol"
)

func TestParseJoin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, payload string
		want          protocol.Join
	}{
		{"what realtime-js sends", `{"config":{"broadcast":{"ack":false,"self":false},"presence":{"key":"","enabled":false},"postgres_changes":[],"private":false}}`,
			protocol.Join{}},
		{"everything", `{"access_token":"jwt","version":"realtime-js/2.9","config":{"private":true,
			"broadcast":{"self":true,"ack":true,"replication_ready":true,"replay":{"since":1700000000000,"limit":5}},
			"presence":{"enabled":true,"key":"u\u0031"},"postgres_changes":[{"event":"*"},null, {"schema" : "s"}]}}`,
			protocol.Join{Token: "jwt", HasToken: true, Private: true, Self: true, Ack: true, ReplicationReady: true,
				PresenceEnabled: true, PresenceKey: "u1", HasReplay: true,
				Replay:  protocol.Replay{Asked: true, Valid: true, HasSince: true, Since: 1700000000000, Limit: 5},
				Changes: [][]byte{[]byte(`{"event":"*"}`), []byte(`{"schema" : "s"}`)}}},
		{"no config", `{"user_token":"a"}`, protocol.Join{Token: "a", HasToken: true, Legacy: true}},
		{"nothing", `{}`, protocol.Join{Legacy: true}},
		{"nulls", `{"access_token":null,"user_token":null,"config":{"broadcast":null,"presence":null,"postgres_changes":null}}`,
			protocol.Join{}},
		{"config is null", `{"config":null}`, protocol.Join{}},
		{"inner nulls", `{"config":{"broadcast":{"self":null,"ack":null},"presence":{"enabled":null,"key":null},"postgres_changes":[null,null]}}`,
			protocol.Join{}},
		{"flexible bools", `{"config":{"private":"TRUE","broadcast":{"self":"True","ack":"false"},"presence":{"enabled":"\u0074rue"}}}`,
			protocol.Join{Private: true, Self: true, PresenceEnabled: true}},
		{"user_token is preferred", `{"user_token":"u","access_token":"a","config":{}}`, protocol.Join{Token: "u", HasToken: true}},
		{"user_token null is not", `{"user_token":null,"access_token":"a","config":{}}`, protocol.Join{Token: "a", HasToken: true}},
		{"an empty token is a token", `{"access_token":"","config":{}}`, protocol.Join{HasToken: true}},
		{"last duplicate wins", `{"config":{"private":false},"config":{"private":"no","private":true}}`, protocol.Join{Private: true}},
		{"keys are exact", `{"Config":{"private":true},"config":{"Private":1,"PRIVATE":[]}}`, protocol.Join{}},
		{"key a number", `{"config":{"presence":{"key":12.50}}}`, protocol.Join{PresenceKey: "12.50"}},
		{"key a boolean", `{"config":{"presence":{"key":false}}}`, protocol.Join{PresenceKey: "false"}},
		{"replay without limit", `{"config":{"broadcast":{"replay":{"since":0}}}}`, protocol.Join{HasReplay: true,
			Replay: protocol.Replay{Asked: true, Valid: true, HasSince: true, Limit: protocol.DefaultReplayLimit}}},
		{"replay null", `{"config":{"broadcast":{"replay":null}}}`, protocol.Join{HasReplay: true}},
		{"replay empty", `{"config":{"broadcast":{"replay":{}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay since text", `{"config":{"broadcast":{"replay":{"since":"0"}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay since a fraction", `{"config":{"broadcast":{"replay":{"since":1.5}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay since beyond time", `{"config":{"broadcast":{"replay":{"since":253402300800000}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay since huge", `{"config":{"broadcast":{"replay":{"since":99999999999999999999}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay after one", `{"config":{"broadcast":{"replay":{"after":"a"}}}}`, protocol.Join{HasReplay: true,
			Replay: protocol.Replay{Asked: true, Valid: true, HasAfter: true, After: []string{"a"}, Limit: math.MaxInt64}}},
		{"replay after several", `{"config":{"broadcast":{"replay":{"after":["a","b"],"since":7,"limit":-1}}}}`, protocol.Join{HasReplay: true,
			Replay: protocol.Replay{Asked: true, Valid: true, HasAfter: true, After: []string{"a", "b"}, HasSince: true, Since: 7, Limit: -1}}},
		{"replay after nothing", `{"config":{"broadcast":{"replay":{"after":[]}}}}`, protocol.Join{HasReplay: true,
			Replay: protocol.Replay{Asked: true, Valid: true, HasAfter: true, Limit: math.MaxInt64}}},
		{"replay after the newest of many", `{"config":{"broadcast":{"replay":{"after":["old"` + strings.Repeat(`,"new"`, 200) + `]}}}}`, protocol.Join{HasReplay: true,
			Replay: protocol.Replay{Asked: true, Valid: true, HasAfter: true, After: slices.Repeat([]string{"new"}, 200), Limit: math.MaxInt64}}},
		{"replay after null", `{"config":{"broadcast":{"replay":{"after":null}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay after a number", `{"config":{"broadcast":{"replay":{"after":7}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay after numbers", `{"config":{"broadcast":{"replay":{"after":["a",7]}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay after, since text", `{"config":{"broadcast":{"replay":{"after":"a","since":"7"}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"replay limit text", `{"config":{"broadcast":{"replay":{"since":1,"limit":"5"}}}}`, protocol.Join{HasReplay: true, Replay: protocol.Replay{Asked: true}}},
		{"waits for changes", `{"config":{"postgres_changes":[{}],"postgres_changes_options":{"wait":true}}}`,
			protocol.Join{Changes: [][]byte{[]byte("{}")}, ChangesWait: 15 * time.Second}},
		{"waits for a while", `{"config":{"postgres_changes":[{}],"postgres_changes_options":{"wait":"True","timeout":1}}}`,
			protocol.Join{Changes: [][]byte{[]byte("{}")}, ChangesWait: time.Millisecond}},
		{"waits for as long as is waited at most", `{"config":{"postgres_changes":[{}],"postgres_changes_options":{"wait":true,"timeout":9223372036854775807}}}`,
			protocol.Join{Changes: [][]byte{[]byte("{}")}, ChangesWait: 20 * time.Second}},
		{"waits by null", `{"config":{"postgres_changes":[{}],"postgres_changes_options":{"wait":true,"timeout":null}}}`,
			protocol.Join{Changes: [][]byte{[]byte("{}")}, ChangesWait: 15 * time.Second}},
		{"does not wait", `{"config":{"postgres_changes":[{}],"postgres_changes_options":{"wait":false,"timeout":5000}}}`,
			protocol.Join{Changes: [][]byte{[]byte("{}")}}},
		{"nothing about waiting", `{"config":{"postgres_changes":[{}],"postgres_changes_options":null}}`, protocol.Join{Changes: [][]byte{[]byte("{}")}}},
		{"waits for nothing", `{"config":{"postgres_changes":[null],"postgres_changes_options":{"wait":true}}}`, protocol.Join{}},
		{"unknown keys", `{"x":[],"config":{"y":1,"broadcast":{"z":{}},"presence":{"w":"private"}}}`, protocol.Join{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := protocol.ParseJoin([]byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseJoinErrors(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		``:                                     "payload: expected an object",
		`null`:                                 "payload: expected an object",
		`[]`:                                   "payload: expected an object",
		`{"access_token":1}`:                   "access_token: expected text",
		`{"user_token":{},"access_token":"a"}`: "user_token: expected text",
		`{"user_token":"a","access_token":[]}`: "access_token: expected text",
		`{"config":"private"}`:                 "config: expected an object",
		`{"config":[]}`:                        "config: expected an object",
		`{"config":{"broadcast":[]}}`:          "config.broadcast: expected an object",
		`{"config":{"presence":true}}`:         "config.presence: expected an object",
		`{"config":{"private":"yes"}}`:         "config.private: expected true or false",
		`{"config":{"private":"falſe"}}`:       "config.private: expected true or false",
		`{"config":{"private":" true"}}`:       "config.private: expected true or false",
		`{"config":{"private":1}}`:             "config.private: expected true or false",
		`{"config":{"private":{}}}`:            "config.private: expected true or false",
		`{"config":{"broadcast":{"self":0}}}`:  "config.broadcast.self: expected true or false",
		`{"config":{"broadcast":{"ack":""}}}`:  "config.broadcast.ack: expected true or false",
		`{"config":{"broadcast":{"replication_ready":"1"}}}`:                     "config.broadcast.replication_ready: expected true or false",
		`{"config":{"broadcast":{"replay":"all"}}}`:                              "config.broadcast.replay: expected an object",
		`{"config":{"presence":{"enabled":[]}}}`:                                 "config.presence.enabled: expected true or false",
		`{"config":{"presence":{"key":{"id":1}}}}`:                               "config.presence.key: expected text, a number, true or false",
		`{"config":{"presence":{"key":[]}}}`:                                     "config.presence.key: expected text, a number, true or false",
		`{"config":{"presence":{"key":"ids"}}}`:                                  `config.presence.key: expected a key other than "ids"`,
		`{"config":{"presence":{"key":"` + strings.Repeat("k", 1025) + `"}}}`:    "config.presence.key: expected at most 1024 bytes",
		`{"config":{"postgres_changes_options":[]}}`:                             "config.postgres_changes_options: expected an object",
		`{"config":{"postgres_changes_options":{"wait":1}}}`:                     "config.postgres_changes_options.wait: expected true or false",
		`{"config":{"postgres_changes_options":{"timeout":0}}}`:                  "config.postgres_changes_options.timeout: expected a whole number of milliseconds above 0",
		`{"config":{"postgres_changes_options":{"wait":true,"timeout":1.5}}}`:    "config.postgres_changes_options.timeout: expected a whole number of milliseconds above 0",
		`{"config":{"postgres_changes_options":{"timeout":"5000"}}}`:             "config.postgres_changes_options.timeout: expected a whole number of milliseconds above 0",
		`{"config":{"postgres_changes":{}}}`:                                     "config.postgres_changes: expected an array of objects",
		`{"config":{"postgres_changes":"*"}}`:                                    "config.postgres_changes: expected an array of objects",
		`{"config":{"private":null}}`:                                            "config.private: expected true or false",
		`{"config":{"postgres_changes":[{},null,"*"]}}`:                          "config.postgres_changes[2]: expected an object",
		`{"config":{"postgres_changes":[[]]}}`:                                   "config.postgres_changes[0]: expected an object",
		`{"config":{"postgres_changes":[{}` + strings.Repeat(",{}", 100) + `]}}`: "config.postgres_changes: expected at most 100 entries",
		`{"config":{"postgres_changes":[{"a":` + nested(600) + `}]}}`:            "config.postgres_changes[0]: expected at most 512 levels",
	} {
		j, err := protocol.ParseJoin([]byte(payload))
		var wrong *protocol.JoinError
		if !errors.As(err, &wrong) || err.Error() != want {
			t.Errorf("%.80s: got %v, want %s", payload, err, want)
		}
		if diff := cmp.Diff(protocol.Join{}, j); diff != "" {
			t.Errorf("%.80s: a refused join left %s", payload, diff)
		}
	}
}

func TestParseAccessToken(t *testing.T) {
	t.Parallel()
	type result struct {
		Token         string
		Present, Null bool
		Err           string
	}
	for payload, want := range map[string]result{
		`{"access_token":"jwt"}`:                  {Token: "jwt", Present: true},
		`{"access_token":""}`:                     {Present: true},
		`{"access_token":null}`:                   {Present: true, Null: true},
		`{"access_token":"a","access_token":"b"}`: {Token: "b", Present: true},
		`{}`:                   {},
		`{"token":"jwt"}`:      {},
		`{"access_token":1}`:   {Present: true, Err: "access_token: expected text"},
		`{"access_token":{}}`:  {Present: true, Err: "access_token: expected text"},
		`"jwt"`:                {Err: "payload: expected an object"},
		`null`:                 {Err: "payload: expected an object"},
		``:                     {Err: "payload: expected an object"},
		`{"access_token":"jwt`: {Err: "payload: expected an object"},
	} {
		var got result
		var err error
		if got.Token, got.Present, got.Null, err = protocol.ParseAccessToken([]byte(payload)); err != nil {
			got.Err = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", payload, diff)
		}
	}
}

func TestEchoChanges(t *testing.T) {
	t.Parallel()
	entries := func(texts ...string) (list [][]byte) {
		for _, s := range texts {
			list = append(list, []byte(s))
		}
		return list
	}
	a, b := `{"event":"*","schema":"public","table":"a","filter":null}`, `{ "schema" : "s" }`
	ids := protocol.ChangeIDs(entries(a, b, a))
	if ids[0] != ids[2] || ids[0] == ids[1] {
		t.Errorf("ids %v: want the first and third alike, the second not", ids)
	}
	if again := protocol.ChangeIDs(entries(b, a)); again[0] != ids[1] || again[1] != ids[0] {
		t.Errorf("ids changed with the order: %v, then %v", ids, again)
	}
	for _, tt := range []struct {
		entry string
		want  string // %d is the id
	}{
		{a, `{"event":"*","schema":"public","table":"a","filter":null,"id":%d}`},
		{b, `{ "schema" : "s","id":%d}`},
		{`{}`, `{"id":%d}`},
		{"{ \n}", `{"id":%d}`},
		{`{"id":"x"}`, `{"id":%d}`},
		{`{"a":{"id":1},"id":2, "b" : "\"id\":3" ,"\u0069d":[4]}`, `{"a":{"id":1},"b":"\"id\":3","id":%d}`},
	} {
		id := protocol.ChangeIDs(entries(tt.entry))[0]
		if id < 0 || id >= 1<<27 {
			t.Errorf("%s: id %d", tt.entry, id)
		}
		if got, want := string(protocol.EchoChanges(entries(tt.entry))), "["+fmt.Sprintf(tt.want, id)+"]"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got := string(protocol.EchoChanges(nil)); got != "[]" {
		t.Errorf("no entries: %s", got)
	}
}

// TestChangeIDsApart finds two entries whose hashes meet and wants them told apart nevertheless.
func TestChangeIDsApart(t *testing.T) {
	t.Parallel()
	seen := map[int][]byte{}
	for i := range 200_000 { // among so many, some of 2^27 ids meet: about 150 pairs
		entry := fmt.Appendf(nil, `{"table":"t%d"}`, i)
		id := protocol.ChangeIDs([][]byte{entry})[0]
		other, met := seen[id]
		if !met {
			seen[id] = entry
			continue
		}
		ids := protocol.ChangeIDs([][]byte{other, entry, other, entry})
		if ids[0] != id || ids[1] == id || ids[2] != ids[0] || ids[3] != ids[1] {
			t.Errorf("%s and %s: ids %v", other, entry, ids)
		}
		return
	}
	t.Fatal("no two entries met")
}

func TestMember(t *testing.T) {
	t.Parallel()
	object := []byte(` { "a" : 1 , "b":{"a":2},"c":"}" , "a":[3, "]"] } `)
	for key, want := range map[string]string{"a": `[3, "]"]`, "b": `{"a":2}`, "c": `"}"`} {
		if got, ok := protocol.Member(object, key); !ok || string(got) != want {
			t.Errorf("%s: got %s %v", key, got, ok)
		}
	}
	for _, other := range []string{`{}`, ` `, `[]`, `"a"`, `null`} {
		if v, ok := protocol.Member([]byte(other), "a"); ok {
			t.Errorf("%s has a member %s", other, v)
		}
	}
}
