package main

import (
	"fmt"
	"strings"
	"testing"

	"rowcast/server/hub"
	"rowcast/server/snapshot"
)

// presenceRights are policies by which each right of each extension can be given and taken alone.
const presenceRights = `
create table rights (user_id text, room text, hears boolean default true, speaks boolean default true, sees boolean default true, appears boolean default true,
	primary key (user_id, room));
grant select on rights to authenticated;
create policy receive on realtime.messages for select to authenticated using (exists (select from public.rights r
	where r.user_id = (select current_setting('request.jwt.claim.sub', true)) and r.room = (select realtime.topic())
	and case extension when 'presence' then r.sees else r.hears end));
create policy send on realtime.messages for insert to authenticated with check (exists (select from public.rights r
	where r.user_id = (select current_setting('request.jwt.claim.sub', true)) and r.room = (select realtime.topic())
	and case extension when 'presence' then r.appears else r.speaks end));
select realtime.watch('rights', 'user_id', '{room}');`

const deniedTrack = `error {"reason":"PresenceDenied: You do not have permissions to be present on this Channel topic: %s"}`

// grant gives somebody rights in a room, of hears, speaks, sees and appears.
func (r *running) grant(user, room, rights string) {
	r.t.Helper()
	has := func(right string) bool { return strings.Contains(rights, right) }
	r.exec(`insert into rights values ($1, $2, $3, $4, $5, $6) on conflict (user_id, room)
		do update set hears = $3, speaks = $4, sees = $5, appears = $6`, user, room, has("hears"), has("speaks"), has("sees"), has("appears"))
}

func TestPresenceOnlyReaderSeesNoBroadcasts(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		r.grant("u1", room, "sees appears speaks")
		r.grant("u2", room, "hears speaks sees appears")
		c, all := dial("u1"), dial("u2")
		joinRef, refAll := c.joined(room, withPresence("ann", true)), all.joined(room, withPresence("bob", true))
		all.nothing(refAll, room)
		c.track(joinRef, room, map[string]any{"n": 1})
		all.track(refAll, room, map[string]any{"n": 2})
		c.learns(room, "ann:1 bob:2")
		if n := count(c, isEvent(room, "broadcast")); n != 0 {
			t.Errorf("%d broadcasts", n)
		}
	})
}

func TestReaderWhoMayNotAppearIsRefusedAndTold(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		r.grant("u1", room, "hears speaks sees")
		r.grant("u2", room, "hears speaks sees appears")
		c, other := dial("u1"), dial("u2")
		joinRef, refOther := c.joined(room, withPresence("ann", true)), other.joined(room, withPresence("bob", true))
		if got := c.presence(joinRef, room, "track", map[string]any{}); got != fmt.Sprintf(deniedTrack, room) {
			t.Error(got)
		}
		if got := c.presence(joinRef, room, "untrack", nil); got != "ok" {
			t.Error(got)
		}
		other.track(refOther, room, map[string]any{"n": 2})
		c.learns(room, "bob:2")
		c.nothing(joinRef, room, "system", "phx_close")
	})
}

func TestMemberWhoMayNotSeeGetsNeitherStateNorDiffs(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		r.grant("u1", room, "hears speaks appears")
		r.grant("u2", room, "hears speaks sees appears")
		c, other := dial("u1"), dial("u2")
		joinRef, refOther := c.joined(room, withPresence("ann", true)), other.joined(room, withPresence("bob", true))
		c.track(joinRef, room, map[string]any{"n": 1}) // which others see
		other.track(refOther, room, map[string]any{"n": 2})
		other.learns(room, "ann:1 bob:2")
		c.nothing(joinRef, room, "presence_state", "presence_diff", "system")
		// The right is a COMMIT away, on the open session.
		r.grant("u1", room, "hears speaks sees appears")
		c.learns(room, "ann:1 bob:2")
		if n := count(c, isEvent(room, "presence_state")); n != 1 {
			t.Errorf("%d states", n)
		}
	})
}

func TestLosingTheRightToSeeEndsTheChannel(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		becomes := func(user string) func(*client, string) {
			return func(c *client, joinRef string) {
				c.push(joinRef, "realtime:"+room, "access_token", map[string]any{"access_token": token(t, user, "authenticated", nil)})
			}
		}
		const noLonger, never = "You no longer have permission to read from this Channel topic: ", "You do not have permissions to read from this Channel topic: "
		for _, tt := range []struct {
			lose func(c *client, joinRef string)
			told string
		}{
			{func(*client, string) { r.grant("u1", room, "hears speaks appears") }, noLonger},
			{becomes("u3"), noLonger},
			{becomes("stranger"), never},
		} {
			for _, user := range []string{"u1", "u2"} {
				r.grant(user, room, "hears speaks sees appears")
			}
			r.grant("u3", room, "hears speaks")
			c, other := dial("u1"), dial("u2")
			joinRef := c.joined(room, withPresence("ann", true))
			refOther := other.joined(room, withPresence("bob", true))
			c.track(joinRef, room, map[string]any{"n": 1})
			other.learns(room, "ann:1")
			tt.lose(c, joinRef)
			c.wait("the close", isEvent(room, "phx_close"))
			if told := c.told(room); told != tt.told+room {
				t.Errorf("told %q, want %q", told, tt.told)
			}
			other.learns(room, "")
			other.track(refOther, room, map[string]any{"n": 2})
			other.learns(room, "bob:2")
			if got := c.knows(room); strings.Contains(got, "bob") {
				t.Errorf("without the right it knows %s", got)
			}
			other.conn.CloseNow()
		}
	})
}

