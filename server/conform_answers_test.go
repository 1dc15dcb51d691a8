package main

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rowcast/server/pgtest"
)

// maxPayload is as large as a message may be here: larger ones take time to send, and it is not about that.
const maxPayload = 100_000

// answerTime bounds how long a client is let wait for anything. The official one gives up after ten seconds, and then can
// only report "timed out".
const answerTime = 9 * time.Second

// No push of any client, whatever is the matter, is left without an answer: a reply or, at worst, the end of the socket.
func TestEveryPushIsAnswered(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, 5) // at a time, or their clients would wait for each other
	for _, s := range situations { // not with t.Parallel: most of their time they wait, and so keep other tests from running
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			t.Run(s.name, func(t *testing.T) {
				w := newWorld(t, s)
				if s.trouble != nil {
					defer s.trouble(w)()
				}
				var waiting sync.WaitGroup
				for _, m := range w.members {
					waiting.Go(func() {
						if !m.attempt.answered(m) {
							t.Errorf("%s, %s: no answer within %s; heard %s", m.attempt.name, m.version, answerTime, m.said())
						}
					})
				}
				waiting.Wait()
			})
		})
	}
}

// world is a server with a client for each thing that can be tried.
type world struct {
	*outages
	t       *testing.T
	cluster *pgtest.Cluster // and the way to it, if it is the server's own
	network *pgtest.Proxy
	members []*member
}

// member has joined a private and a public channel, and makes one attempt.
type member struct {
	*client
	attempt       attempt
	user, address string
	private, open string // join refs
}

// newWorld starts a server, and has everybody join before anything is the matter.
func newWorld(t *testing.T, s situation) *world {
	t.Helper()
	w := &world{t: t}
	settings := func(c *Config) {
		c.MaxPayloadBytes = maxPayload
		if s.settings != nil {
			s.settings(c)
		}
	}
	if s.cluster {
		w.cluster = pgtest.NewCluster(t, pgtest.Options{})
		w.network = pgtest.NewProxy(t, w.cluster)
		db := w.cluster.DB(t)
		w.outages = &outages{running: start(t, db, func(c *Config) {
			c.DatabaseURL = w.network.Through(db.URL)
			c.ListenDatabaseURL = c.DatabaseURL
			settings(c)
		})}
	} else {
		w.outages = startWithOutages(t, settings)
	}
	w.exec(allowMembers + `
		create function not_everywhere(topic text) returns boolean language plpgsql stable as $$ begin
			case topic
				when 'raises' then raise 'no policy for this';
				when 'slow' then perform pg_sleep(30);
				else null;
			end case;
			return true;
		end $$;
		create policy trouble on realtime.messages as restrictive for select to authenticated using (not_everywhere((select realtime.topic())));
		create policy send_trouble on realtime.messages as restrictive for insert to authenticated with check (
			(select realtime.topic()) not like '% on send' or not_everywhere(split_part((select realtime.topic()), ' ', 1)));
		insert into members (user_id, room) select user_id, room from unnest(array['u', 'mute']) as user_id,
			unnest(array['a', 'b', 'raises', 'slow', 'raises on send', 'slow on send']) as room;
		update members set muted = true where user_id = 'mute'`)
	for i, a := range slices.Concat(attempts, requests) {
		version := versions[(i+len(s.name))%2] // by turns: what is the matter has nothing to do with it
		if a.binary || a.request != nil {
			version = "2.0.0"
		}
		m := &member{attempt: a, user: cmp.Or(a.user, "u"), address: w.public.Addr().String()}
		m.client = w.dialVersion(version, token(t, m.user, "authenticated", nil))
		for name, config := range map[string]map[string]any{"a": private(), "open": {"broadcast": map[string]any{"ack": true}}} {
			joinRef, status, reason := m.join(name, config)
			if status != "ok" {
				t.Fatalf("%s joins %s: %s", m.user, name, reason)
			}
			if name == "a" {
				m.private = joinRef
			} else {
				m.open = joinRef
			}
		}
		w.members = append(w.members, m)
	}
	return w
}

