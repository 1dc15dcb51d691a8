package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// hostileNames are names that something on the way might cut, fold, trim, quote or take for another; with the prefix each is
// at most 255 bytes long.
var hostileNames = []string{
	"a", "A", " a", "a ", "a\x00", "a\x00b", "\x00", "a\r\nb", "a\nb", "a\tb", "a\x1b[31m", "a\x7f", "a\u0085", "a\u2028",
	"a\u200b", "a\u200d", "a\ufeff", "\u202ea", "a\u2066", "\u00e9", "e\u0301", "\u212b", "\u00c5", "\ufb01", "fi", "\u0130", "i", "I",
	"%", "_", "a%", "*", "?", "'", `"`, "`", `\`, `\\`, "$1", "$$", "--", "/*", "';drop table members;--", `" or ""="`, "{room}", "%s", "%n",
	"a:b", "a:", ":a", "::", "realtime:a", "realtime:", "phoenix", "/a", "../a", "a/../a", "a%2Fb", "a%00",
	`{"topic":"realtime:a"}`, `["1","1","realtime:a","phx_join",{}]`, "null", "undefined", "__proto__", "constructor", "toString", "0", "-1", "NaN",
	"\U0001f468\u200d\U0001f469", "\U0010ffff", strings.Repeat("x", 246), strings.Repeat("x", 245) + "y", strings.Repeat("\u00e9", 123),
}

func quoted(t testing.TB, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every name is a room of its own, to the byte, in public and in private.
func TestHostileTopicsAreRoomsOfTheirOwn(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxChannelsPerSocket, c.MaxJoinsPerSecond, c.MaxEventsPerSecond = 0, 0, 0 })
	tok := token(t, "evil", "authenticated", nil)
	for _, isPrivate := range []bool{false, true} {
		c := r.dial(tok)
		want := len(hostileNames)
		if isPrivate { // members of a room may be named in SQL, which has no NUL
			want = 0
			for _, name := range hostileNames {
				if !strings.Contains(name, "\x00") {
					r.exec(`insert into members values ('evil', $1)`, name)
					want++
				}
			}
		}
		refs := map[string]string{}
		for _, name := range hostileNames {
			config := private()
			config["private"] = isPrivate
			joinRef, status, reason := c.join(name, config)
			if hasNUL := strings.Contains(name, "\x00"); isPrivate && hasNUL {
				if status != "error" || !strings.HasPrefix(reason, "Unauthorized: ") {
					t.Errorf("%q: %s %s", name, status, reason)
				}
				continue
			}
			if status != "ok" {
				t.Errorf("%q, private %v: %s", name, isPrivate, reason)
			}
			refs[name] = joinRef
		}
		for name, joinRef := range refs {
			c.reply(c.push(joinRef, "realtime:"+name, "broadcast", map[string]any{"event": "to " + name}))
		}
		for name := range refs {
			c.wait("its own message", broadcastOf(name, "to "+name))
		}
		if n := count(c, func(f frame) bool { return f.Event == "broadcast" }); n != want {
			t.Errorf("private %v: %d messages in %d rooms", isPrivate, n, want)
		}
	}
	bystanders.undisturbed("hostile topics")
}

// A right to one name is a right to no other that looks like it, or would match it.
func TestHostileTopicsGetNoRightsOfOthers(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxJoinsPerSecond = 0 })
	r.exec(`insert into members values ('evil', U&'caf\00E9'), ('evil', 'allowed')`)
	c := r.dial(token(t, "evil", "authenticated", nil))
	refused := map[string]string{}
	for _, name := range []string{
		"healthy", "cafe\u0301", "caf_", "caf%", "%", "_%", "allowed ", " allowed", "Allowed", "allowed\x00", "allowed\n", "allowed\u200b", "all\u00adowed",
		"realtime:allowed", "allowed' or 'a'='a", "allowed\u0000healthy", ".*", "\ufffd", "{room}",
	} {
		refused[c.push("", "realtime:"+name, "phx_join", config(private()))] = name
	}
	for _, name := range []string{"caf\u00e9", "allowed"} { // decided in the same round trips
		if _, status, reason := c.join(name, private()); status != "ok" {
			t.Errorf("%s: %s", name, reason)
		}
	}
	for ref, name := range refused {
		status, response := c.reply(ref)
		want := "Unauthorized: You do not have permissions to read from this Channel topic: " + name
		var told struct{ Reason string }
		if err := json.Unmarshal(response, &told); err != nil || status != "error" || told.Reason != want {
			t.Errorf("%q: %s %s", name, status, response)
		}
	}
	bystanders.undisturbed("topics that look alike")
}

// What is no topic of a channel is answered, under the very topic that was sent.
func TestTopicsThatAreNone(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	c := r.upgrade(token(t, "evil", "authenticated", nil))
	const unmatched = `"unmatched topic"`
	for i, tt := range []struct{ topic, want string }{
		{"", unmatched}, {"realtime", unmatched}, {"phoenix", unmatched}, {"REALTIME:a", unmatched}, {"Realtime:a", unmatched}, {" realtime:a", unmatched},
		{"realtime\x00:a", unmatched}, {"realtime\uff1aa", unmatched}, {"\ufeffrealtime:a", unmatched}, {"\u202erealtime:a", unmatched}, {"*", unmatched},
		{strings.Repeat("x", 1<<20), unmatched},
		{"realtime:", "TopicNameRequired: "},
		{"realtime:" + strings.Repeat("x", 247), "TopicTooLong: "},
		{"realtime:" + strings.Repeat("\u00e9", 124), "TopicTooLong: "},
		{"realtime:" + strings.Repeat("x", 4<<20), "TopicTooLong: "},
	} {
		ref := fmt.Sprint("t", i)
		if status, response := c.joinOn(ref, quoted(t, tt.topic), `{}`); status != "error" || !strings.Contains(response, tt.want) || len(response) > 200 {
			t.Errorf("%.40q: %s %.200s, want %s", tt.topic, status, response, tt.want)
		}
	}
	c.alive("topics that are none")
	if n := counter(t, r, "realtime_channels"); n != 2 {
		t.Errorf("%v channels", n)
	}
	bystanders.undisturbed("topics that are none")
}

// hostileCount is how often an attack is repeated: a little in the suite, as often as the variable says elsewhere.
func hostileCount(t testing.TB, variable string, few int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return few
}

// Very many joins on one socket: each is answered, and no more channels are kept than may be.
func TestVeryManyTopics(t *testing.T) {
	t.Parallel()
	for name, lifted := range map[string]bool{"within limits": false, "limits lifted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, bystanders := underAttack(t, func(c *Config) {
				if lifted {
					c.MaxChannelsPerSocket, c.MaxJoinsPerSecond = 0, 0
				}
			})
			joins := hostileCount(t, "HOSTILE_JOINS", 3000)
			c := r.upgrade(token(t, "evil", "authenticated", nil))
			unanswered := make(chan struct{}, 1000) // with more the client might be closed for reading too slowly
			go func() {
				for i := range joins {
					unanswered <- struct{}{}
					if !c.message(fmt.Sprintf(`["%[1]d","%[1]d","realtime:%[1]d","phx_join",{"config":{"private":%[2]v}}]`, i, i%100 == 99)) {
						return
					}
				}
			}()
			answers := map[string]int{}
			for range joins {
				op, payload, err := c.next()
				if err != nil || op != opText {
					t.Fatalf("after %v: opcode %#x %q %v", answers, op, payload, err)
				}
				f, err := parseFrame("2.0.0", false, payload)
				var answer struct {
					Status   string
					Response struct{ Reason string }
				}
				if err != nil || f.Event != "phx_reply" || json.Unmarshal(f.Payload, &answer) != nil {
					t.Fatalf("%q %v", payload, err)
				}
				code, _, _ := strings.Cut(answer.Status+" "+answer.Response.Reason, ":")
				answers[code]++
				<-unanswered
			}
			t.Logf("%d joins: %v", joins, answers)
			c.alive("the joins")
			denied, ok, few := answers["error Unauthorized"], answers["ok "], answers["error ClientJoinRateLimitReached"]+answers["error ChannelRateLimitReached"]
			switch channels := counter(t, r, "realtime_channels"); {
			case ok+denied+few != joins:
				t.Errorf("answers: %v", answers)
			case lifted && (few != 0 || denied != joins/100 || int(channels) != 2+ok):
				t.Errorf("%v channels, answers %v", channels, answers)
			case !lifted && (ok > 100 || int(channels) != 2+ok):
				t.Errorf("%v channels, answers %v", channels, answers)
			}
			bystanders.undisturbed("very many joins")
			c.conn.Close()
			r.await("the channels to be gone", func() bool { return counter(t, r, "realtime_channels") == 2 })
		})
	}
}
