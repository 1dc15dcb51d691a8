package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
)

var base64url = base64.RawURLEncoding.EncodeToString

// signed is a token of any two texts with a true signature, as of somebody whose identity provider signs what it is given.
func signed(header, claims string) string {
	text := base64url([]byte(header)) + "." + base64url([]byte(claims))
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(text))
	return text + "." + base64url(mac.Sum(nil))
}

// claiming is a good token with more claims: JSON members, each with a comma before it.
func claiming(more string) string {
	return signed(`{"alg":"HS256"}`, `{"role":"authenticated","exp":`+fmt.Sprint(time.Now().Add(time.Hour).Unix())+more+`}`)
}

// Tokens of every bad kind, in a join and in a refresh. Each harms the channel that it is for, and no other.
func TestHostileTokens(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxJoinsPerSecond = 0 })
	r.exec(`insert into members values ('evil', 'lab'), ('evil', 'calm')`)
	good := claiming(`,"sub":"evil"`)
	part := strings.Split(good, ".")
	hs256 := `{"alg":"HS256"}`
	const (
		malformed, signature, signer = "MalformedJWT", "JwtSignatureError", "JwtSignerError"
		invalid, role, denied, ok    = "InvalidJWTToken", "RoleNotAllowed", "Unauthorized", "ok"
	)
	later := fmt.Sprint(time.Now().Add(time.Hour).Unix())
	of := func(claims string) string { return signed(hs256, claims) }
	tests := []struct{ name, token, want string }{
		{"good", good, ok},
		{"alg none, unsigned", base64url([]byte(`{"alg":"none"}`)) + "." + part[1] + ".", signer},
		{"alg none, signed", signed(`{"alg":"none"}`, `{}`), signer},
		{"alg nOnE", signed(`{"alg":"nOnE"}`, `{}`), signer},
		{"alg of a public key", signed(`{"alg":"RS256"}`, `{}`), signer},
		{"alg null", signed(`{"alg":null}`, `{}`), signer},
		{"alg twice", signed(`{"alg":"HS256","alg":"none"}`, `{}`), malformed},
		{"alg is a list", signed(`{"alg":["HS256"]}`, `{}`), signer},
		{"alg with a space", signed(`{"alg":"HS256 "}`, `{}`), signer},
		{"another alg's signature", signed(`{"alg":"HS512"}`, `{}`), signature},
		{"no signature", part[0] + "." + part[1] + ".", signature},
		{"critical extensions", signed(`{"alg":"HS256","crit":["exp"]}`, `{}`), malformed},
		{"exp beyond every clock", of(`{"role":"authenticated","sub":"evil","exp":1e300}`), ok},
		{"exp beyond every number", of(`{"role":"authenticated","sub":"evil","exp":1e999}`), invalid},
		{"exp below zero", of(`{"role":"authenticated","sub":"evil","exp":-1}`), invalid},
		{"exp far below zero", of(`{"role":"authenticated","sub":"evil","exp":-1e300}`), invalid},
		{"exp of this moment", of(`{"role":"authenticated","sub":"evil","exp":` + fmt.Sprint(time.Now().Unix()) + `}`), invalid},
		{"exp is text", of(`{"role":"authenticated","sub":"evil","exp":"` + later + `"}`), invalid},
		{"exp is true", of(`{"role":"authenticated","sub":"evil","exp":true}`), invalid},
		{"exp is null", of(`{"role":"authenticated","sub":"evil","exp":null}`), invalid},
		{"exp is NaN", of(`{"role":"authenticated","sub":"evil","exp":NaN}`), malformed},
		{"exp twice", of(`{"role":"authenticated","sub":"evil","exp":1,"exp":` + later + `}`), malformed},
		{"role twice", claiming(`,"role":"service_role"`), malformed},
		{"role twice, escaped", claiming(`,"r\u006fle":"service_role"`), malformed},
		{"a name twice, deep", claiming(`,"a":[{"b":1,"b":2}]`), malformed},
		{"role none", of(`{"role":"none","exp":` + later + `}`), role},
		{"role of the server", of(`{"role":"rowcast","exp":` + later + `}`), role},
		{"role is a list of two", of(`{"role":["authenticated","anon"],"exp":` + later + `}`), invalid},
		{"role is a list of the server's", of(`{"role":["rowcast"],"exp":` + later + `}`), role},
		{"role with a quote", of(`{"role":"authenticated\"; reset role; --","exp":` + later + `}`), role},
		{"role with NUL", of(`{"role":"authenticated\u0000","exp":` + later + `}`), role},
		{"sub with NUL", claiming(`,"sub":"evil\u0000"`), invalid},
		{"sub with half a pair", claiming(`,"sub":"evil\ud800"`), invalid},
		{"sub is a number", claiming(`,"sub":1`), invalid},
		{"sub of another in another case", claiming(`,"sub":"EVIL"`), denied},
		{"claims are a list", of(`[]`), malformed},
		{"claims are null", of(`null`), malformed},
		{"claims with garbage behind", of(`{"role":"authenticated","exp":` + later + `}x`), malformed},
		{"claims that are not UTF-8", claiming(",\"x\":\"\xff\""), malformed},
		{"claims with NUL", claiming(`,"sub":"evil","x":"\u0000"`), denied}, // good in JSON, no text to Postgres
		{"claims with half a pair", claiming(`,"sub":"evil","x":"\ud800"`), denied},
		{"claims beyond every number", claiming(`,"sub":"evil","x":1e999999`), denied},
		{"5,000 levels", claiming(`,"sub":"evil","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)), ok + " " + denied}, // as Postgres' stack allows
		{"11,000 levels that stay open", of(strings.Repeat("[", 11_000)), malformed},
		{"12 KB of claims", claiming(`,"sub":"evil","x":"` + strings.Repeat("x", 11_500) + `"`), ok},
		{"20 KB of claims", claiming(`,"sub":"evil","x":"` + strings.Repeat("x", 20_000) + `"`), malformed},
		{"not base64", "a." + part[1] + "." + part[2], malformed},
		{"two parts", part[0] + "." + part[1], malformed},
		{"1,000 parts", strings.Repeat("a.", 1000), malformed},
		{"broken escapes", "%" + good, malformed},
		{"NUL behind", good + "\x00", malformed},
	}
	c := r.dial(good)
	calm, status, reason := c.join("calm", private())
	if status != "ok" {
		t.Fatal(reason)
	}
	for _, tt := range tests {
		join := c.push("", "realtime:lab", "phx_join", map[string]any{"config": private(), "access_token": tt.token})
		status, response := c.reply(join)
		var told struct{ Reason string }
		_ = json.Unmarshal(response, &told)
		code, text, _ := strings.Cut(told.Reason, ": ")
		if status == ok {
			code = ok
		}
		if !slices.Contains(strings.Fields(tt.want), code) {
			t.Errorf("%s: %s %s, want %s", tt.name, status, response, tt.want)
		}
		// The same to a channel that is open.
		open, status, reason := c.join("lab", private())
		if status != "ok" {
			t.Fatalf("after %s: %s", tt.name, reason)
		}
		c.push(open, "realtime:lab", "access_token", map[string]any{"access_token": tt.token})
		if code != ok {
			c.wait("what was wrong with "+tt.name, func(f frame) bool {
				var said struct{ Status, Message string }
				return f.JoinRef != nil && *f.JoinRef == open && f.Event == "system" && json.Unmarshal(f.Payload, &said) == nil &&
					said.Status == "error" && withoutNumbers(said.Message) == withoutNumbers(text)
			})
			c.wait("the end of "+tt.name, func(f frame) bool { return f.JoinRef != nil && *f.JoinRef == open && f.Event == "phx_close" })
		}
		if status, response := c.reply(c.push(calm, "realtime:calm", "broadcast", map[string]any{})); status != "ok" {
			t.Fatalf("after %s the channel beside it: %s", tt.name, response)
		}
	}
	if n := count(c, func(f frame) bool {
		return f.Topic == "realtime:calm" && f.Event != "phx_reply" && f.Event != "broadcast"
	}); n != 0 {
		t.Errorf("the channel beside heard %d messages about others' tokens", n)
	}
	bystanders.undisturbed("hostile tokens")
}

// withoutNumbers lets two moments say the same about a token that has expired.
func withoutNumbers(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text)
}

// Whatever a subject is made of, policies see that person and no other.
func TestHostileSubjects(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxJoinsPerSecond = 0 })
	subjects := []string{
		"o'hara", `a"b`, `\`, "$1", "a\nb", "a\r\n", "\t", " ", "a ", "%", "';drop table members;--", "{}", "null", "\u202e", "\u00e9", "e\u0301", "\U0010ffff",
		"00000000-0000-0000-0000-00000000000A", "00000000-0000-0000-0000-00000000000a", strings.Repeat("s", 4000),
	}
	for i, subject := range subjects {
		r.exec(`insert into members values ($1, $2)`, subject, fmt.Sprint("room", i))
	}
	for i, subject := range subjects {
		c := r.dial(token(t, subject, "authenticated", nil))
		for j := range subjects {
			_, status, reason := c.join(fmt.Sprint("room", j), private())
			if (status == "ok") != (i == j) {
				t.Errorf("%.20q in the room of %.20q: %s %s", subject, subjects[j], status, reason)
			}
		}
		r.exec(`delete from members where user_id = $1`, subject)
		c.wait("the cut", isEvent(fmt.Sprint("room", i), "phx_close"))
	}
	bystanders.undisturbed("hostile subjects")
}

// Claims that Postgres cannot read are refused alone: those that share their round trip are answered by it, not by another.
func TestHostileClaimsSpoilNoBatch(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxJoinsPerSecond, c.Watch = 0, "off" }) // else the new policy has all asked again
	// It reads the claims, and no table that a change is heard of.
	r.exec(`create policy rooms on realtime.messages for select to authenticated using (realtime.topic() like 'room%' and current_setting('request.jwt.claims')::jsonb ->> 'sub' = 'evil')`)
	tokens := []string{
		claiming(`,"sub":"evil"`), claiming(`,"sub":"evil","x":"\u0000"`), claiming(`,"sub":"evil"`), claiming(`,"sub":"evil","x":1e999999`),
		claiming(`,"sub":"evil"`), claiming(`,"sub":"evil","x":"\ud800"`), claiming(`,"sub":"evil"`), claiming(`,"sub":"evil","\u0000":1`),
		claiming(`,"sub":"evil"`), claiming(`,"sub":"evil","x":` + strings.Repeat(`{"x":`, 1500) + "1" + strings.Repeat("}", 1500)),
	}
	asked := metricstest.Sum(t, r.metrics, "realtime_decision_batch_requests")
	c := r.dial(tokens[0])
	refs := make([]string, 50)
	for i := range refs {
		refs[i] = c.push("", fmt.Sprint("realtime:room", i), "phx_join", map[string]any{"config": private(), "access_token": tokens[i%len(tokens)]})
	}
	for i, ref := range refs {
		status, response := c.reply(ref)
		if readable := i%2 == 0 || i%len(tokens) == 9; readable != (status == "ok") || !readable && !strings.Contains(string(response), "Unauthorized: ") {
			t.Errorf("join %d: %s %s", i, status, response)
		}
	}
	if n := metricstest.Sum(t, r.metrics, "realtime_decision_batch_requests") - asked; n != float64(len(refs)) {
		t.Errorf("%d joins were asked about %v times", len(refs), n)
	}
	bystanders.undisturbed("claims that cannot be read")
}