// answered waits for the reply to a push. That its channel is closed is no answer: the official client goes on waiting. The
// end of the socket is.
func (m *member) answered(ref string) bool {
	for deadline := time.After(answerTime); ; {
		m.mu.Lock()
		frames, change, err := m.frames, m.change, m.err
		m.mu.Unlock()
		for _, f := range frames {
			if f.Event == "phx_reply" && f.Ref != nil && *f.Ref == ref {
				return true
			}
		}
		if err != nil {
			return true
		}
		select {
		case <-change:
		case <-deadline:
			return false
		}
	}
}

// attempt is something that a client can try: a push, of which it gives the ref, or a request over REST.
type attempt struct {
	name    string
	push    func(*member) (ref string)
	request func(*member) *http.Request
	user    string // who is not u
	binary  bool   // of version 2.0.0 alone
}

// answered makes the attempt and waits.
func (a attempt) answered(m *member) bool {
	if a.request == nil {
		return m.answered(a.push(m))
	}
	response, err := (&http.Client{Timeout: answerTime}).Do(a.request(m))
	if err != nil {
		return !os.IsTimeout(err) // refused by a server that stops
	}
	return response.Body.Close() == nil
}

// ackless asks for no answers.
func ackless(isPrivate bool) map[string]any { return map[string]any{"private": isPrivate} }

var message = map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}

