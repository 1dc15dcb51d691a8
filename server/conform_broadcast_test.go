package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// What members of either version are given, by where a message comes from: the very frames.
func TestFramesByOrigin(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'room')`)
	const topic = "realtime:room"
	text := func(payload string) (v1, v2 string) {
		return `{"event":"broadcast","payload":` + payload + `,"ref":null,"topic":"` + topic + `"}`, `[null,null,"` + topic + `","broadcast",` + payload + `]`
	}
	binary := func(event, meta string, encoding byte, payload string) string {
		return fmt.Sprintf("%q", string([]byte{4, byte(len(topic)), byte(len(event)), byte(len(meta)), encoding})+topic+event+meta+payload)
	}
	for _, isPrivate := range []bool{false, true} {
		h := r.listenAs("u1", "room", isPrivate)
		first, second := r.dialVersion("1.0.0", token(t, "u1", "authenticated", nil)), r.dialVersion("2.0.0", token(t, "u1", "authenticated", nil))
		refs := map[*client]string{}
		for _, c := range []*client{first, second} {
			joinRef, status, reason := c.join("room", map[string]any{"private": isPrivate, "broadcast": map[string]any{"ack": true}})
			if status != "ok" {
				t.Fatal(reason)
			}
			refs[c] = joinRef
		}
		push := func(c *client, frame string) {
			t.Helper()
			kind := websocket.MessageText
			if frame[0] == 3 {
				kind = websocket.MessageBinary
			}
			if err := c.conn.Write(t.Context(), kind, []byte(frame)); err != nil {
				t.Fatal(err)
			}
			if status, response := c.reply("r"); status != "ok" {
				t.Fatalf("%q: %s", frame, response)
			}
			c.mu.Lock()
			c.frames = nil // the next reply has the same ref
			c.mu.Unlock()
		}

		// A push as text is relayed as it is, whatever it holds, to the space.
		const odd = `{"type":"broadcast", "event":"e","payload":{"n": 1.0,"ä":"\u00e4"},"more":[ ],"payload2":null}`
		v1, v2 := text(odd)
		push(first, `{"join_ref":"`+refs[first]+`","ref":"r","topic":"`+topic+`","event":"broadcast","payload":`+odd+`}`)
		h.v1.hear("text of version 1", v1)
		h.v2.hear("text of version 1", v2)
		push(second, `["`+refs[second]+`","r","`+topic+`","broadcast",`+odd+`]`)
		h.v1.hear("text of version 2", v1)
		h.v2.hear("text of version 2", v2)

		push(second, pushFrame(refs[second], "r", topic, "cur", "", 1, `{"x": 1}`))
		v1, _ = text(`{"event":"cur","payload":{"x": 1},"type":"broadcast"}`)
		h.v1.hear("JSON in a binary frame", v1)
		h.v2.hear("JSON in a binary frame", binary("cur", "", 1, `{"x": 1}`))

		push(second, pushFrame(refs[second], "r", topic, "bin", `{"client":"says"}`, 0, "\xde\xad\x00"))
		h.v1.hear("bytes", `{"event":"system","payload":{"extension":"broadcast","status":"error","message":"`+protocol.BinaryNotSupported.Reason()+
			`","channel":"room"},"ref":null,"topic":"`+topic+`"}`)
		h.v2.hear("bytes", binary("bin", "", 0, "\xde\xad\x00"))

		// Rows of another extension are of nobody's business: who may only say that he is here could broadcast by them.
		r.exec(`insert into realtime.messages (topic, extension, event, payload, private) values ('room', 'presence', 'row', '{}', $1)`, isPrivate)
		var id string
		r.exec(`select realtime.send('{"a": 1}', 'json', 'room', $1)`, isPrivate)
		id = r.lastRow()
		v1, _ = text(`{"event":"json","payload":{"a": 1, "id": "` + id + `"},"type":"broadcast","meta":{"id":"` + id + `"}}`)
		h.v1.hear("JSON of the database", v1)
		h.v2.hear("JSON of the database", binary("json", `{"id":"`+id+`"}`, 1, `{"a": 1, "id": "`+id+`"}`))

		r.exec(`select realtime.send('{"id": "mine"}', 'named', 'room', $1)`, isPrivate)
		id = r.lastRow()
		v1, _ = text(`{"event":"named","payload":{"id": "mine"},"type":"broadcast","meta":{"id":"` + id + `"}}`)
		h.v1.hear("JSON of the database with an id", v1)
		h.v2.hear("JSON of the database with an id", binary("named", `{"id":"`+id+`"}`, 1, `{"id": "mine"}`))

		r.exec(`insert into realtime.messages (topic, extension, event, payload, private) values ('room', 'broadcast', 'row', '[1]', $1)`, isPrivate)
		id = r.lastRow()
		v1, _ = text(`{"event":"row","payload":[1],"type":"broadcast","meta":{"id":"` + id + `"}}`)
		h.v1.hear("a row", v1)
		h.v2.hear("a row", binary("row", `{"id":"`+id+`"}`, 1, `[1]`))

		r.exec(`select realtime.send_binary('\x00ff', 'bytes', 'room', $1)`, isPrivate)
		h.v2.hear("bytes of the database", binary("bytes", `{"id":"`+r.lastRow()+`"}`, 0, "\x00\xff"))
	}
}

