package main

import (
	"fmt"
	"strings"

	"rowcast/server/protocol"
)

const onChanges server = "changes of rows"

const troublesTotal = "realtime_changes_troubles_total"

// changesProvocations are what is said about changes of rows.
var changesProvocations = append([]provocation{
	{code: protocol.PostgresChangesUnavailable, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		s.exec("revoke create on database " + s.db.Name + " from rowcast")
		return s.follow("nowhere", nil).troubled(protocol.PostgresChangesUnavailable) // there is no publication yet
	}},
	{code: protocol.PostgresChangesUnavailable, where: inJoin, counted: joinsTotal, on: onChanges, provoke: func(s *stage) string {
		s.exec("alter role " + s.role + " noreplication")
		defer s.exec("alter role " + s.role + " replication")
		table := s.followed("id int primary key", "")
		return refusedJoin("open", waitingFor(15_000, map[string]any{"schema": "public", "table": table}))(s)
	}},
	{code: protocol.PostgresChangesUnavailable, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		table := s.followed("id int primary key", "")
		defer s.lock("pg_catalog.pg_publication")()
		return s.follow(table, nil).troubled(protocol.PostgresChangesUnavailable)
	}},
	{code: protocol.PostgresChangesSubscribeTimeout, where: inJoin, counted: joinsTotal, on: onChanges, provoke: func(s *stage) string {
		table := s.followed("id int primary key", "")
		defer s.lock("pg_catalog.pg_publication")()
		return refusedJoin("open", waitingFor(1, map[string]any{"schema": "public", "table": table}))(s)
	}},
	{code: protocol.PostgresChangesSubscribeTimeout, where: inJoin, counted: joinsTotal, on: onChanges, provoke: func(s *stage) string {
		table := s.followed("id int primary key", "")
		defer s.lock("pg_catalog.pg_publication")()
		return refusedJoin("open", waitingFor(10_000, map[string]any{"schema": "public", "table": table}))(s)
	}},
	{code: protocol.JoinSuperseded, where: inJoin, counted: joinsTotal, on: onChanges, provoke: func(s *stage) string {
		table := s.followed("id int primary key", "")
		defer s.lock("pg_catalog.pg_publication")()
		c := s.dial(token(s.t, "u1", "authenticated", nil))
		join := c.push("", "realtime:a", "phx_join", waitingFor(15_000, map[string]any{"schema": "public", "table": table}))
		leave := c.push(join, "realtime:a", "phx_leave", map[string]any{})
		defer c.reply(leave)
		return c.refusal(join)
	}},
	{code: protocol.PostgresChangesWithheld, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		return s.follow(s.followed("id int primary key", "revoke select on TABLE from authenticated"), nil).troubled(protocol.PostgresChangesWithheld)
	}},
	{code: protocol.PostgresChangesWithheld, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		table := s.followed("id int primary key", "alter table TABLE enable row level security; create policy broken on TABLE using (1 / (id - id) = 1)")
		c := s.follow(table, nil)
		c.subscribed(1)
		s.exec("insert into " + table + " values (1)")
		return c.troubled(protocol.PostgresChangesWithheld)
	}},
	{code: protocol.PostgresChangesRefused, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		table := s.followed("id int primary key, n int", "revoke select on TABLE from authenticated; grant select (id, n) on TABLE to authenticated")
		c := s.follow(table, map[string]any{"filter": "n=eq.1"})
		c.subscribed(1)
		s.exec("revoke select (n) on " + table + " from authenticated")
		return c.troubled(protocol.PostgresChangesRefused)
	}},
	{code: protocol.PostgresChangesSnapshot, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		table := s.followed("id int primary key", "insert into TABLE select generate_series(1, 4)")
		return s.follow(table, map[string]any{"snapshot": true}).troubled(protocol.PostgresChangesSnapshot)
	}},
	{code: protocol.PostgresChangesSnapshot, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		return s.follow(s.followed("id int", ""), map[string]any{"snapshot": true}).troubled(protocol.PostgresChangesSnapshot)
	}},
	{code: protocol.PostgresChangesGap, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
		c := s.follow(s.followed("id int primary key", ""), nil)
		c.subscribed(1)
		s.endStream()
		told := c.troubled(protocol.PostgresChangesGap)
		c.subscribed(2)
		return told
	}},
}, refusedEntries(
	map[string]any{"schema": "public", "table": "nowhere"},
	map[string]any{"schema": "public", "table": "members", "filter": "nothing=eq.1"},
	map[string]any{"filter": "id=eq.1"},
	map[string]any{"schema": "public", "table": "members", "filter": "wrong"},
	map[string]any{"schema": "public", "table": "members", "select": "id"},
	map[string]any{"schema": "public", "select": []string{"id"}},
	map[string]any{"schema": "public", "table": "members", "numbers": 5},
	map[string]any{"schema": "public", "table": "members", "snapshot": 5},
	map[string]any{"schema": "*", "snapshot": true},
)...)

