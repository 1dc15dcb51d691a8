package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

func privatePath(topic, event string) string {
	return "/api/broadcast/" + topic + "/events/" + event + "?private=true"
}

// The policies decide about every private message, whatever happens in them.
func TestRESTFollowsPolicies(t *testing.T) {
	t.Parallel()
	db, dropped := pgtest.New(t), "test_"+strings.ToLower(rand.Text())
	if _, err := db.Admin.Exec(t.Context(), fmt.Sprintf(`create role %s; grant %[1]s to %s`, dropped, pgtest.ServerRole)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = db.Admin.Exec(context.Background(), `drop role if exists `+dropped) })
	r := start(t, db, func(c *Config) { c.AllowedRoles = append(c.AllowedRoles, dropped) })
	r.exec(`drop role ` + dropped)
	r.exec(allowMembers + `
		insert into members (user_id, room, muted) values ('u1', 'a', false), ('mute', 'a', true);
		create policy raises on realtime.messages for insert to authenticated with check (realtime.topic() = 'zero' and 1 / (length(realtime.topic()) - 4) = 1);
		create policy by_headers on realtime.messages for insert to authenticated with check (realtime.topic() = 'headers'
			and current_setting('request.headers')::jsonb @> '{"x-tag": "yes", "content-type": "application/json", "host": "example.org"}'
			and current_setting('request.headers')::jsonb ? 'authorization')`)
	member := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := member.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	for _, tt := range []struct {
		user, role, topic string
		status            int
		body              string
	}{
		{"u1", "authenticated", "a", 202, ""},
		{"mute", "authenticated", "a", 403, `{"message":"Unauthorized"}`},
		{"stranger", "authenticated", "a", 403, `{"message":"Unauthorized"}`},
		{"", "anon", "a", 403, `{"message":"Unauthorized"}`},
		{"u1", "service_role", "a", 202, ""},
		{"u1", "authenticated", "zero", 422, `{"message":"RLS policy error"}`},
		{"u1", dropped, "a", 422, `{"message":"RLS policy error"}`},
		{"u1", "authenticated", "a%00", 422, `{"message":"RLS policy error"}`}, // which SQL cannot be asked about
		{"u1", "authenticated", "headers", 403, `{"message":"Unauthorized"}`},
	} {
		got := r.rest("POST", privatePath(tt.topic, "e"), token(t, tt.user, tt.role, nil), `{}`)
		if got.status != tt.status || got.body != tt.body {
			t.Errorf("%s (%s) to %s: %d %s, want %d %s", tt.user, tt.role, tt.topic, got.status, got.body, tt.status, tt.body)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.public.Addr().String()+privatePath("headers", "e"), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "example.org"
	for name, value := range map[string]string{"X-Tag": "yes", "Content-Type": "application/json", "Authorization": "Bearer " + token(t, "u1", "authenticated", nil)} {
		request.Header.Set(name, value)
	}
	got, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	if got.StatusCode != http.StatusAccepted {
		t.Errorf("a policy on headers: %s", got.Status)
	}
	member.reply(member.push("", "phoenix", "heartbeat", map[string]any{}))
	r.exec(`select realtime.send('{}', 'fence', 'a')`)
	member.wait("the fence", broadcastOf("a", "fence"))
	if n := count(member, broadcastOf("a", "e")); n != 2 {
		t.Errorf("the member heard %d of the 2 that were accepted", n)
	}
}

// A right that is taken away is gone with the COMMIT, and one that is given is there; nothing is remembered in between.
func TestRESTRightsAreThoseOfTheMoment(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `select realtime.unwatch('members'); insert into members values ('u1', 'a')`)
	send := func(want int) {
		t.Helper()
		for path, body := range map[string]string{privatePath("a", "e"): `{}`, batchPath: batchOf(true, "a")} {
			if got := r.rest("POST", path, token(t, "u1", "authenticated", nil), body); got.status != want {
				t.Errorf("%s: %d %s, want %d", path, got.status, got.body, want)
			}
		}
	}
	for range 5 {
		send(202)
		r.exec(`update members set muted = true`)
		send(403)
		r.exec(`begin; update members set muted = false; rollback`)
		send(403)
		r.exec(`update members set muted = false`)
	}
}