// lastRow is the id of the newest message.
func (r *running) lastRow() string {
	r.t.Helper()
	return scalar[string](r.t, r.db, `select id from realtime.messages order by inserted_at desc limit 1`)
}

// What a sender gets for a broadcast: an answer where it asked for one, or where it is refused, and its own copy where it
// wants that.
func TestAnswersToSenders(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxPayloadBytes = 1000 })
	r.exec(allowMembers + `insert into members (user_id, room, muted) values ('u1', 'a', false), ('mute', 'a', true)`)
	for _, version := range versions {
		for _, tt := range []struct {
			name, user, topic   string
			isPrivate, ack, own bool
			payload             any
			status, response    string // of the reply; empty: none
			system              string // what is said beside it
			arrives             bool
		}{
			{name: "asked for nothing", user: "u1", topic: "open", payload: message, arrives: true},
			{name: "asked for an answer", user: "u1", topic: "open", ack: true, payload: message, status: "ok", response: `{}`, arrives: true},
			{name: "asked for its own", user: "u1", topic: "open", ack: true, own: true, payload: message, status: "ok", response: `{}`, arrives: true},
			{name: "in private", user: "u1", topic: "a", isPrivate: true, ack: true, own: true, payload: message, status: "ok", response: `{}`, arrives: true},
			{name: "too large", user: "u1", topic: "open", ack: true, payload: map[string]any{"x": strings.Repeat("x", 1000)}, status: "error", response: `"payload_size_exceeded"`},
			{name: "no object", user: "u1", topic: "open", ack: true, payload: []int{1}, status: "error",
				response: `{"reason":"InvalidBroadcast: The payload of a broadcast must be an object"}`},
			// Where Supabase Realtime says nothing, so that the client's send times out.
			{name: "without the right", user: "mute", topic: "a", isPrivate: true, ack: true, payload: message, status: "error",
				response: `{"reason":"SendDenied: You do not have permissions to write to this Channel topic: a"}`},
			{name: "without the right, asked for nothing", user: "mute", topic: "a", isPrivate: true, payload: message, status: "error",
				response: `{"reason":"SendDenied: You do not have permissions to write to this Channel topic: a"}`, system: "SendDenied: You do not have permissions to write to this Channel topic: a"},
		} {
			sender, member := r.dialVersion(version, token(t, tt.user, "authenticated", nil)), r.dialVersion(version, token(t, "u1", "authenticated", nil))
			joinRef, status, reason := sender.join(tt.topic, map[string]any{"private": tt.isPrivate, "broadcast": map[string]any{"ack": tt.ack, "self": tt.own}})
			if status != "ok" {
				t.Fatal(reason)
			}
			if _, status, reason := member.join(tt.topic, map[string]any{"private": tt.isPrivate}); status != "ok" {
				t.Fatal(reason)
			}
			ref := sender.push(joinRef, "realtime:"+tt.topic, "broadcast", tt.payload)
			beat := sender.push("", "phoenix", "heartbeat", map[string]any{})
			sender.reply(beat)
			replies := count(sender, func(f frame) bool { return f.Event == "phx_reply" && text(f.Ref) == ref })
			if tt.status == "" && replies != 0 {
				t.Errorf("%s, %s: answered: %s", version, tt.name, sender.said())
			}
			if tt.status != "" {
				if status, response := sender.reply(ref); status != tt.status || string(response) != tt.response {
					t.Errorf("%s, %s: %s %s", version, tt.name, status, response)
				}
			}
			if tt.system != "" {
				if said := sender.told(tt.topic); said != tt.system {
					t.Errorf("%s, %s: told %q", version, tt.name, said)
				}
			}
			r.exec(`select realtime.send('{}', 'end', $1, $2)`, tt.topic, tt.isPrivate)
			for c, hears := range map[*client]bool{sender: tt.arrives && tt.own, member: tt.arrives} {
				c.wait("the end", broadcastOf(tt.topic, "end"))
				if n := count(c, broadcastOf(tt.topic, "e")); n != map[bool]int{true: 1}[hears] {
					t.Errorf("%s, %s: heard it %d times: %s", version, tt.name, n, c.said())
				}
			}
		}
	}
}

