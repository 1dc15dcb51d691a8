package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rowcast/server/hub"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// However a channel ends, others are told that its member is gone.
func TestEveryEndOfAChannelEndsPresence(t *testing.T) {
	t.Parallel()
	ends := map[string]func(r *running, c *client, room, joinRef string){
		"leave": func(_ *running, c *client, room, joinRef string) {
			c.reply(c.push(joinRef, "realtime:"+room, "phx_leave", map[string]any{}))
		},
		"dropped socket": func(_ *running, c *client, _, _ string) { c.conn.CloseNow() },
		"another join":   func(_ *running, c *client, room, _ string) { c.joined(room, private()) },
		"refused rejoin": func(_ *running, c *client, room, _ string) { c.join(room, map[string]any{"private": "x"}) },
		"revoked reading": func(r *running, _ *client, room, _ string) {
			r.exec(`delete from rights where user_id = 'u1' and room = $1`, room)
		},
		"bad token": func(_ *running, c *client, room, joinRef string) {
			c.push(joinRef, "realtime:"+room, "access_token", map[string]any{"access_token": "x"})
		},
		"expired token": func(r *running, c *client, room, joinRef string) {
			expires := map[string]any{"exp": time.Now().Add(2 * time.Second).Unix()}
			c.push(joinRef, "realtime:"+room, "access_token", map[string]any{"access_token": token(r.t, "u1", "authenticated", expires)})
		},
	}
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, version string, dial func(string) *client) {
		for name, end := range ends {
			room := name + " in " + version
			for _, user := range []string{"u1", "u2"} {
				r.grant(user, room, "hears speaks sees appears")
			}
			c, other := dial("u1"), dial("u2")
			other.joined(room, withPresence("bob", true))
			joinRef := c.joined(room, withPresence("ann", true))
			c.track(joinRef, room, map[string]any{"n": 1})
			other.learns(room, "ann:1")
			end(r, c, room, joinRef)
			other.learns(room, "")
		}
		if n := labelled(t, r, "realtime_presence_tracked", ""); n != 0 {
			t.Errorf("%v are counted as present", n)
		}
	})
}

// Private channels that end because the database is not heard end presence too.
func TestPresenceEndsWithADeafServer(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxDeaf = time.Second })
	r.exec(presenceRights)
	r.grant("u1", "a", "hears speaks sees appears")
	c := r.dial(token(t, "u1", "authenticated", nil))
	joinRef := c.joined("a", withPresence("ann", true))
	c.track(joinRef, "a", map[string]any{"n": 1})
	tracked := func() float64 { return labelled(t, r, "realtime_presence_tracked", "") }
	if n := tracked(); n != 1 {
		t.Errorf("%v tracked", n)
	}
	r.hub.Deaf()
	c.wait("the end", isEvent("a", "phx_error"))
	r.await("presence to end", func() bool { return tracked() == 0 })
	if got := string(r.presence.State(hub.Room{Name: "a", Private: true})); got != "{}" {
		t.Errorf("state %s", got)
	}
}

// A public and a private room of one name are two, over REST as well.
func TestPresenceOverRESTKeepsPublicAndPrivateApart(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(presenceRights)
	r.grant("u1", "a", "sees appears")
	tok := token(t, "u1", "authenticated", nil)
	open, locked := r.dial(tok), r.dial(tok)
	refOpen, refLocked := open.joined("a", withPresence("ann", false)), locked.joined("a", withPresence("ann", true))
	open.track(refOpen, "a", map[string]any{"n": 1})
	locked.track(refLocked, "a", map[string]any{"n": 2})
	open.learns("a", "ann:1")
	locked.learns("a", "ann:2")
	for path, want := range map[string]string{"a": `{"ann":{"metas":[{"n":1,`, "a?private=true": `{"ann":{"metas":[{"n":2,`} {
		if got := r.rest("GET", "/api/presence/"+path, tok, ""); got.status != 200 || !strings.HasPrefix(got.body, want) {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

// Many who come at once are told to each other in a few frames.
func TestManyTracksAtOnceAreFewFrames(t *testing.T) {
	t.Parallel()
	const members = 60
	r := start(t, pgtest.New(t), nil)
	var all []*client
	var refs []string
	for n := range members {
		c := r.dial(token(t, fmt.Sprint("u", n), "authenticated", nil))
		refs = append(refs, c.joined("a", withPresence(fmt.Sprint("m", n), false)))
		all = append(all, c)
	}
	began := time.Now()
	for n, c := range all {
		c.push(refs[n], "realtime:a", "presence", map[string]any{"event": "track", "payload": map[string]any{"n": n}})
	}
	for _, c := range all {
		c.wait("everyone", func(frame) bool { return len(strings.Fields(c.knows("a"))) == members })
	}
	windows := int(time.Since(began)/(50*time.Millisecond)) + 2
	if n := int(metricstest.Value(t, r.metrics, "realtime_presence_diffs_total", "")); n > windows {
		t.Errorf("%d diffs in %d windows", n, windows)
	}
}
