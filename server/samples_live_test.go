package main

import (
	"io/fs"
	"path"
	"testing"

	"rowcast/sql"
)

// standing is what somebody may do on a channel at a moment.
type standing string

const (
	outside standing = "outside" // joins are refused; who is there is cut off
	listens standing = "listens" // receives, and sends are refused
	talks   standing = "talks"   // receives and sends
	away    standing = "away"    // the socket is closed
)

// life is what happens to one person's rights on one topic. The socket stays the same throughout.
type life struct {
	beside, rows string // as in sample
	who, topic   string
	begin        standing
	steps        []turn
}

// turn is a change of rights: by SQL, or without any by the clock.
type turn struct {
	name, sql string
	now       standing
}

// policyLives is every sample that lives by rows, with its rights given and taken. The others depend on the token alone.
var policyLives = map[string][]life{
	"room_members.sql": {
		{who: bobID, topic: "room:1", begin: talks, steps: []turn{
			{"muted", "update members set muted = true where user_id = '" + bobID + "'", listens},
			{"unmuted", "update members set muted = false where user_id = '" + bobID + "'", talks},
			{"membership removed", "delete from members where user_id = '" + bobID + "'", outside},
			{"membership given", "insert into members (user_id, room_id) values ('" + bobID + "', 1)", talks},
			{"room removed", "delete from rooms where id = 1", outside},
		}},
	},
	"public_lobby.sql": {
		{who: daveID, topic: "lobby", begin: listens, steps: []turn{
			{"first membership", "insert into members (user_id, room_id) values ('" + daveID + "', 2)", talks},
			{"last membership removed", "delete from members where user_id = '" + daveID + "'", listens},
		}},
	},
	"public_rooms.sql": {
		{rows: `insert into rooms (id, name) values (30, 'square')`, who: daveID, topic: "room:30", begin: outside, steps: []turn{
			{"made public", "update rooms set is_public = true where id = 30", listens},
			{"made private", "update rooms set is_public = false where id = 30", outside},
		}},
	},
	"room_announcements.sql": {
		{who: bobID, topic: "room:1:announcements", begin: listens, steps: []turn{
			{"promoted to admin", "update members set role = 'admin' where user_id = '" + bobID + "'", talks},
			{"promoted to owner", "update members set role = 'owner' where user_id = '" + bobID + "'", talks},
			{"demoted to moderator", "update members set role = 'moderator' where user_id = '" + bobID + "'", listens},
			{"membership removed", "delete from members where user_id = '" + bobID + "'", outside},
		}},
	},
	"room_moderators.sql": {
		{who: bobID, topic: "room:1:moderators", begin: outside, steps: []turn{
			{"promoted", "update members set role = 'moderator' where user_id = '" + bobID + "'", talks},
			{"demoted", "update members set role = 'member' where user_id = '" + bobID + "'", outside},
		}},
	},
	"room_roles.sql": {
		{who: bobID, topic: "room:1:office", begin: outside, steps: []turn{
			{"promoted", "update members set role = 'admin' where user_id = '" + bobID + "'", talks},
			{"only the owner sends", "update room_channels set send = 'owner' where name = 'office'", listens},
			{"admins send again", "update room_channels set send = 'admin' where name = 'office'", talks},
			{"only the owner receives", "update room_channels set receive = 'owner' where name = 'office'", outside},
			{"promoted again", "update members set role = 'owner' where user_id = '" + bobID + "'", talks},
			{"demoted to guest", "update members set role = 'guest' where user_id = '" + bobID + "'", outside},
		}},
	},
	"room_guests.sql": {
		{beside: "room_members.sql", who: bobID, topic: "room:1", begin: talks, steps: []turn{
			{"demoted to guest", "update members set role = 'guest' where user_id = '" + bobID + "'", listens},
			{"promoted", "update members set role = 'member' where user_id = '" + bobID + "'", talks},
		}},
	},
	"room_bans.sql": {
		{beside: "room_members.sql", who: bobID, topic: "room:1", begin: talks, steps: []turn{
			{"banned", "insert into bans values ('" + bobID + "', 1)", outside},
			{"ban lifted", "delete from bans", talks},
			{"banned for a time", "insert into bans values ('" + bobID + "', 1, now() + interval '1 h')", outside},
			{"the time is over", "update bans set until = now()", talks},
		}},
	},
	"room_visitors.sql": {
		{who: bobID, topic: "room:2", begin: outside, steps: []turn{
			{"invited", "insert into visitors values ('" + bobID + "', 2, now() + interval '1 h')", listens},
			{"for a second", "update visitors set until = now() + interval '1 s'", listens},
			{"the time is over", "", outside},
		}},
	},
	"groups.sql": {
		{rows: `insert into groups values ('` + groupID + `', 'walkers')`, who: bobID, topic: groupTopic, begin: outside, steps: []turn{
			{"taken in", "insert into group_members values ('" + bobID + "', '" + groupID + "')", talks},
			{"put out", "delete from group_members", outside},
			{"taken in again", "insert into group_members values ('" + bobID + "', '" + groupID + "')", talks},
			{"the group is no more", "delete from groups", outside},
		}},
	},
	"direct_messages.sql": {
		{rows: `insert into conversations values ('` + aliceID + `', '` + bobID + `')`, who: bobID, topic: "dm:" + aliceID + ":" + bobID, begin: talks, steps: []turn{
			{"blocked", "update conversations set blocked = true", listens},
			{"unblocked", "update conversations set blocked = false", talks},
			{"deleted", "delete from conversations", outside},
		}},
	},
	"organisations.sql": {
		{beside: "room_members.sql", rows: `insert into organisations values (1, 'one'), (2, 'two'); insert into employees values ('` + bobID + `', 1); insert into organisation_rooms values (1, 1)`,
			who: bobID, topic: "room:1", begin: talks, steps: []turn{
				{"moved to another organisation", "update employees set organisation_id = 2", outside},
				{"moved back", "update employees set organisation_id = 1", talks},
				{"the room is handed over", "update organisation_rooms set organisation_id = 2", outside},
				{"the room is nobody's", "delete from organisation_rooms", talks},
			}},
	},
	"plan_and_region.sql": {
		{rows: `insert into accounts values ('` + bobID + `', 'pro', 'eu'); insert into offers values ('feed', 'pro')`, who: bobID, topic: "feed", begin: listens, steps: []turn{
			{"downgraded", "update accounts set plan = 'free'", outside},
			{"upgraded", "update accounts set plan = 'enterprise'", listens},
			{"for another region", "update offers set region = 'us'", outside},
			{"moved there", "update accounts set region = 'us'", listens},
			{"no longer offered", "truncate offers", outside},
		}},
	},
	"opening_hours.sql": {
		{rows: `insert into desks values (1, 'help')`, who: daveID, topic: "desk:1", begin: listens, steps: []turn{
			{"opens in a second", "insert into desk_hours values (1, now() + interval '1 s', now() + interval '1 h')", talks},
			{"closes in a second", "update desk_hours set opens = now() - interval '1 h', closes = now() + interval '1 s'", listens},
			{"given up", "delete from desks", outside},
		}},
	},
	"folders.sql": {
		{rows: `insert into folders values (1, null, 'root'), (2, 1, 'plans'), (3, 2, 'drafts'), (4, null, 'elsewhere')`, who: bobID, topic: "folder:3", begin: outside, steps: []turn{
			{"a folder above is shared", "insert into folder_shares values ('" + bobID + "', 1)", listens},
			{"to write", "update folder_shares set may_write = true", talks},
			{"moved out of it", "update folders set parent_id = 4 where id = 2", outside},
			{"moved into it", "update folders set parent_id = 1 where id = 2", talks},
			{"unshared", "delete from folder_shares", outside},
		}},
	},
}

