package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// withPresence is the config of a channel whose member is told who is present.
func withPresence(key string, isPrivate bool) map[string]any {
	c := private()
	c["private"], c["presence"] = isPrivate, map[string]any{"enabled": true, "key": key}
	return c
}

// inVersions runs a test in both wire versions on one server.
func inVersions(t *testing.T, change func(*Config), setUp string, play func(t *testing.T, r *running, room string, dial func(user string) *client)) {
	t.Helper()
	r := start(t, pgtest.New(t), change)
	if setUp != "" {
		r.exec(setUp)
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			r := &running{r.instance, t, r.db, r.stop}
			play(t, r, "room "+version, func(user string) *client {
				t.Helper()
				return r.dialVersion(version, token(t, user, "authenticated", nil))
			})
		})
	}
}

// joined joins a channel, which must work.
func (c *client) joined(room string, config map[string]any) (joinRef string) {
	c.t.Helper()
	joinRef, status, reason := c.join(room, config)
	if status != "ok" {
		c.t.Fatalf("join %s: %s", room, reason)
	}
	return joinRef
}

// presence sends a presence event, and gives its answer as status and response.
func (c *client) presence(joinRef, room, event string, payload any) string {
	c.t.Helper()
	push := map[string]any{"type": "presence", "event": event}
	if payload != nil {
		push["payload"] = payload
	}
	status, response := c.reply(c.push(joinRef, "realtime:"+room, "presence", push))
	return strings.TrimSuffix(status+" "+string(response), " {}")
}

// track is presence where the answer must be yes.
func (c *client) track(joinRef, room string, payload any) {
	c.t.Helper()
	if got := c.presence(joinRef, room, "track", payload); got != "ok" {
		c.t.Errorf("track: %s", got)
	}
}

type presences map[string]struct{ Metas []map[string]any }

type presenceDiff struct{ Joins, Leaves presences }

// knows gives who is present in a room as the client has been told so far: "key:n" for each meta, n being its own; "" for
// nobody, "-" if it has not been told.
func (c *client) knows(room string) string {
	c.t.Helper()
	known := "-"
	metas := map[string]string{} // by reference
	for _, f := range c.all() {
		var state presences
		var diff presenceDiff
		switch {
		case isEvent(room, "presence_state")(f):
			c.parse(f.Payload, &state)
			metas = map[string]string{}
			known = ""
		case isEvent(room, "presence_diff")(f):
			c.parse(f.Payload, &diff)
			if known == "-" {
				c.t.Fatalf("a diff before the state: %s", f.Payload)
			}
		}
		for _, joins := range []presences{state, diff.Joins} {
			for key, p := range joins {
				for _, meta := range p.Metas {
					metas[fmt.Sprint(meta["phx_ref"])] = fmt.Sprint(key, ":", meta["n"])
				}
			}
		}
		for _, p := range diff.Leaves {
			for _, meta := range p.Metas {
				delete(metas, fmt.Sprint(meta["phx_ref"]))
			}
		}
	}
	var all []string
	for _, meta := range metas {
		all = append(all, meta)
	}
	slices.Sort(all)
	return strings.TrimSpace(known + strings.Join(all, " "))
}

func (c *client) parse(payload json.RawMessage, into any) {
	if err := json.Unmarshal(payload, into); err != nil {
		c.t.Fatalf("%s: %v", payload, err)
	}
}

// learns waits until the client knows this of a room.
func (c *client) learns(room, want string) {
	c.t.Helper()
	matches := func(frame) bool { return c.knows(room) == want }
	if matches(frame{}) {
		return
	}
	c.wait("to know that "+want+" are present", matches)
}

// state waits for the first presence_state.
func (c *client) state(room string) frame {
	c.t.Helper()
	return c.wait("the state", isEvent(room, "presence_state"))
}

// nothing checks that no more is under way for the client in a room: its own broadcast comes back behind it.
func (c *client) nothing(joinRef, room string, more ...string) {
	c.t.Helper()
	event := fmt.Sprint("fence", len(c.all()))
	c.reply(c.push(joinRef, "realtime:"+room, "broadcast", map[string]any{"type": "broadcast", "event": event, "payload": map[string]any{}}))
	c.wait("the fence", broadcastOf(room, event))
	for _, f := range c.all() {
		if f.Topic == "realtime:"+room && slices.Contains(more, f.Event) {
			c.t.Errorf("heard %s %s", f.Event, f.Payload)
		}
	}
}

