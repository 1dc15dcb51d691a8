package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/protocol"
)

// provocation has a server say a code to a client over the wire, and gives what the client was told.
type provocation struct {
	code    protocol.Code
	where   protocol.Place
	counted string // the metric that counts it
	label   string // the label there; empty: the code
	on      server // the server that says it
	provoke func(*stage) (told string)
}

// stage is a running server, for one provocation after the other.
type stage struct {
	*outages
	t *testing.T
}

// What the table of codes lists is said over the wire at every place that the table names, in the table's words, and
// counted under the code. Nothing is listed that no client can ever be told.
func TestEveryCodeCanBeProvoked(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[protocol.Code]bool{}
	for _, e := range protocol.Codes() {
		known[e.Code] = true
		if !strings.Contains(string(page), fmt.Sprintf("\n| `%s` | %s |", e.Code, strings.ReplaceAll(strings.Join(e.Texts, "<br>"), "|", `\|`))) {
			t.Errorf("docs/codes.md has no line for %s", e.Code)
		}
		for _, place := range []protocol.Place{protocol.InJoinReply, protocol.InPushReply, protocol.InSystem, protocol.InREST, protocol.InClose} {
			provoked := slices.ContainsFunc(provocations, func(p provocation) bool { return p.code == e.Code && p.where == place })
			switch listed := e.Where&place != 0; {
			case listed && !provoked:
				t.Errorf("nothing provokes %s in a %s: add a provocation{code: protocol.%[1]s, where: …} to server/conform_provocations_test.go "+
					"that has a server say it over the wire, or take the place off the table in server/protocol/codes.go", e.Code, placeName(place))
			case !listed && provoked:
				t.Errorf("%s is provoked in a %s, which the table in server/protocol/codes.go does not name", e.Code, placeName(place))
			}
		}
	}
	for _, p := range provocations {
		if !slices.ContainsFunc(servers, func(on testServer) bool { return on.name == p.on }) {
			t.Errorf("%s is provoked on %q, which is no server of server/conform_provocations_test.go", p.code, p.on)
		}
	}
	seen := &texts{said: map[string]bool{}}
	var all sync.WaitGroup
	for _, on := range servers { // not with t.Parallel: most of their time they wait, and so keep other tests from running
		all.Go(func() {
			t.Run(string(on.name), func(t *testing.T) {
				s := &stage{startWithOutages(t, on.settings), t}
				s.exec(allowMembers + `insert into members (user_id, room, muted) values ('u1', 'a', false), ('u2', 'a', false), ('mute', 'a', true)`)
				for _, p := range provocations {
					if p.on == on.name && known[p.code] {
						s.play(p, seen)
					}
				}
			})
		})
	}
	all.Wait()
	for _, e := range protocol.Codes() {
		for _, text := range slices.Concat(e.Texts, e.REST) {
			switch why, excused := saidInTests[text]; {
			case seen.said[text] && excused:
				t.Errorf("%q is said: take it off saidInTests in server/conform_changes_test.go", text)
			case !seen.said[text] && !excused && !t.Failed():
				t.Errorf("nothing provokes the text %q of %s: add a provocation to server/conform_provocations_test.go", text, e.Code)
			case !seen.said[text]:
				t.Logf("%s: %q: %s", e.Code, text, why)
			}
		}
	}
}