// The audience is said in the query, or in a message of a batch. A payload is the user's.
func TestRESTPayloadDoesNotChooseTheAudience(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	tok := token(t, "u1", "authenticated", nil)
	in, out := r.dial(tok), r.dial(tok)
	for c, config := range map[*client]map[string]any{in: private(), out: {}} {
		if _, status, reason := c.join("a", config); status != "ok" {
			t.Fatal(reason)
		}
	}
	for path, body := range map[string]string{
		privatePath("a", "secret"):                    `{"private": false, "topic": "b"}`,
		"/api/broadcast/a/events/open":                `{"private": true}`,
		"/api/broadcast/a/events/open2?private=false": `{"private": "true"}`,
		batchPath:                   `{"private": true, "messages": [{"topic": "a", "event": "open3", "payload": {"private": true}}]}`,
		batchPath + "?private=true": `{"messages": [{"topic": "a", "event": "open4", "payload": {}}]}`,
		"/realtime/v1/api/broadcast?apikey=x&vsn=1.0.0&": `{"messages": [{"topic": "a", "event": "secret2", "payload": {"private": false}, "private": true}]}`,
	} {
		if got := r.rest("POST", path, tok, body); got.status != http.StatusAccepted {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	events := func(c *client, isPrivate bool) (heard []string) {
		r.exec(`select realtime.send('{}', 'fence', 'a', $1)`, isPrivate)
		c.wait("the fence", broadcastOf("a", "fence"))
		for _, f := range c.all() {
			var p struct{ Event string }
			if isEvent("a", "broadcast")(f) && json.Unmarshal(f.Payload, &p) == nil && p.Event != "fence" {
				heard = append(heard, p.Event)
			}
		}
		slices.Sort(heard)
		return heard
	}
	if diff := cmp.Diff([]string{"secret", "secret2"}, events(in, true)); diff != "" {
		t.Errorf("the private channel (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"open", "open2", "open3", "open4"}, events(out, false)); diff != "" {
		t.Errorf("the public channel (-want +got):\n%s", diff)
	}
}

// Of a batch everything is sent for which there is a right, in its order, and of the rest is said why not.
func TestRESTBatchTellsWhatWasRefused(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a'), ('u1', 'b');
		create policy raises on realtime.messages for insert to authenticated with check (realtime.topic() = 'zero' and 1 / (length(realtime.topic()) - 4) = 1)`)
	tok := token(t, "u1", "authenticated", nil)
	c := r.dial(tok)
	for _, topic := range []string{"a", "b"} {
		if _, status, reason := c.join(topic, private()); status != "ok" {
			t.Fatal(reason)
		}
	}
	topics := []string{"a", "b", "a", "c", "zero", "b", "a", "c"}
	for i := range 50 {
		topics = append(topics, "a", fmt.Sprint("other ", i))
	}
	messages := make([]map[string]any, len(topics))
	for i, topic := range topics {
		messages[i] = map[string]any{"topic": topic, "event": "e", "payload": map[string]any{"n": i}, "private": true}
	}
	messages = append(messages, map[string]any{"topic": "c", "event": "e", "payload": map[string]any{}})
	body, _ := json.Marshal(map[string]any{"messages": messages})
	before := metricstest.Value(t, r.metrics, "realtime_sends_refused_total", "SendDenied")
	got := r.rest("POST", batchPath, tok, string(body))
	var told struct {
		Message string
		Results []struct{ Status, Code, Message string }
	}
	if err := json.Unmarshal([]byte(got.body), &told); err != nil || got.status != http.StatusForbidden || len(told.Results) != len(messages) {
		t.Fatalf("%d %s", got.status, got.body)
	}
	want := map[string][]int{}
	refused := 0
	for i, result := range told.Results {
		topic, isPrivate := messages[i]["topic"].(string), messages[i]["private"] == true
		text := fmt.Sprintf("%s %s %s", result.Status, result.Code, result.Message)
		wanted := "refused SendDenied You do not have permissions to write to this Channel topic: " + topic
		switch {
		case topic == "a" || topic == "b":
			want[topic] = append(want[topic], i)
			wanted = "sent  "
		case !isPrivate:
			wanted = "sent  "
		case topic == "zero":
			wanted = "refused RlsPolicyError RLS policy error"
		}
		if wanted != "sent  " {
			refused++
		}
		if text != wanted {
			t.Errorf("message %d: %q, want %q", i, text, wanted)
		}
	}
	if wanted := strconv.Itoa(refused) + " of " + strconv.Itoa(len(messages)) + " messages were refused"; told.Message != wanted {
		t.Errorf("told %q, want %q", told.Message, wanted)
	}
	if n := metricstest.Value(t, r.metrics, "realtime_sends_refused_total", "SendDenied") - before; n != float64(refused-1) {
		t.Errorf("%v were counted, %d refused", n, refused)
	}
	r.exec(`select realtime.send('{}', 'fence', 'a'), realtime.send('{}', 'fence', 'b')`)
	for topic, numbered := range want {
		c.wait("the fence", broadcastOf(topic, "fence"))
		if diff := cmp.Diff(numbered, numbers(c, topic, "e")); diff != "" {
			t.Errorf("%s heard (-want +got):\n%s", topic, diff)
		}
	}
}

// Requests ask together: a batch has as few round trips as there can be, and so have many requests at a time. One after the
// other, they may ask as much as they like.
func TestRESTRequestsShareDecisions(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxRESTMessages = 0 })
	r.exec(allowMembers)
	topics := make([]string, 400)
	for i := range topics {
		topics[i] = fmt.Sprint("room ", i)
	}
	for range 3 {
		if got := r.rest("POST", batchPath, token(t, "u1", "authenticated", nil), batchOf(true, topics...)); got.status != http.StatusForbidden {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	var asked, trips float64
	families, err := r.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "realtime_decision_batch_requests" {
			asked, trips = family.Metric[0].Histogram.GetSampleSum(), float64(family.Metric[0].Histogram.GetSampleCount())
		}
	}
	if asked != 1200 || trips >= 600 {
		t.Errorf("%v questions in %v round trips", asked, trips)
	}
}

func TestRESTPrivateOnly(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.PrivateOnly = true })
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	tok := token(t, "u1", "authenticated", nil)
	const refused = `{"message":"This project only allows private channels"}`
	if got := r.rest("POST", "/api/broadcast/a/events/e", tok, "{}"); got.status != 403 || got.body != refused {
		t.Errorf("public: %d %s", got.status, got.body)
	}
	if got := r.rest("POST", privatePath("a", "e"), tok, "{}"); got.status != 202 {
		t.Errorf("private: %d %s", got.status, got.body)
	}
	got := r.rest("POST", batchPath, tok, batchOf(false, "a"))
	if got.status != 403 || got.header.Get("X-Error-Code") != "PrivateOnly" || !strings.Contains(got.body, `"results":[{"status":"refused","code":"PrivateOnly"`) {
		t.Errorf("batch: %d %s", got.status, got.body)
	}
}

// Who is present is told to those who may see it at this moment.
func TestRESTPresenceFollowsTheRightOfTheMoment(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.PrivateOnly = true })
	r.exec(presenceRights)
	r.grant("u1", "a/b", "sees appears")
	member := r.dial(token(t, "u1", "authenticated", nil))
	joinRef := member.joined("a/b", withPresence("ann", true))
	member.track(joinRef, "a/b", map[string]any{"n": 1})
	member.learns("a/b", "ann:1")
	ask := func(what, path string, status int, want string, more ...string) {
		t.Helper()
		got := r.rest("GET", path, token(t, "u2", "authenticated", nil), "", more...)
		if got.status != status || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s, want %d %s", what, got.status, got.body, status, want)
		}
		if status == 200 && (got.header.Get("Content-Type") != "application/json; charset=utf-8" || got.header.Get("Cache-Control") != "no-store") {
			t.Errorf("%s: %v", what, got.header)
		}
	}
	const path = "/realtime/v1/api/presence/a%2Fb"
	ask("no right", path+"?private=true", 403, `{"message":"Unauthorized"}`)
	r.grant("u2", "a/b", "hears speaks appears")
	ask("the right to broadcasts", path+"?private=true", 403, `{"message":"Unauthorized"}`)
	r.grant("u2", "a/b", "sees")
	ask("the right", path+"?private=true", 200, `{"ann":{"metas":[{`)
	ask("the right, from a page", path+"?private=true", 200, `{"ann":{"metas":[{`, "Origin: https://a.example")
	r.grant("u2", "a/b", "")
	ask("no right any more", path+"?private=true", 403, `{"message":"Unauthorized"}`)
	ask("the public room", path, 403, `{"message":"This project only allows private channels"}`)
	ask("perhaps private", path+"?private=yes", 422, `{"errors":{"private":["is invalid"]}}`)
	ask("a blank topic", "/api/presence/%20?private=true", 422, `{"errors":{"topic":["can't be blank"]}}`)
	if got := r.rest("GET", path+"?private=true", "", ""); got.status != 401 {
		t.Errorf("nobody: %d %s", got.status, got.body)
	}
	if n := metricstest.Value(t, r.metrics, "realtime_sends_refused_total", "Unauthorized"); n != 0 {
		t.Errorf("%v questions were counted as sends", n)
	}
}