var attempts = []attempt{
	{name: "heartbeat", push: func(m *member) string { return m.push("", "phoenix", "heartbeat", map[string]any{}) }},

	{name: "private join", push: joining("b", private())},
	{name: "private join without a right", push: joining("elsewhere", private())},
	{name: "private join where a policy raises", push: joining("raises", private())},
	{name: "private join where a policy is slow", push: joining("slow", private())},
	{name: "private join with presence", push: joining("b", map[string]any{"private": true, "presence": map[string]any{"enabled": true, "key": "k"}})},
	{name: "private join with replay", push: joining("b", map[string]any{"private": true, "broadcast": map[string]any{"replay": map[string]any{"since": 0, "limit": 5}}})},
	{name: "private join with replay that is none", push: joining("b", map[string]any{"private": true, "broadcast": map[string]any{"replay": 1}})},
	{name: "private join once more", push: joining("a", private())},
	{name: "private join twice", push: func(m *member) string {
		first := joining("b", private())(m)
		second := joining("b", private())(m)
		if !m.answered(first) {
			return first
		}
		return second
	}},
	{name: "private join and leave", push: func(m *member) string {
		joinRef := joining("b", private())(m)
		leave := m.push(joinRef, "realtime:b", "phx_leave", map[string]any{})
		if !m.answered(joinRef) {
			return joinRef
		}
		return leave
	}},
	{name: "public join", push: joining("b", ackless(false))},
	{name: "public join with presence", push: joining("b", map[string]any{"presence": map[string]any{"enabled": true}})},
	{name: "public join with replay", push: joining("b", map[string]any{"broadcast": map[string]any{"replay": map[string]any{"since": 0}}})},
	{name: "public join of a private channel's name", push: joining("a", ackless(false))},
	{name: "join with changes of tables", push: joining("b", map[string]any{"postgres_changes": []any{map[string]any{"event": "*", "schema": "public"}}})},
	{name: "join with a setting of the wrong type", push: joining("b", map[string]any{"private": "maybe"})},
	{name: "join without a payload", push: func(m *member) string { return m.push("", "realtime:b", "phx_join", nil) }},
	{name: "join without a topic", push: joining("", private())},
	{name: "join with an expired token", push: joiningWith(func() string { return signed(`{"alg":"HS256"}`, `{"role":"authenticated","exp":1}`) })},
	{name: "join with a token of an unknown key", push: joiningWith(ofUnknownKey)},
	{name: "join with something else than a token", push: joiningWith(func() string { return "x" })},

	{name: "private broadcast", push: sending("a", message)},
	{name: "private broadcast without a right", user: "mute", push: sending("a", message)},
	{name: "private broadcast where a policy raises", push: func(m *member) string {
		joinRef := joining("raises on send", private())(m)
		if !m.answered(joinRef) {
			return joinRef
		}
		return m.push(joinRef, "realtime:raises on send", "broadcast", message)
	}},
	{name: "public broadcast", push: sending("open", message)},
	{name: "broadcast of bytes", binary: true, push: func(m *member) string {
		m.writeBytes(pushFrame(m.private, "bytes", "realtime:a", "e", "", 0, "\x00\xff"))
		return "bytes"
	}},
	{name: "broadcast of bytes that are no JSON", binary: true, push: func(m *member) string {
		m.writeBytes(pushFrame(m.private, "bytes", "realtime:a", "e", "", 1, "\x00\xff"))
		return "bytes"
	}},
	{name: "broadcast that is too large", push: sending("a", map[string]any{"payload": strings.Repeat("x", maxPayload)})},
	{name: "broadcast of a list", push: sending("a", []int{1})},
	{name: "broadcast of nothing", push: sending("a", nil)},
	{name: "broadcast on a topic not joined", push: sending("elsewhere", message)},
	{name: "broadcast of an older join", push: func(m *member) string {
		m.private = "0"
		return sending("a", message)(m)
	}},

	{name: "track", push: tracking("a", map[string]any{"type": "presence", "event": "track", "payload": map[string]any{"x": 1}})},
	{name: "track without a right", user: "mute", push: tracking("a", map[string]any{"type": "presence", "event": "track", "payload": map[string]any{"x": 1}})},
	{name: "track of a list", push: tracking("a", map[string]any{"type": "presence", "event": "track", "payload": []int{1}})},
	{name: "track in public", push: tracking("open", map[string]any{"type": "presence", "event": "track", "payload": map[string]any{"x": 1}})},
	{name: "untrack", push: tracking("a", map[string]any{"type": "presence", "event": "untrack"})},
	{name: "unknown presence event", push: tracking("a", map[string]any{"type": "presence", "event": "else"})},
	{name: "presence event of the wrong type", push: tracking("a", map[string]any{"type": "presence", "event": 1})},
	{name: "presence of nothing", push: tracking("a", nil)},
	{name: "track on a topic not joined", push: tracking("elsewhere", map[string]any{"type": "presence", "event": "track", "payload": map[string]any{}})},

	// A new token is answered by nothing unless it is refused; what must not wait is what comes behind it.
	{name: "another token", push: refreshing(func(m *member) any { return token(m.t, m.user, "authenticated", map[string]any{"n": 1}) })},
	{name: "the token of somebody without a right", push: refreshing(func(m *member) any { return token(m.t, "stranger", "authenticated", nil) })},
	{name: "an expired token", push: refreshing(func(*member) any { return signed(`{"alg":"HS256"}`, `{"role":"authenticated","exp":1}`) })},
	{name: "a token of an unknown key", push: refreshing(func(*member) any { return ofUnknownKey() })},
	{name: "no token", push: refreshing(func(*member) any { return nil })},
	{name: "a token that is none", push: refreshing(func(*member) any { return 1 })},

	{name: "leave", push: func(m *member) string { return m.push(m.private, "realtime:a", "phx_leave", map[string]any{}) }},
	{name: "leave of a topic not joined", push: func(m *member) string { return m.push("0", "realtime:elsewhere", "phx_leave", map[string]any{}) }},
	{name: "broadcast and leave", push: func(m *member) string {
		sent := sending("a", message)(m)
		left := m.push(m.private, "realtime:a", "phx_leave", map[string]any{})
		if !m.answered(left) {
			return left
		}
		return sent
	}},
	{name: "broadcast and join once more", push: func(m *member) string {
		sent := sending("a", message)(m)
		joined := joining("a", private())(m)
		if !m.answered(joined) {
			return joined
		}
		return sent
	}},
	{name: "unknown event", push: func(m *member) string { return m.push(m.private, "realtime:a", "else", map[string]any{}) }},
	{name: "unknown event on a topic not joined", push: func(m *member) string { return m.push("", "elsewhere", "else", map[string]any{}) }},
}