func TestPresenceStateComesAfterTheJoinWhereEnabled(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, "", func(t *testing.T, r *running, room string, dial func(string) *client) {
		c := dial("u1")
		joinRef := c.joined(room, withPresence("", false))
		state := c.state(room)
		reply := c.wait("the reply", func(f frame) bool { return f.Ref != nil && *f.Ref == joinRef })
		if string(state.Payload) != "{}" || state.Ref != nil || state.receivedAfter < reply.receivedAfter {
			t.Errorf("state %s with ref %v", state.Payload, state.Ref)
		}
		other := dial("u2")
		otherRef := other.joined(room, map[string]any{"broadcast": map[string]any{"self": true, "ack": true}})
		c.track(joinRef, room, map[string]any{"n": 1})
		var diff presenceDiff
		c.parse(c.wait("the diff", isEvent(room, "presence_diff")).Payload, &diff)
		for key := range diff.Joins { // nobody chose it
			if len(key) != len("00000000-0000-4000-8000-000000000000") {
				t.Errorf("key %s", key)
			}
		}
		other.nothing(otherRef, room, "presence_state", "presence_diff", "system")
	})
}

func TestTrackIsToldToAllAndToTheTracker(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, "", func(t *testing.T, r *running, room string, dial func(string) *client) {
		a, b := dial("u1"), dial("u2")
		refA, refB := a.joined(room, withPresence("ann", false)), b.joined(room, withPresence("7", false))
		a.state(room)
		b.state(room)
		a.track(refA, room, map[string]any{"n": 1, "phx_ref": "mine", "deep": map[string]any{"phx_ref": "kept"}})
		for _, c := range []*client{a, b} {
			var diff presenceDiff
			f := c.wait("the diff", isEvent(room, "presence_diff"))
			c.parse(f.Payload, &diff)
			metas := diff.Joins["ann"].Metas
			if len(diff.Leaves) > 0 || len(metas) != 1 || metas[0]["n"] != 1.0 || len(fmt.Sprint(metas[0]["phx_ref"])) != 16 ||
				strings.Count(string(f.Payload), "phx_ref") != 2 || f.Ref != nil || f.JoinRef != nil {
				t.Errorf("told %s", f.Payload)
			}
		}
		// An update is one diff, with the new and the old.
		a.track(refA, room, map[string]any{"n": 2})
		b.learns(room, "ann:2")
		var first, update presenceDiff
		b.parse(b.wait("the diff", isEvent(room, "presence_diff")).Payload, &first)
		b.parse(b.wait("the update", func(f frame) bool {
			return isEvent(room, "presence_diff")(f) && strings.Contains(string(f.Payload), "phx_ref_prev")
		}).Payload, &update)
		old, now := first.Joins["ann"].Metas[0]["phx_ref"], update.Joins["ann"].Metas[0]
		if update.Leaves["ann"].Metas[0]["phx_ref"] != old || now["phx_ref_prev"] != old || now["phx_ref"] == old {
			t.Errorf("update %v after %v", update, first)
		}
		// Several under one key; who comes later is told of all in the state.
		b.track(refB, room, map[string]any{"n": 3})
		c := dial("u3")
		refC := c.joined(room, withPresence("ann", false))
		c.track(refC, room, map[string]any{"n": 4})
		for _, c := range []*client{a, b, c} {
			c.learns(room, "7:3 ann:2 ann:4")
		}
	})
}

func TestTrackWithPresenceDisabledSwitchesItOn(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, allowMembers+`insert into members select u, r from unnest(array['u1','u2']) u, unnest(array['room 1.0.0','room 2.0.0']) r`,
		func(t *testing.T, r *running, room string, dial func(string) *client) {
			for _, isPrivate := range []bool{false, true} {
				a, b := dial("u1"), dial("u2")
				refA := a.joined(room, withPresence("ann", isPrivate))
				a.track(refA, room, map[string]any{"n": 1})
				a.learns(room, "ann:1")
				config := private()
				config["private"], config["presence"] = isPrivate, map[string]any{"enabled": false, "key": "bob"}
				refB := b.joined(room, config)
				b.nothing(refB, room, "presence_state", "presence_diff")
				b.track(refB, room, map[string]any{"n": 2})
				b.learns(room, "ann:1 bob:2")
				a.learns(room, "ann:1 bob:2")
				if state := b.state(room); !strings.Contains(string(state.Payload), "ann") || strings.Contains(string(state.Payload), "bob") {
					t.Errorf("private %v: before itself it is told %s", isPrivate, state.Payload)
				}
				if n := count(b, isEvent(room, "presence_state")); n != 1 {
					t.Errorf("%d states", n)
				}
				a.conn.CloseNow()
				b.learns(room, "bob:2")
			}
		})
}