// Programs and people search for the codes and sentences of Supabase Realtime. Where there is one for what is the matter, it
// is to the letter; and none of its codes means something else here.
func TestCodesThatClientsKnow(t *testing.T) {
	t.Parallel()
	known := map[protocol.Code][]string{
		"TopicNameRequired":          {"You must provide a topic name"},
		"RealtimeRestarting":         {"Realtime is restarting, please standby"},
		"PrivateOnly":                {"This project only allows private channels"},
		"ClientJoinRateLimitReached": {"Too many joins per second"},
		"ChannelRateLimitReached":    {"Too many channels"},
		"InvalidJWTToken":            {"Token has expired %d seconds ago", "Fields `role` and `exp` are required in JWT", "Token expiration time is invalid"},
		"MalformedJWT":               {"The token provided is not a valid JWT"},
		"JwtSignatureError":          {"Failed to validate JWT signature"},
		"JwtSignerError": {"Failed to generate JWT signer, check your JWT secret or JWKS configuration",
			`Failed to generate JWT signer for key ID (kid) "%s", check your JWT secret or JWKS configuration`},
		"Unauthorized":                    {"You do not have permissions to read from this Channel topic: %s"},
		"UnableToReplayMessages":          {"Replay is not allowed for public channels", "Replay params are not valid", "Realtime was unable to replay messages"},
		"UnableToConnectToProject":        {"Realtime was unable to connect to the project database"},
		"PostgresChangesSubscribeTimeout": {"Timed out after %dms waiting for the postgres_changes subscription"},
	}
	// Sentences that clients are told without a code there, or with another where there is room for more.
	plain := []string{
		"unmatched topic", "payload_size_exceeded", "Server requested disconnect", "Too many messages per second",
		"You no longer have permission to read from this Channel topic: %s",
		"Client presence rate limit exceeded", "Track message size exceeded", "Presence track payload must be a map",
	}
	all := map[string]bool{}
	for _, e := range protocol.Codes() {
		for _, text := range e.Texts {
			all[text] = true
		}
		if texts, ok := known[e.Code]; ok {
			delete(known, e.Code)
			for i, text := range texts {
				if i >= len(e.Texts) || e.Texts[i] != text || e.Bare {
					t.Errorf("%s says %q, and clients know it as %q", e.Code, e.Texts, text)
				}
			}
		}
	}
	for code := range known {
		t.Errorf("%s is not in the table", code)
	}
	for _, text := range plain {
		if !all[text] {
			t.Errorf("%q is not in the table", text)
		}
	}
}

// texts are those of the table that a client has been told.
type texts struct {
	mu   sync.Mutex // guards said
	said map[string]bool
}

func (x *texts) add(text string) {
	x.mu.Lock()
	x.said[text] = true
	x.mu.Unlock()
}

// play has one code said, and compares it with the table.
func (s *stage) play(p provocation, seen *texts) {
	s.t.Helper()
	label := p.label
	if label == "" {
		label = string(p.code)
	}
	before := metricstest.Value(s.t, s.metrics, p.counted, label)
	told := p.provoke(s)
	text, ok := textOf(p.code, p.where, told)
	if !ok {
		s.t.Errorf("%s in a %s: told %q, which is not in the table", p.code, placeName(p.where), told)
	}
	seen.add(text)
	s.await(fmt.Sprintf("%s{%s} to count", p.counted, label), func() bool { return metricstest.Value(s.t, s.metrics, p.counted, label) > before })
}

var verb = regexp.MustCompile(`%[ds]`)

// textOf finds the text of the table that somebody was told. A system message says some texts with the code and some, as
// clients know them, without.
func textOf(code protocol.Code, where protocol.Place, told string) (text string, ok bool) {
	for _, e := range protocol.Codes() {
		if e.Code != code {
			continue
		}
		if where == protocol.InClose { // a close frame has a number and no text
			return e.Texts[0], told == fmt.Sprint(e.Close)
		}
		texts := e.Texts
		if where == protocol.InREST && e.REST != nil {
			texts = e.REST
		}
		for _, text := range texts {
			pattern := verb.ReplaceAllStringFunc(regexp.QuoteMeta(text), func(v string) string {
				return map[string]string{"%d": `\d+`, "%s": `.+`}[v]
			})
			prefix := regexp.QuoteMeta(string(code)) + ": "
			switch {
			case e.Bare && where != protocol.InREST: // there the code has a header of its own
				prefix = ""
			case where == protocol.InSystem:
				prefix = "(" + prefix + ")?"
			}
			if regexp.MustCompile(`^` + prefix + pattern + `$`).MatchString(told) {
				return text, true
			}
		}
	}
	return "", false
}

// placeName is what docs/codes.md calls a place.
func placeName(p protocol.Place) string {
	return map[protocol.Place]string{
		protocol.InJoinReply: "join reply", protocol.InPushReply: "push reply", protocol.InSystem: "system message",
		protocol.InREST: "REST", protocol.InClose: "close",
	}[p]
}

// reasonOf is what a reply says beside its status: a reason, or a bare text.
func reasonOf(response json.RawMessage) string {
	var told struct{ Reason string }
	var bare string
	if json.Unmarshal(response, &bare) == nil {
		return bare
	}
	_ = json.Unmarshal(response, &told)
	return told.Reason
}

// messageOf is what a system message says.
func messageOf(f frame) string {
	var told struct{ Message string }
	_ = json.Unmarshal(f.Payload, &told)
	return told.Message
}