// waitingFor is what a join says that waits for changes, for so many milliseconds.
func waitingFor(timeout int, entry map[string]any) map[string]any {
	return config(map[string]any{"postgres_changes": []any{entry}, "postgres_changes_options": map[string]any{"wait": true, "timeout": timeout}})
}

// refusedEntries are subscriptions that cannot be had, and are told so also to who waits for them.
func refusedEntries(entries ...map[string]any) (all []provocation) {
	for _, entry := range entries {
		all = append(all, provocation{code: protocol.PostgresChangesRefused, where: inSystem, counted: troublesTotal, on: onChanges, provoke: func(s *stage) string {
			s.publishes("members")
			c, _ := s.member("open", map[string]any{"postgres_changes": []any{entry}})
			return c.told("open")
		}}, provocation{code: protocol.RealtimeDisabledForConfiguration, where: inJoin, counted: joinsTotal, on: onChanges, provoke: func(s *stage) string {
			s.publishes("members")
			return refusedJoin("open", waitingFor(15_000, entry))(s)
		}})
	}
	return all
}

// publishes adds a table to the publication, which it makes at first need.
func (r *running) publishes(table string) {
	r.t.Helper()
	r.exec(`do $$ begin create publication supabase_realtime with (publish_via_partition_root = true); exception when duplicate_object then null; end $$`)
	r.exec(fmt.Sprintf(`do $$ begin alter publication supabase_realtime add table %s; exception when duplicate_object then null; end $$`, table))
}

// followed makes a table whose changes are published, and gives its name. then may say more about it, as TABLE.
func (r *running) followed(columns, then string) string {
	r.t.Helper()
	name := fmt.Sprintf("followed_%d", tables.Add(1))
	r.exec(fmt.Sprintf("create table %s (%s); grant select on %[1]s to anon, authenticated, service_role; alter table %[1]s replica identity full; %[3]s",
		name, columns, strings.ReplaceAll(then, "TABLE", name)))
	r.publishes(name)
	return name
}

// follow has u1 ask for all changes of a table, on a channel of the same name.
func (r *running) follow(table string, more map[string]any) *follower {
	r.t.Helper()
	return r.followAs("2.0.0", token(r.t, "u1", "authenticated", nil), table, more)
}

// endStream ends the session that reads the WAL for changes, as an administrator may.
func (r *running) endStream() {
	r.t.Helper()
	ended := scalar[int](r.t, r.db, `select count(pg_terminate_backend(active_pid)) from pg_replication_slots where database = current_database() and slot_name like 'rowcast\_changes\_%'`)
	if ended != 1 {
		r.t.Fatalf("%d streams were ended", ended)
	}
}

// saidInTests are sentences that it takes much to have a server say; tests of package changes do.
var saidInTests = map[string]string{
	protocol.TextSnapshotFailed:    "the database goes away in the midst of a snapshot",
	protocol.TextSnapshotOvertaken: "more comes during a snapshot than may wait, again and again",
	protocol.TextSnapshotBusy:      "a thousand wait for their snapshots",
	protocol.TextSnapshotSlow:      "all places for snapshots are taken for a minute",
	protocol.TextChangesSlotWaits:  "a transaction is open while a slot is made",
	protocol.TextGapExcess:         "more comes during a snapshot than may wait",
	protocol.TextGapAgain:          "a snapshot ends in the midst of it",
	protocol.TextGapUndecided:      "whoever could see a row is not known any more",
}