func TestTheSameTrackedTwiceIsToldOnce(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, "", func(t *testing.T, r *running, room string, dial func(string) *client) {
		c := dial("u1")
		joinRef := c.joined(room, withPresence("ann", false))
		c.state(room)
		diffs := func() int { return count(c, isEvent(room, "presence_diff")) }
		for range 3 {
			c.track(joinRef, room, map[string]any{"n": 1})
		}
		c.learns(room, "ann:1")
		if got := c.presence(joinRef, room, "UNTRACK", nil); got != "ok" {
			t.Error(got)
		}
		c.learns(room, "")
		if n := diffs(); n != 2 {
			t.Errorf("%d diffs", n)
		}
		if got := c.presence(joinRef, room, "Track", map[string]any{"n": 1}); got != "ok" {
			t.Error(got)
		}
		c.learns(room, "ann:1")
		if n := diffs(); n != 3 {
			t.Errorf("%d diffs", n)
		}
	})
}

func TestPresenceEventsThatCannotBeFollowed(t *testing.T) {
	t.Parallel()
	inVersions(t, func(c *Config) { c.MaxPayloadBytes, c.MaxPresenceStateBytes = 20_000, 15_000 }, "",
		func(t *testing.T, r *running, room string, dial func(string) *client) {
			c := dial("u1")
			joinRef := c.joined(room, withPresence("ann", false))
			const notAMap = `error {"reason":"Presence track payload must be a map"}`
			for _, tt := range []struct {
				event   string
				payload any
				want    string
			}{
				{"track", []int{1}, notAMap}, {"track", "x", notAMap}, {"track", json.RawMessage("null"), notAMap},
				{"", nil, `error {"reason":"UnknownPresenceEvent: A presence event must be track or untrack"}`},
				{"update", map[string]any{}, `error {"reason":"UnknownPresenceEvent: A presence event must be track or untrack"}`},
				{"track", map[string]any{"x": strings.Repeat("x", 20_000)}, `error {"reason":"TrackTooLarge: Track message size exceeded"}`},
				{"track", map[string]any{"x": strings.Repeat("x", 15_000)}, `error {"reason":"PresenceFull: The presence of this Channel topic holds as much as it may: ` + room + `"}`},
				{"untrack", nil, "ok"}, {"track", nil, "ok"},
			} {
				if got := c.presence(joinRef, room, tt.event, tt.payload); got != tt.want {
					t.Errorf("%s %.50v: %.200s, want %s", tt.event, tt.payload, got, tt.want)
				}
			}
			// A missing event is answered, and means nothing.
			for _, payload := range []any{map[string]any{}, map[string]any{"event": nil, "payload": 1}} {
				if status, response := c.reply(c.push(joinRef, "realtime:"+room, "presence", payload)); status != "ok" {
					t.Errorf("%v: %s", payload, response)
				}
			}
			c.learns(room, "ann:<nil>")
			c.nothing(joinRef, room, "phx_close", "phx_error", "system")
		})
}

func TestTooManyPresenceEventsAreRefusedAndNotTheChannelClosed(t *testing.T) {
	t.Parallel()
	inVersions(t, func(c *Config) { c.MaxPresenceEventsPerSecond = 5 }, "",
		func(t *testing.T, r *running, room string, dial func(string) *client) {
			c := dial("u1")
			joinRef := c.joined(room, withPresence("ann", false))
			refused, last := 0, 0
			for n := range 30 {
				switch got := c.presence(joinRef, room, "track", map[string]any{"n": n}); got {
				case "ok":
					last = n
				case `error {"reason":"ClientPresenceRateLimitReached: Client presence rate limit exceeded"}`:
					refused++
				default:
					t.Fatal(got)
				}
			}
			if refused == 0 || refused > 25 {
				t.Errorf("%d of 30 refused", refused)
			}
			c.learns(room, fmt.Sprint("ann:", last))
			c.nothing(joinRef, room, "phx_close", "phx_error", "system")
		})
}

func TestPresenceOfStaleAndMissingJoinRefsIsAnswered(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, "", func(t *testing.T, r *running, room string, dial func(string) *client) {
		c := dial("u1")
		c.joined(room, withPresence("ann", false))
		for n, joinRef := range []string{"", "99"} {
			c.track(joinRef, room, map[string]any{"n": n})
			c.learns(room, fmt.Sprint("ann:", n))
		}
		if got := c.presence("", "nowhere", "track", nil); got != `error {"reason":"unmatched topic"}` {
			t.Error(got)
		}
	})
}
