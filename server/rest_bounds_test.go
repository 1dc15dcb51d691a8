package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// A caller has so many bytes a second: one large message may pass, and is paid for by those that follow.
func TestRESTBytes(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxRESTBytes = 100_000 })
	large := `"` + strings.Repeat("x", 2_500_000) + `"`
	for user, send := range map[string]func(tok, body string) restAnswer{
		"u1": func(tok, body string) restAnswer { return r.rest("POST", openPath, tok, body) },
		"u2": func(tok, body string) restAnswer {
			return r.rest("POST", batchPath, tok, `{"messages":[{"topic":"t","event":"e","payload":`+body+`}]}`)
		},
	} {
		tok := token(t, user, "authenticated", nil)
		if got := send(tok, large); got.status != 202 {
			t.Errorf("%s: a large message: %d %s", user, got.status, got.body)
		}
		if got := send(tok, "{}"); got.status != 429 || got.body != `{"message":"Too many bytes per second"}` || got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: one more: %d %s", user, got.status, got.body)
		}
		if got := send(token(t, user+" other", "authenticated", nil), "{}"); got.status != 202 {
			t.Errorf("somebody else beside %s: %d %s", user, got.status, got.body)
		}
	}
}

// A caller has so many messages a second, over all requests, and is told how many are left. Others have their own.
func TestRESTRates(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxRESTMessages = 5 })
	send := func(user, role string, n int) restAnswer {
		topics := make([]string, n)
		for i := range topics {
			topics[i] = fmt.Sprint("t", i)
		}
		return r.rest("POST", batchPath, token(t, user, role, nil), batchOf(false, topics...))
	}
	const tooOften, tooMany = `{"message":"You have exceeded your rate limit"}`, `{"message":"Too many messages to broadcast, please reduce the batch size"}`
	if got := send("u0", "authenticated", 6); got.status != 429 || got.body != tooMany || got.header.Get("Retry-After") != "1" {
		t.Errorf("more than a second's worth: %d %s", got.status, got.body)
	}
	got := send("u1", "authenticated", 4)
	if got.status != 202 || got.header.Get("X-Rate-Limit") != "5" || got.header.Get("X-Rate-Limit-Remaining") != "1" || got.header.Get("X-Rate-Rolling") != "4" {
		t.Errorf("4 of 5: %d %v", got.status, got.header)
	}
	if got := send("u1", "service_role", 5); got.status != 429 || got.body != tooMany {
		t.Errorf("5 more, with another role: %d %s", got.status, got.body)
	}
	if got := send("u2", "authenticated", 5); got.status != 202 {
		t.Errorf("somebody else: %d %s", got.status, got.body)
	}
	seen := map[string]int{}
	for range 20 { // faster than they come back, at least at the beginning
		got := r.rest("POST", openPath, token(t, "u2", "authenticated", nil), "{}")
		seen[fmt.Sprint(got.status, got.body)]++
	}
	if seen["429"+tooOften] == 0 || len(seen) > 2 {
		t.Errorf("20 single messages: %v", seen)
	}
	// Tokens that name nobody share what their role has.
	if got := send("", "anon", 5); got.status != 202 {
		t.Errorf("anon: %d %s", got.status, got.body)
	}
	another, err := http.NewRequest("POST", "http://"+r.public.Addr().String()+batchPath, strings.NewReader(batchOf(false, "a", "b", "c", "d", "e")))
	if err != nil {
		t.Fatal(err)
	}
	another.Header.Set("apikey", token(t, "", "anon", map[string]any{"name": "another"}))
	response, err := http.DefaultTransport.RoundTrip(another)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != 429 || string(body) != tooMany && string(body) != tooOften {
		t.Errorf("another anon: %s %s", response.Status, body)
	}
	if got := send("", "service_role", 5); got.status != 202 {
		t.Errorf("service_role: %d %s", got.status, got.body)
	}
}

