package main

// sample is one file of sql/policies with what it must allow and deny.
type sample struct {
	beside  string // the sample that it takes away from, if it only does that
	rows    string // of the tables that it reads; each sample has rooms of its own
	rulings []ruling
}

// ruling is what a policy must say about one person; an empty subject is a token without one.
type ruling struct {
	role, subject, topic, extension string
	receive, send                   bool
}

// policySamples is every file. Members of room 1 are alice, its owner, bob and carol, who is muted; alice owns room 2 as
// well, and dave is a member of nothing.
var policySamples = map[string]sample{
	"room_members.sql": {rulings: []ruling{
		{"authenticated", aliceID, "room:1", "broadcast", true, true},
		{"authenticated", aliceID, "room:2", "broadcast", true, true},
		{"authenticated", bobID, "room:1", "presence", true, true},
		{"authenticated", bobID, "room:2", "broadcast", false, false},
		{"authenticated", carolID, "room:1", "broadcast", true, false},
		{"authenticated", carolID, "room:1", "presence", true, true},
		{"authenticated", daveID, "room:1", "broadcast", false, false},
		{"authenticated", "", "room:1", "broadcast", false, false},
		{"authenticated", "not a uuid", "room:1", "broadcast", false, false},
		{"anon", aliceID, "room:1", "broadcast", false, false},
		{"authenticated", aliceID, "room:01", "broadcast", false, false},
		{"authenticated", aliceID, "room:1 ", "broadcast", false, false},
		{"authenticated", aliceID, "room:1:x", "broadcast", false, false},
		{"authenticated", aliceID, "room:", "broadcast", false, false},
		{"authenticated", aliceID, "room:99999999999999999999", "broadcast", false, false},
		{"authenticated", aliceID, "rooms:1", "broadcast", false, false},
		{"authenticated", aliceID, "room:1", "postgres_changes", true, false},
		{"service_role", "", "room:1", "broadcast", true, true},
	}},
	"public_lobby.sql": {rulings: []ruling{
		{"authenticated", aliceID, "lobby", "broadcast", true, true},
		{"authenticated", daveID, "lobby", "broadcast", true, false},
		{"authenticated", aliceID, "lobby2", "broadcast", false, false},
		{"anon", "", "lobby", "broadcast", false, false},
	}},
	"announcements.sql": {rulings: []ruling{
		{"anon", "", "announcements", "broadcast", true, false},
		{"authenticated", aliceID, "announcements", "broadcast", true, false},
		{"authenticated", aliceID, "announcements", "presence", false, false},
		{"authenticated", aliceID, "announcement", "broadcast", false, false},
		{"service_role", "", "announcements", "broadcast", true, true},
	}},
	"presence_only.sql": {rulings: []ruling{
		{"authenticated", daveID, "online", "presence", true, true},
		{"authenticated", daveID, "online", "broadcast", false, false},
		{"anon", "", "online", "presence", false, false},
		{"authenticated", daveID, "offline", "presence", false, false},
	}},
	"own_channel.sql": {rulings: []ruling{
		{"authenticated", aliceID, "user:" + aliceID, "broadcast", true, false},
		{"authenticated", bobID, "user:" + aliceID, "broadcast", false, false},
		{"authenticated", "", "user:", "broadcast", false, false},
		{"authenticated", aliceID, "user:A11CE000-0000-4000-8000-000000000001", "broadcast", false, false},
		{"authenticated", aliceID, "user:" + aliceID, "presence", false, false},
		{"anon", aliceID, "user:" + aliceID, "broadcast", false, false},
	}},
	"public_rooms.sql": {
		rows: `insert into rooms (id, name, is_public) values (14, 'room 14', true);
			insert into members (user_id, room_id, role) values ('` + carolID + `', 14, 'guest');`,
		rulings: []ruling{
			{"authenticated", daveID, "room:14", "broadcast", true, false},
			{"authenticated", daveID, "room:14", "presence", true, false},
			{"authenticated", daveID, "room:1", "broadcast", false, false},
			{"authenticated", daveID, "room:14:moderators", "broadcast", false, false},
			{"anon", "", "room:14", "broadcast", false, false},
		},
	},
	"room_announcements.sql": {
		rows: `insert into rooms (id, name) values (17, 'room 17');
			insert into members (user_id, room_id, role) values ('` + aliceID + `', 17, 'admin'), ('` + bobID + `', 17, 'moderator'), ('` + carolID + `', 17, 'guest');`,
		rulings: []ruling{
			{"authenticated", aliceID, "room:17:announcements", "broadcast", true, true},
			{"authenticated", bobID, "room:17:announcements", "broadcast", true, false},
			{"authenticated", carolID, "room:17:announcements", "broadcast", true, false},
			{"authenticated", daveID, "room:17:announcements", "broadcast", false, false},
			{"authenticated", aliceID, "room:17:announcements", "presence", false, false},
			{"authenticated", aliceID, "room:17:announcement", "broadcast", false, false},
			{"authenticated", aliceID, "room:2:announcements", "broadcast", true, true},
			{"anon", "", "room:17:announcements", "broadcast", false, false},
		},
	},
	"room_moderators.sql": {
		rows: `insert into rooms (id, name) values (18, 'room 18');
			insert into members (user_id, room_id, role) values ('` + aliceID + `', 18, 'admin'), ('` + bobID + `', 18, 'moderator'), ('` + carolID + `', 18, 'member');`,
		rulings: []ruling{
			{"authenticated", aliceID, "room:18:moderators", "broadcast", true, true},
			{"authenticated", bobID, "room:18:moderators", "broadcast", true, true},
			{"authenticated", bobID, "room:18:moderators", "presence", true, true},
			{"authenticated", carolID, "room:18:moderators", "broadcast", false, false},
			{"authenticated", daveID, "room:18:moderators", "broadcast", false, false},
			{"authenticated", bobID, "room:1:moderators", "broadcast", false, false},
			{"authenticated", bobID, "room:18:moderators:1", "broadcast", false, false},
			{"anon", "", "room:18:moderators", "broadcast", false, false},
		},
	},
	"room_roles.sql": {
		rows: `insert into rooms (id, name) values (16, 'a'), (19, 'b');
			insert into members (user_id, room_id, role) values ('` + aliceID + `', 16, 'owner'), ('` + bobID + `', 16, 'admin'), ('` + carolID + `', 16, 'moderator'), ('` + bobID + `', 19, 'member'), ('` + carolID + `', 19, 'guest');`,
		rulings: []ruling{
			{"authenticated", aliceID, "room:16:vault", "broadcast", true, true},
			{"authenticated", bobID, "room:16:vault", "broadcast", true, false},
			{"authenticated", carolID, "room:16:vault", "broadcast", false, false},
			{"authenticated", carolID, "room:19:vault", "broadcast", false, false},
			{"authenticated", aliceID, "room:16:office", "broadcast", true, true},
			{"authenticated", bobID, "room:16:office", "broadcast", true, true},
			{"authenticated", carolID, "room:16:office", "broadcast", false, false},
			{"authenticated", bobID, "room:16:stage", "broadcast", true, true},
			{"authenticated", carolID, "room:16:stage", "broadcast", true, true},
			{"authenticated", carolID, "room:19:stage", "broadcast", true, false},
			{"authenticated", carolID, "room:16:floor", "broadcast", true, true},
			{"authenticated", carolID, "room:19:floor", "broadcast", true, false},
			{"authenticated", bobID, "room:19:floor", "broadcast", true, true},
			{"authenticated", bobID, "room:19:stage", "broadcast", true, false},
			{"authenticated", bobID, "room:19:office", "broadcast", false, false},
			{"authenticated", aliceID, "room:19:floor", "broadcast", false, false},
			{"authenticated", aliceID, "room:16:cellar", "broadcast", false, false},
		},
	},
	"room_guests.sql": {
		beside: "room_members.sql",
		rows: `insert into rooms (id, name) values (12, 'room 12');
			insert into members (user_id, room_id, role) values ('` + bobID + `', 12, 'guest'), ('` + carolID + `', 12, 'member');`,
		rulings: []ruling{
			{"authenticated", bobID, "room:12", "broadcast", true, false},
			{"authenticated", bobID, "room:12", "presence", true, true},
			{"authenticated", carolID, "room:12", "broadcast", true, true},
			{"authenticated", bobID, "room:1", "broadcast", true, true},
			{"authenticated", carolID, "room:1", "broadcast", true, false},
			{"authenticated", aliceID, "room:12", "broadcast", false, false},
		},
	},
	"room_bans.sql": {
		beside: "room_members.sql",
		rows: `insert into rooms (id, name) values (11, 'room 11');
			insert into members (user_id, room_id, role) values ('` + aliceID + `', 11, 'owner'), ('` + bobID + `', 11, 'member'), ('` + carolID + `', 11, 'member');
			insert into bans values ('` + bobID + `', 11, null), ('` + carolID + `', 11, now() + interval '1 day'), ('` + aliceID + `', 11, now() - interval '1 s');`,
		rulings: []ruling{
			{"authenticated", aliceID, "room:11", "broadcast", true, true},
			{"authenticated", bobID, "room:11", "broadcast", false, false},
			{"authenticated", bobID, "room:11", "presence", false, false},
			{"authenticated", carolID, "room:11", "broadcast", false, false},
			{"authenticated", bobID, "room:1", "broadcast", true, true},
			{"authenticated", bobID, "room:111", "broadcast", false, false},
		},
	},
	"room_visitors.sql": {
		rows: `insert into rooms (id, name) values (13, 'room 13');
			insert into visitors values ('` + bobID + `', 13, now() + interval '1 day'), ('` + daveID + `', 13, now() - interval '1 s');`,
		rulings: []ruling{
			{"authenticated", bobID, "room:13", "broadcast", true, false},
			{"authenticated", daveID, "room:13", "broadcast", false, false},
			{"authenticated", aliceID, "room:13", "broadcast", false, false},
			{"authenticated", bobID, "room:2", "broadcast", false, false},
			{"anon", "", "room:13", "broadcast", false, false},
		},
	},
	"groups.sql": {
		rows: `insert into groups values ('c1000000-0000-4000-8000-00000000000a', 'walkers');
			insert into group_members select id, 'c1000000-0000-4000-8000-00000000000a' from people where name in ('alice', 'bob');`,
		rulings: []ruling{
			{"authenticated", aliceID, "group:c1000000-0000-4000-8000-00000000000a", "broadcast", true, true},
			{"authenticated", bobID, "group:c1000000-0000-4000-8000-00000000000a", "presence", true, true},
			{"authenticated", carolID, "group:c1000000-0000-4000-8000-00000000000a", "broadcast", false, false},
			{"authenticated", aliceID, "group:C1000000-0000-4000-8000-00000000000A", "broadcast", false, false},
			{"anon", "", "group:c1000000-0000-4000-8000-00000000000a", "broadcast", false, false},
		},
	},
	"direct_messages.sql": {
		rows: `insert into conversations values ('` + aliceID + `', '` + bobID + `', false), ('` + bobID + `', '` + carolID + `', true);`,
		rulings: []ruling{
			{"authenticated", aliceID, "dm:" + aliceID + ":" + bobID, "broadcast", true, true},
			{"authenticated", bobID, "dm:" + aliceID + ":" + bobID, "broadcast", true, true},
			{"authenticated", carolID, "dm:" + aliceID + ":" + bobID, "broadcast", false, false},
			{"authenticated", aliceID, "dm:" + bobID + ":" + aliceID, "broadcast", false, false},
			{"authenticated", bobID, "dm:" + bobID + ":" + carolID, "broadcast", true, false},
			{"authenticated", carolID, "dm:" + bobID + ":" + carolID, "broadcast", true, false},
			{"authenticated", aliceID, "dm:" + aliceID + ":" + daveID, "broadcast", false, false},
		},
	},
	"organisations.sql": {
		beside: "room_members.sql",
		rows: `insert into rooms (id, name) values (15, 'hq'), (20, 'lab');
			insert into members (user_id, room_id) select p.id, r.id from people p, rooms r where p.name in ('alice', 'bob', 'carol') and r.id in (15, 20);
			insert into organisations values (1, 'one'), (2, 'two');
			insert into employees values ('` + aliceID + `', 1), ('` + bobID + `', 2);
			insert into organisation_rooms values (15, 1), (20, 2);`,
		rulings: []ruling{
			{"authenticated", aliceID, "room:15", "broadcast", true, true},
			{"authenticated", aliceID, "room:20", "broadcast", false, false},
			{"authenticated", bobID, "room:15", "broadcast", false, false},
			{"authenticated", bobID, "room:20", "broadcast", true, true},
			{"authenticated", carolID, "room:15", "broadcast", false, false},
			{"authenticated", carolID, "room:20", "broadcast", false, false},
			{"authenticated", aliceID, "room:1", "broadcast", true, true},
			{"authenticated", bobID, "room:1", "presence", true, true},
			{"authenticated", daveID, "room:15", "broadcast", false, false},
		},
	},
	"plan_and_region.sql": {
		rows: `insert into accounts values ('` + aliceID + `', 'pro', 'eu'), ('` + bobID + `', 'free', 'eu'), ('` + carolID + `', 'enterprise', 'us');
			insert into offers values ('feed:basic', 'free', null), ('feed:fast', 'pro', null), ('feed:fast:eu', 'pro', 'eu');`,
		rulings: []ruling{
			{"authenticated", aliceID, "feed:basic", "broadcast", true, false},
			{"authenticated", aliceID, "feed:fast", "broadcast", true, false},
			{"authenticated", aliceID, "feed:fast:eu", "broadcast", true, false},
			{"authenticated", bobID, "feed:basic", "broadcast", true, false},
			{"authenticated", bobID, "feed:fast", "broadcast", false, false},
			{"authenticated", carolID, "feed:fast", "broadcast", true, false},
			{"authenticated", carolID, "feed:fast:eu", "broadcast", false, false},
			{"authenticated", daveID, "feed:basic", "broadcast", false, false},
			{"authenticated", aliceID, "feed:fast", "presence", false, false},
		},
	},
	"opening_hours.sql": {
		rows: `insert into desks values (1, 'open'), (2, 'closed'), (3, 'not yet');
			insert into desk_hours values (1, now() - interval '1 h', now() + interval '1 h'), (2, now() - interval '2 h', now() - interval '1 h'), (3, now() + interval '1 h', now() + interval '2 h');`,
		rulings: []ruling{
			{"authenticated", aliceID, "desk:1", "broadcast", true, true},
			{"authenticated", aliceID, "desk:1", "presence", true, true},
			{"authenticated", daveID, "desk:2", "broadcast", true, false},
			{"authenticated", daveID, "desk:3", "broadcast", true, false},
			{"authenticated", daveID, "desk:4", "broadcast", false, false},
			{"anon", "", "desk:1", "broadcast", false, false},
		},
	},
	"folders.sql": {
		rows: `insert into folders values (1, null, 'root'), (2, 1, 'plans'), (3, 2, 'drafts'), (4, 1, 'accounts');
			insert into folder_shares values ('` + aliceID + `', 1, true), ('` + bobID + `', 2, false), ('` + carolID + `', 2, false), ('` + carolID + `', 3, true);`,
		rulings: []ruling{
			{"authenticated", aliceID, "folder:1", "broadcast", true, true},
			{"authenticated", aliceID, "folder:3", "broadcast", true, true},
			{"authenticated", bobID, "folder:1", "broadcast", false, false},
			{"authenticated", bobID, "folder:2", "broadcast", true, false},
			{"authenticated", bobID, "folder:3", "broadcast", true, false},
			{"authenticated", bobID, "folder:4", "broadcast", false, false},
			{"authenticated", carolID, "folder:2", "broadcast", true, false},
			{"authenticated", carolID, "folder:3", "broadcast", true, true},
			{"authenticated", daveID, "folder:1", "broadcast", false, false},
			{"authenticated", aliceID, "folder:9", "broadcast", false, false},
		},
	},
}