func TestNewTokenThatMayHearStartsDeliveryWithoutRejoin(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		r.grant("u1", room, "sees")
		r.grant("u2", room, "hears speaks sees appears")
		c, other := dial("u1"), dial("u2")
		joinRef, refOther := c.joined(room, withPresence("ann", true)), other.joined(room, withPresence("bob", true))
		other.nothing(refOther, room)
		if n := count(c, isEvent(room, "broadcast")); n != 0 {
			t.Errorf("%d broadcasts without the right", n)
		}
		c.push(joinRef, "realtime:"+room, "access_token", map[string]any{"access_token": token(t, "u2", "authenticated", nil)})
		c.track(joinRef, room, map[string]any{"n": 1}) // under the new token
		c.nothing(joinRef, room, "phx_close", "system")
	})
}

// A person whose right to be present is revoked disappears for others, is told so, and is on the channel as before.
func TestRevokedPersonDisappears(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		for _, user := range []string{"u1", "u2"} {
			r.grant(user, room, "hears speaks sees appears")
		}
		c, other := dial("u1"), dial("u2")
		joinRef := c.joined(room, withPresence("ann", true))
		other.joined(room, withPresence("bob", true))
		c.track(joinRef, room, map[string]any{"n": 1})
		other.learns(room, "ann:1")
		r.grant("u1", room, "hears speaks sees")
		other.learns(room, "")
		c.learns(room, "")
		if told := c.told(room); told != "PresenceDenied: You no longer have permission to be present on this Channel topic: "+room {
			t.Errorf("told %q", told)
		}
		if got := c.presence(joinRef, room, "track", map[string]any{"n": 1}); got != fmt.Sprintf(deniedTrack, room) {
			t.Error(got)
		}
		r.grant("u1", room, "hears speaks sees appears")
		r.await("the gain to arrive", func() bool { return c.presence(joinRef, room, "track", map[string]any{"n": 1}) == "ok" })
		other.learns(room, "ann:1")
		c.nothing(joinRef, room, "phx_close")
	})
}

// Changes that fall into a time in which the right was lost and regained are kept from its owner, who is told anew who is
// present.
func TestPresenceInDoubtIsToldAnew(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		for _, user := range []string{"u1", "u2"} {
			r.grant(user, room, "hears speaks sees appears")
		}
		c, other := dial("u1"), dial("u2")
		joinRef, refOther := c.joined(room, withPresence("ann", true)), other.joined(room, withPresence("bob", true))
		c.state(room)
		xid := scalar[uint64](t, r.db, `select pg_current_xact_id()::text::bigint`) // of a change that the next decision sees
		changed := hub.Mark{XID: snapshot.XID(xid), Subject: "u1", Topic: room}
		release := r.lock("rights")
		r.hub.Mark(changed)
		other.track(refOther, room, map[string]any{"n": 1})
		other.learns(room, "bob:1")
		r.hub.Mark(changed)
		release()
		c.learns(room, "bob:1")
		other.track(refOther, room, map[string]any{"n": 2})
		c.learns(room, "bob:2")
		c.nothing(joinRef, room, "phx_close", "system")
		if n := count(c, isEvent(room, "presence_state")); n != 2 {
			t.Errorf("%d states", n)
		}
	})
}

// While rights are in doubt a track waits, in its order among broadcasts; an untrack of somebody who sends nothing does not.
func TestTracksWaitForTheDecision(t *testing.T) {
	t.Parallel()
	inVersions(t, nil, presenceRights, func(t *testing.T, r *running, room string, dial func(string) *client) {
		r.grant("u1", room, "hears speaks sees appears")
		r.grant("u2", room, "hears speaks sees appears")
		c, other := dial("u1"), dial("u2")
		joinRef := c.joined(room, withPresence("ann", true))
		other.joined(room, withPresence("bob", true))
		c.track(joinRef, room, map[string]any{"n": 1})
		other.learns(room, "ann:1")
		release := r.lock("rights")
		before := labelled(t, r, "realtime_marked_subscriptions_total", "")
		r.exec(`select realtime.invalidate('u1', $1)`, room)
		r.await("doubt", func() bool { return labelled(t, r, "realtime_marked_subscriptions_total", "") > before })
		if got := c.presence(joinRef, room, "untrack", nil); got != "ok" {
			t.Error(got)
		}
		other.learns(room, "")
		var refs []string
		for n := range 4 {
			event, payload := "track", map[string]any{"n": n + 2}
			if n == 2 {
				event = "untrack"
			}
			refs = append(refs, c.push(joinRef, "realtime:"+room, "presence", map[string]any{"event": event, "payload": payload}))
			refs = append(refs, c.push(joinRef, "realtime:"+room, "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}))
		}
		c.reply(c.push("", "phoenix", "heartbeat", map[string]any{})) // it has read all that
		if n := count(c, func(f frame) bool { return f.Event == "phx_reply" && f.Ref != nil && *f.Ref == refs[0] }); n != 0 {
			t.Error("tracked while in doubt")
		}
		release()
		last := -1
		for _, ref := range refs {
			if status, response := c.reply(ref); status != "ok" {
				t.Errorf("%s: %s", ref, response)
			}
			f := c.wait("the reply", func(f frame) bool { return f.Ref != nil && *f.Ref == ref })
			if f.receivedAfter < last {
				t.Error("answered out of turn")
			}
			last = f.receivedAfter
		}
		other.learns(room, "ann:5")
	})
}