// With the limit lifted there is still a bound to what one request may ask.
func TestRESTWithoutRates(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxRESTMessages, c.MaxRESTBytes, c.MaxRESTBodyBytes, c.MaxPayloadBytes = 0, 0, 0, 0 })
	topics := make([]string, 10_001)
	for i := range topics {
		topics[i] = "t"
	}
	tok := token(t, "u1", "authenticated", nil)
	if got := r.rest("POST", batchPath, tok, batchOf(false, topics[:10_000]...)); got.status != 202 || got.header.Get("X-Rate-Limit") != "" {
		t.Errorf("10,000: %d %s %v", got.status, got.body, got.header)
	}
	if got := r.rest("POST", batchPath, tok, batchOf(false, topics...)); got.status != 429 {
		t.Errorf("10,001: %d %s", got.status, got.body)
	}
	// What is wrong with millions of messages is not listed.
	got := r.rest("POST", batchPath, tok, `{"messages":[`+strings.Repeat("{},", 1_000_000)+`{}]}`)
	if got.status != 429 || len(got.body) > 200 {
		t.Errorf("a million empty ones: %d, %d bytes", got.status, len(got.body))
	}
	if got := r.rest("POST", openPath, tok, `"`+strings.Repeat("x", 9_000_000)+`"`); got.status != 202 {
		t.Errorf("9 MB: %d %s", got.status, got.body)
	}
}

// While the database is not heard, public messages go on, and private ones are refused in time, with a code of their own.
func TestRESTWhileTheDatabaseIsNotHeard(t *testing.T) {
	t.Parallel()
	r := startWithOutages(t, nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	tok := token(t, "u1", "authenticated", nil)
	c := r.dial(tok)
	if _, status, reason := c.join("open", nil); status != "ok" {
		t.Fatal(reason)
	}
	r.begin()
	got := r.rest("POST", batchPath, tok, `{"messages":[{"topic":"a","event":"e","payload":1,"private":true},{"topic":"open","event":"e","payload":2}]}`)
	want := `{"message":"1 of 2 messages were refused","results":[{"status":"refused","code":"Deaf","message":"Tenant database unavailable"},{"status":"sent"}]}`
	if got.status != 422 || got.body != want || got.header.Get("X-Error-Code") != "Deaf" {
		t.Errorf("batch: %d %s", got.status, got.body)
	}
	c.wait("the public message", broadcastOf("open", "e"))
	if got := r.rest("POST", openPath, tok, `{}`); got.status != 202 {
		t.Errorf("public: %d %s", got.status, got.body)
	}
	r.end()
	if got := r.rest("POST", lockedPath, tok, `{}`); got.status != 202 {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

// A server that serves nobody sends for nobody.
func TestRESTOnAServerThatWaits(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first := start(t, db, nil)
	second := beside(t, db, nil)
	second.await("the second server to know of the first", func() bool { return strings.Contains(second.leaseCheck(), first.lease.name) })
	tok := token(t, "u1", "authenticated", nil)
	if got := second.rest("POST", openPath, tok, "{}"); got.status != 503 || got.body != `{"message":"Another server serves this database"}` {
		t.Errorf("the second: %d %s", got.status, got.body)
	}
	if got := first.rest("POST", openPath, tok, "{}"); got.status != 202 {
		t.Errorf("the first: %d %s", got.status, got.body)
	}
	first.stop()
	second.awaitReady()
	if got := second.rest("POST", openPath, tok, "{}"); got.status != 202 {
		t.Errorf("the second, when the first is gone: %d %s", got.status, got.body)
	}
}

// However much is asked over REST, about policies that take a while: who joins does not wait for it.
func TestRESTHoldsUpNoJoin(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a');
		create policy takes_a_while on realtime.messages for insert to authenticated with check (realtime.topic() like 'many %' and (select pg_sleep(0.02)) is not null)`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	c.join("b", private())        // so what the policies depend on is known, and the first answers count
	topics := make([]string, 900) // which is 18 seconds of work
	for i := range topics {
		topics[i] = fmt.Sprint("many ", i)
	}
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.public.Addr().String()+batchPath, strings.NewReader(batchOf(true, topics...)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token(t, "many", "authenticated", nil))
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		if response, err := http.DefaultTransport.RoundTrip(request); err == nil { // else the test is over
			response.Body.Close()
		}
	}()
	r.await("the first of the answers", func() bool { return counter(t, r, "realtime_decisions_total") > 1 })
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Errorf("a join meanwhile: %s", reason)
	}
	if n := counter(t, r, "realtime_decisions_total"); n > 450 {
		t.Errorf("it was answered after %v others", n)
	}
}