const groupID, groupTopic = "c1000000-0000-4000-8000-00000000000a", "group:" + "c1000000-0000-4000-8000-00000000000a"

// tokenOnly are the samples whose rights end with the token alone.
var tokenOnly = []string{"announcements.sql", "own_channel.sql", "presence_only.sql"}

// TestPolicySamplesLive changes every right that a sample gives, under the eyes of somebody with an open socket.
func TestPolicySamplesLive(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(sql.Policies, "policies/*.sql")
	if err != nil || len(files) != len(policyLives)+len(tokenOnly) {
		t.Fatalf("%d samples, %d with changes and %d without; %v", len(files), len(policyLives), len(tokenOnly), err)
	}
	for _, file := range files {
		name := path.Base(file)
		for _, l := range policyLives[name] {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				db := withChat(t)
				for _, sample := range []string{l.beside, name} {
					if sample != "" {
						applySample(t, db, sample)
					}
				}
				r := start(t, db, nil)
				r.exec(l.rows)
				w := &witness{running: r, client: r.dial(token(t, l.who, "authenticated", nil)), topic: l.topic, is: outside}
				w.becomes("at first", l.begin)
				for _, turn := range l.steps {
					r.exec(turn.sql)
					w.becomes(turn.name, turn.now)
				}
			})
		}
	}
}

// witness is somebody with an open socket.
type witness struct {
	*running
	client  *client
	topic   string
	is      standing
	joinRef string
}

// becomes waits until the change has reached the socket: a channel that may go on is the one that was open before.
func (w *witness) becomes(why string, now standing) {
	w.t.Helper()
	was := w.is
	w.is = now
	if now == away {
		w.await(why, func() bool {
			w.client.mu.Lock()
			defer w.client.mu.Unlock()
			return w.client.err != nil
		})
		return
	}
	if now == outside {
		if was != outside {
			w.client.wait(why+": the end of the channel", func(f frame) bool {
				return isEvent(w.topic, "phx_close")(f) && *f.JoinRef == w.joinRef
			})
		}
		if _, status, _ := w.client.join(w.topic, private()); status != "error" {
			w.t.Fatalf("%s: joined", why)
		}
		return
	}
	if was == outside {
		joinRef, status, reason := w.client.join(w.topic, private())
		if status != "ok" {
			w.t.Fatalf("%s: %s", why, reason)
		}
		w.joinRef = joinRef
	}
	want := map[standing]string{listens: "error", talks: "ok"}[now]
	w.await(why, func() bool { return w.send() == want })
}

// send tries to on the open channel, and gives the reply's status.
func (w *witness) send() string {
	status, _ := w.client.reply(w.client.push(w.joinRef, "realtime:"+w.topic, "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}))
	return status
}