// requests are attempts over REST.
var requests = []attempt{
	{name: "batch", request: posting("/api/broadcast", batchOf(false, "open", "open"))},
	{name: "private batch", request: posting("/api/broadcast", batchOf(true, "a", "b"))},
	{name: "private batch without a right", request: posting("/api/broadcast", batchOf(true, "elsewhere", "a"))},
	{name: "batch that is none", request: posting("/api/broadcast", "[]")},
	{name: "one message", request: posting("/api/broadcast/open/events/e", "{}")},
	{name: "one private message", request: posting("/api/broadcast/a/events/e?private=true", "{}")},
	{name: "one private message without a right", user: "mute", request: posting("/api/broadcast/a/events/e?private=true", "{}")},
	{name: "one private message where a policy raises", request: posting("/api/broadcast/raises%20on%20send/events/e?private=true", "{}")},
	{name: "one private message where a policy is slow", request: posting("/api/broadcast/slow%20on%20send/events/e?private=true", "{}")},
	{name: "one message that is no JSON", request: posting("/api/broadcast/open/events/e", "{")},
	{name: "one message that is too large", request: posting("/api/broadcast/open/events/e", `"`+strings.Repeat("x", maxPayload)+`"`)},
	{name: "one message without a topic", request: posting("/api/broadcast//events/e", "{}")},
	{name: "who is here", request: requesting("GET", "/api/presence/a", "")},
	{name: "who is here, without a right", request: requesting("GET", "/api/presence/elsewhere", "")},
	{name: "a page that asks whether it may", request: requesting("OPTIONS", "/api/broadcast", "")},
}

func posting(path, body string) func(*member) *http.Request { return requesting("POST", path, body) }

func requesting(method, path, body string) func(*member) *http.Request {
	return func(m *member) *http.Request {
		r := httptest.NewRequestWithContext(m.t.Context(), method, "http://"+m.address+path, strings.NewReader(body))
		r.RequestURI = "" // which is for servers
		r.Header.Set("Authorization", "Bearer "+token(m.t, m.user, "authenticated", nil))
		r.Header.Set("Content-Type", "application/json")
		return r
	}
}

func ofUnknownKey() string {
	return signed(`{"alg":"RS256","kid":"unknown"}`, `{"role":"authenticated","exp":4000000000}`)
}

func joining(topic string, config map[string]any) func(*member) string {
	return func(m *member) string {
		return m.push("", "realtime:"+topic, "phx_join", map[string]any{"config": config})
	}
}

func joiningWith(token func() string) func(*member) string {
	return func(m *member) string {
		return m.push("", "realtime:b", "phx_join", map[string]any{"config": private(), "access_token": token()})
	}
}

func sending(topic string, payload any) func(*member) string {
	return func(m *member) string { return m.push(m.joined(topic), "realtime:"+topic, "broadcast", payload) }
}

func tracking(topic string, payload any) func(*member) string {
	return func(m *member) string { return m.push(m.joined(topic), "realtime:"+topic, "presence", payload) }
}

func refreshing(token func(*member) any) func(*member) string {
	return func(m *member) string {
		m.push(m.private, "realtime:a", "access_token", map[string]any{"access_token": token(m)})
		beat := m.push("", "phoenix", "heartbeat", map[string]any{})
		if !m.answered(beat) {
			return beat
		}
		return sending("a", message)(m)
	}
}

// joined is the join ref of a topic.
func (m *member) joined(topic string) string {
	if topic == "open" {
		return m.open
	}
	return m.private
}
