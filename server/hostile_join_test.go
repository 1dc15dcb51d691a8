package main

import (
	"fmt"
	"strings"
	"testing"
)

// joinOn sends a join with this payload, as it stands, and returns the status and the response.
func (c *raw) joinOn(ref, topic, payload string) (status, response string) {
	c.t.Helper()
	c.message(fmt.Sprintf(`["%[1]s","%[1]s",%[2]s,"phx_join",%[3]s]`, ref, topic, payload))
	return c.reply(ref)
}

// A join that is not understood is refused and says why. Above all, none that meant to be private becomes public.
func TestHostileJoins(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxJoinsPerSecond = 0 })
	r.exec(`create policy anyone on realtime.messages for select to authenticated using (realtime.topic() = 'lab')`)
	good := token(t, "evil", "authenticated", nil)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	const (
		public, private, malformed = "public", "private", "MalformedWebSocketMessage: "
		invalid                    = "InvalidJoinPayload: "
		notJWT                     = "MalformedJWT: "
	)
	tests := []struct{ name, payload, want string }{
		{"nothing", `{}`, public},
		{"private", `{"config":{"private":true}}`, private},
		{"private as text", `{"config":{"private":"true"}}`, private},
		{"private as text in capitals", `{"config":{"private":"TRUE"}}`, private},
		{"an escaped name", `{"config":{"priv\u0061te":true}}`, private},
		{"names twice, the last counts", `{"config":{"private":false,"private":true}}`, private},
		{"config twice, the last counts", `{"config":{"private":false},"config":{"private":true}}`, private},
		{"private is null", `{"config":{"private":null}}`, invalid + "config.private"},
		{"config is null", `{"config":null}`, public},
		{"private is a number", `{"config":{"private":1}}`, invalid + "config.private"},
		{"private is yes", `{"config":{"private":"yes"}}`, invalid + "config.private"},
		{"private is text with a space", `{"config":{"private":"true "}}`, invalid + "config.private"},
		{"private is empty text", `{"config":{"private":""}}`, invalid + "config.private"},
		{"private is a list", `{"config":{"private":[true]}}`, invalid + "config.private"},
		{"private is an object", `{"config":{"private":{}}}`, invalid + "config.private"},
		{"the last private counts, and is wrong", `{"config":{"private":true,"private":"no"}}`, invalid + "config.private"},
		{"config is a list", `{"config":[]}`, invalid + "config: "},
		{"config is text", `{"config":"x"}`, invalid + "config: "},
		{"config is true", `{"config":true}`, invalid + "config: "},
		{"broadcast is a list", `{"config":{"private":true,"broadcast":[]}}`, invalid + "config.broadcast: "},
		{"presence is text", `{"config":{"presence":"x"}}`, invalid + "config.presence: "},
		{"a key of presence that is an object", `{"config":{"presence":{"key":{}}}}`, invalid + "config.presence.key"},
		{"a key of presence that breaks clients", `{"config":{"presence":{"key":"\u0069ds"}}}`, invalid + "config.presence.key"},
		{"a key of presence that every object has", `{"config":{"presence":{"key":"constructor"}}}`, invalid + "config.presence.key"},
		{"a key of presence without end", `{"config":{"presence":{"key":"` + strings.Repeat("k", 2000) + `"}}}`, invalid + "config.presence.key"},
		{"changes that are an object", `{"config":{"postgres_changes":{}}}`, invalid + "config.postgres_changes"},
		{"a change that is text", `{"config":{"postgres_changes":["x"]}}`, invalid + "config.postgres_changes[0]"},
		{"1,000 changes", `{"config":{"postgres_changes":[{}` + strings.Repeat(",{}", 999) + `]}}`, invalid + "config.postgres_changes: "},
		{"replay beyond every number", `{"config":{"broadcast":{"replay":{"since":1e999999}}}}`, "UnableToReplayMessages: "},
		{"the payload is null", `null`, invalid + "payload"},
		{"the payload is a list", `[]`, invalid + "payload"},
		{"the payload is text", `"x"`, invalid + "payload"},
		{"a number without end", `{"config":{"x":` + strings.Repeat("9", 100_000) + `}}`, public},
		{"numbers beyond every number", `{"x":[1e999999,-1e-999999,0e0]}`, public},
		{"half a pair", `{"config":{"x":"\ud800"}}`, public},
		{"a payload without end", `{"config":{"private":true,"x":"` + strings.Repeat("x", 1<<20) + `"}}`, invalid + "payload: "},
		{"changes without end", `{"config":{"postgres_changes":[{"filter":"` + strings.Repeat("x", 4_000_000) + `"}]}}`, invalid + "payload: "},
		{"512 levels", `{"config":` + deep(511) + `}`, invalid + "config: "},
		{"513 levels", `{"config":` + deep(512) + `}`, malformed},
		{"9,000 levels", `{"x":` + deep(9_000) + `}`, malformed},
		{"1,000,000 brackets", `{"x":` + deep(500_000) + `}`, malformed},
		{"1,000,000 brackets that stay open", `{"x":` + strings.Repeat("[", 1_000_000) + `}`, malformed},
		{"a deep change", `{"config":{"postgres_changes":[{"a":` + deep(600) + `}]}}`, malformed},
		{"a deep token", `{"access_token":` + deep(600) + `}`, malformed},
		{"a token that is a number", `{"access_token":5}`, invalid + "access_token"},
		{"a token that is a list", `{"access_token":[]}`, invalid + "access_token"},
		{"a token that is empty", `{"access_token":""}`, notJWT},
		{"a token of 20 KB", `{"access_token":"` + strings.Repeat("t", 20<<10) + `"}`, notJWT},
		{"a token of 4 MB", `{"access_token":"` + strings.Repeat("t", 4<<20) + `"}`, invalid + "payload: "},
		{"half a pair in a token", `{"access_token":"\ud800"}`, notJWT},
		{"user_token before access_token", `{"access_token":"x","user_token":"` + good + `"}`, public},
		{"user_token before a good access_token", `{"access_token":"` + good + `","user_token":"x"}`, notJWT},
		{"user_token that is null", `{"access_token":"` + good + `","user_token":null}`, public},
	}
	c := r.upgrade(good)
	for i, tt := range tests {
		ref := fmt.Sprint("j", i)
		status, response := c.joinOn(ref, `"realtime:lab"`, tt.payload)
		publics := labelled(t, r, "realtime_channels", public)
		got := response
		if status == "ok" {
			got = public
			if labelled(t, r, "realtime_channels", private) == 3 { // the bystanders' and this
				got = private
			}
			c.message(fmt.Sprintf(`["%[1]s","l%[1]s","realtime:lab","phx_leave",{}]`, ref))
			c.reply("l" + ref)
			r.await("the channel to be gone", func() bool { return counter(t, r, "realtime_channels") == 2 })
		} else if publics != 0 {
			t.Errorf("%s: a public channel is there all the same", tt.name)
		}
		if !strings.Contains(got, tt.want) || len(response) > 1000 {
			t.Errorf("%s: %s %.300s, want %q", tt.name, status, got, tt.want)
		}
	}
	c.alive("hostile joins")
	bystanders.undisturbed("hostile joins")
}