// A private and a public room of one name are two, also where a name looks like a way into the other.
func TestPrivateIsNotSeenThroughPublic(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'room')`)
	for _, version := range versions {
		tok := token(t, "u1", "authenticated", nil)
		member, spy := r.dialVersion(version, tok), r.dialVersion(version, token(t, "stranger", "anon", nil))
		joinRef, _, _ := member.join("room", private())
		names := []string{"room", "private:room", "room:private", "realtime:room", "private-room"}
		for _, name := range names {
			if _, status, reason := spy.join(name, nil); status != "ok" {
				t.Fatal(reason)
			}
		}
		member.reply(member.broadcast(joinRef, "room"))
		r.exec(`select realtime.send('{}', 'row', 'room')`)
		for _, name := range names {
			r.exec(`select realtime.send('{}', 'end', $1, false)`, name)
			spy.wait("the end", broadcastOf(name, "end"))
		}
		if n := count(spy, func(f frame) bool { return f.Event == "broadcast" }); n != len(names) {
			t.Errorf("%s: the spy heard %s", version, spy.said())
		}
		member.wait("its own", broadcastOf("room", "e"))
	}
}

// Public channels are joined and used while the database is a black hole.
func TestPublicChannelsNeedNoDatabase(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	network, db := pgtest.NewProxy(t, cluster), cluster.DB(t)
	r := start(t, db, func(c *Config) {
		c.DatabaseURL = network.Through(db.URL)
		c.ListenDatabaseURL = c.DatabaseURL
	})
	network.Freeze()
	defer network.Thaw()
	r.await("the silence to be noticed", func() bool { return !r.feed.Hearing() })
	for _, version := range versions {
		c := r.dialVersion(version, token(t, "u1", "authenticated", nil))
		joinRef, status, reason := c.join("open", map[string]any{"broadcast": map[string]any{"ack": true, "self": true}, "presence": map[string]any{"enabled": true}})
		if status != "ok" {
			t.Fatal(reason)
		}
		track := map[string]any{"type": "presence", "event": "track", "payload": map[string]any{}}
		for _, ref := range []string{c.broadcast(joinRef, "open"), c.push(joinRef, "realtime:open", "presence", track)} {
			if status, response := c.reply(ref); status != "ok" {
				t.Errorf("%s: %s", version, response)
			}
		}
		c.push(joinRef, "realtime:open", "access_token", map[string]any{"access_token": token(t, "u2", "anon", nil)})
		c.wait("its own", broadcastOf("open", "e"))
		if status, _ := c.reply(c.broadcast(joinRef, "open")); status != "ok" || count(c, isEvent("open", "phx_close")) != 0 {
			t.Errorf("%s: with a new token: %s", version, c.said())
		}
	}
}