// What is no message at all is counted and dropped: there is nobody to answer, and the socket goes on.
func TestFramesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	c := r.upgrade(token(t, "evil", "authenticated", nil))
	const beat = `[null,"1","phoenix","heartbeat",{}]`
	tests := []struct{ name, text, reason string }{
		{"nothing", "", "malformed"},
		{"white space", " \t\r\n", "malformed"},
		{"a byte order mark", "\ufeff" + beat, "malformed"},
		{"garbage behind", beat + "x", "malformed"},
		{"two messages", beat + beat, "malformed"},
		{"cut", beat[:20], "malformed"},
		{"NaN", `[null,"1","phoenix","heartbeat",NaN]`, "malformed"},
		{"Infinity", `[null,"1","phoenix","heartbeat",-Infinity]`, "malformed"},
		{"a number with a plus", `[null,"1","phoenix","heartbeat",+1]`, "malformed"},
		{"a comma too many", `[null,"1","phoenix","heartbeat",{},]`, "malformed"},
		{"single quotes", `[null,'1','phoenix','heartbeat',{}]`, "malformed"},
		{"a comment", `[null,"1","phoenix","heartbeat",{}/**/]`, "malformed"},
		{"NUL in a string", "[null,\"1\",\"pho\x00enix\",\"heartbeat\",{}]", "malformed"},
		{"a line break in a string", "[null,\"1\",\"pho\nenix\",\"heartbeat\",{}]", "malformed"},
		{"an object on a socket of arrays", `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}`, "bad_shape"},
		{"a short array", `[null,"1","phoenix","heartbeat"]`, "bad_shape"},
		{"a topic that is a number", `[null,"1",5,"heartbeat",{}]`, "bad_shape"},
		{"an event that is null", `[null,"1","phoenix",null,{}]`, "bad_shape"},
		{"not UTF-8", "[null,\"1\",\"pho\xff\",\"heartbeat\",{}]", "utf8"},
		{"half a character", "[null,\"1\",\"pho\xe2\x82\",\"heartbeat\",{}]", "utf8"},
		{"a surrogate in UTF-8", "[null,\"1\",\"pho\xed\xa0\x80\",\"heartbeat\",{}]", "utf8"},
		{"a long form of a slash", "[null,\"1\",\"pho\xc0\xaf\",\"heartbeat\",{}]", "utf8"},
		{"UTF-16", "[\x00n\x00u\x00l\x00l\x00", "malformed"},
		{"only brackets", strings.Repeat("[", 1_000_000), "too_deep"},
		{"only braces", strings.Repeat(`{"a":`, 500_000), "too_deep"},
	}
	for _, tt := range tests {
		before := labelled(t, r, "realtime_frames_bad_total", tt.reason)
		c.message(tt.text)
		c.alive(tt.name)
		if n := labelled(t, r, "realtime_frames_bad_total", tt.reason) - before; n != 1 {
			t.Errorf("%s: counted %v times as %s", tt.name, n, tt.reason)
		}
	}
	// A character that is cut by the end of a fragment is whole in the message.
	euro := `[null,"€","phoenix","heartbeat",{}]`
	cut := strings.IndexByte(euro, 0x82)
	c.write(append(clientFrame(opText, euro[:cut]), clientFrame(fin|opContinuation, euro[cut:])...))
	if status, response := c.reply("€"); status != "ok" {
		t.Errorf("a character over two fragments: %s", response)
	}
	bystanders.undisturbed("frames that cannot be read")
}
