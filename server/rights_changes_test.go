package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
	"rowcast/sql"
)

// manyThings is one right that takes all of a catalog's arts: $1 is a token role, $2 a group that it is in.
const manyThings = `
	create schema app;
	grant usage on schema app to %[1]s;
	create table app.members (user_id text);
	alter table app.members enable row level security;
	create policy own on app.members for select using (user_id = current_setting('request.jwt.claim.sub', true));
	create table app.plain (user_id text);
	create table app.columns (id int, secret text);
	create table app.base (n int);
	create view app.seen as select * from app.base;
	create table app.log (day int) partition by range (day);
	create table app.log1 partition of app.log for values from (0) to (10);
	create table app.parent (n int);
	create table app.child (n int);
	alter table app.child inherit app.parent;
	create function app.yes() returns boolean language sql stable begin atomic select true; end;
	create function app.text_yes() returns boolean language sql stable as $$ select current_setting('search_path') <> '""' and app.yes() $$;
	create function app.definer() returns boolean language sql stable security definer begin atomic select exists (select from app.base); end;
	create function app.keep() returns trigger language plpgsql as $$ begin return null; end $$;
	create table app.owned (n int);
	alter table app.owned enable row level security;
	create table app.part (day int) partition by range (day);
	create table app.part1 partition of app.part for values from (0) to (10);
	create table app.dropped (n int);
	create function app.drops() returns boolean language sql stable as $$ select exists (select from app.dropped) $$;
	insert into app.owned values (1); insert into app.part values (1); insert into app.dropped values (1);
	alter table app.owned owner to %[1]s;
	insert into app.members values ('u1'); insert into app.plain values ('u1'); insert into app.columns values (1); insert into app.base values (1);
	insert into app.log values (1); insert into app.child values (1);
	grant select on app.members, app.plain, app.seen, app.log, app.parent, app.part1, app.dropped to %[1]s;
	grant select (id) on app.columns to %[1]s;
	grant select, insert on realtime.messages to %[1]s;
	grant %[2]s to %[1]s;
	create policy gate on realtime.messages as restrictive using (true);
	create policy receive on realtime.messages for select to %[2]s using (
		realtime.topic() = 'a' and exists (select from app.members) and exists (select from app.plain) and exists (select id from app.columns)
		and exists (select from app.seen) and exists (select from app.log) and exists (select from app.parent)
		and exists (select from app.owned) and exists (select from app.part1) and app.drops()
		and app.yes() and app.text_yes() and app.definer());`

// revocations are of a server that has manyThings, and whom it concerns: a token role, a group that it is in, and a role without any rights.
type revocations struct {
	*running
	role, group, weak string
}

func newRevocations(t *testing.T, change func(*Config)) *revocations {
	t.Helper()
	db := pgtest.New(t)
	s := &revocations{role: db.NewRole(t, "nologin"), group: db.NewRole(t, "nologin"), weak: db.NewRole(t, "nologin")}
	adminExec(t, db, "grant "+s.role+" to rowcast")
	s.running = start(t, db, func(c *Config) {
		change(c)
		c.AllowedRoles = append(c.AllowedRoles, s.role)
	})
	s.exec(fmt.Sprintf(manyThings, s.role, s.group))
	return s
}

// definitions are revocations, each with its opposite.
func (s *revocations) definitions() []change {
	role, group, weak := s.role, s.group, s.weak
	return []change{
		{"ALTER POLICY", `alter policy gate on realtime.messages using (false)`, `alter policy gate on realtime.messages using (true)`},
		{"ALTER POLICY TO", `alter policy receive on realtime.messages rename to receives; create policy receive on realtime.messages for select to ` + group + ` using (false);
			alter policy receives on realtime.messages to ` + weak, `drop policy receive on realtime.messages; alter policy receives on realtime.messages to ` + group + `; alter policy receives on realtime.messages rename to receive`},
		{"CREATE POLICY, restrictive", `create policy none on realtime.messages as restrictive for select using (false)`, `drop policy none on realtime.messages`},
		{"ALTER POLICY of a table read", `alter policy own on app.members using (false)`, `alter policy own on app.members using (true)`},
		{"DROP POLICY of a table read", `drop policy own on app.members`, `create policy own on app.members using (true)`},
		{"CREATE POLICY of a table read", `create policy none on app.members as restrictive for select using (false)`, `drop policy none on app.members`},
		{"ENABLE ROW LEVEL SECURITY of a table read", `alter table app.plain enable row level security`, `alter table app.plain disable row level security`},
		{"DISABLE ROW LEVEL SECURITY of messages", `alter table realtime.messages disable row level security`, `alter table realtime.messages enable row level security`},
		{"FORCE ROW LEVEL SECURITY of messages", `alter table realtime.messages force row level security`, `alter table realtime.messages no force row level security`},
		{"FORCE ROW LEVEL SECURITY of a table read", `alter table app.owned force row level security`, `alter table app.owned no force row level security`},
		{"REVOKE of a partition", `revoke select on app.part1 from ` + role, `grant select on app.part1 to ` + role},
		{"REVOKE of a table", `revoke select on app.plain from ` + role, `grant select on app.plain to ` + role},
		{"REVOKE of messages", `revoke select on realtime.messages from ` + role, `grant select on realtime.messages to ` + role},
		{"REVOKE of a column", `revoke select (id) on app.columns from ` + role, `grant select (id) on app.columns to ` + role},
		{"REVOKE of a schema", `revoke usage on schema app from ` + role, `grant usage on schema app to ` + role},
		{"REVOKE of a function", `revoke execute on function app.yes() from public`, `grant execute on function app.yes() to ` + role},
		{"CREATE OR REPLACE FUNCTION", `create or replace function app.yes() returns boolean language sql stable begin atomic select false; end`,
			`create or replace function app.yes() returns boolean language sql stable begin atomic select true; end`},
		{"ALTER FUNCTION", `alter function app.text_yes() set search_path = ''`, `alter function app.text_yes() reset search_path`},
		{"CREATE OR REPLACE VIEW", `create or replace view app.seen as select * from app.base where false`, `create or replace view app.seen as select * from app.base`},
		{"the owner of a view", `alter view app.seen owner to ` + weak, `alter view app.seen owner to current_user`},
		{"the owner of a function", `alter function app.definer() owner to ` + weak, `alter function app.definer() owner to current_user`},
		{"the owner of messages", `alter table realtime.messages owner to ` + role, `alter table realtime.messages owner to rowcast; grant select, insert on realtime.messages to ` + role},
		{"DETACH PARTITION", `alter table app.log detach partition app.log1`, `alter table app.log attach partition app.log1 for values from (0) to (10)`},
		{"NO INHERIT", `alter table app.child no inherit app.parent`, `alter table app.child inherit app.parent`},
		{"CREATE TRIGGER of messages", `create trigger keep before insert on realtime.messages for each row execute function app.keep()`, `drop trigger keep on realtime.messages`},
		{"DROP TABLE", `drop table app.dropped`, `create table app.dropped (n int); insert into app.dropped values (1); grant select on app.dropped to ` + role},
		{"DROP TABLE of a partition", `drop table app.log1`, `create table app.log1 partition of app.log for values from (0) to (10); insert into app.log values (1)`},
		{"DROP POLICY", `create policy none on realtime.messages for select using (false); create policy receives on realtime.messages for select to ` + group + ` using (realtime.topic() = 'a');
			drop policy receive on realtime.messages; drop policy receives on realtime.messages`,
			`create policy receive on realtime.messages for select to ` + group + ` using (true)`},
	}
}

// roles are revocations, too. They belong to no database.
func (s *revocations) roles() []change {
	role, group := s.role, s.group
	// Since 16 it is the membership that says whether it is inherited.
	inheritance := change{"ALTER ROLE NOINHERIT", `alter role ` + role + ` noinherit`, `alter role ` + role + ` inherit`}
	if s.major() >= 16 {
		inheritance = change{"GRANT WITH INHERIT FALSE", `grant ` + group + ` to ` + role + ` with inherit false`, `grant ` + group + ` to ` + role + ` with inherit true`}
	}
	return []change{
		{"REVOKE of a role", `revoke ` + group + ` from ` + role, `grant ` + group + ` to ` + role},
		inheritance,
		{"ALTER ROLE BYPASSRLS", `alter role ` + role + ` bypassrls`, `alter role ` + role + ` nobypassrls`},
	}
}

// cut has changes end live channels, and their opposites let the same clients in again.
func (s *revocations) cut(changes []change) {
	s.t.Helper()
	for _, tt := range changes {
		c := s.dial(token(s.t, "u1", s.role, nil))
		s.joins(c, "before "+tt.name)
		s.exec(tt.take)
		c.wait("the end of the channel after "+tt.name, isCut("a"))
		s.exec(tt.give)
		s.joins(c, "again after "+tt.name)
		c.conn.CloseNow()
	}
}

// joins joins as clients do, who try again while the server does not hear its database: a busy machine may keep a
// heartbeat for longer than a join waits.
func (s *revocations) joins(c *client, when string) {
	s.t.Helper()
	s.await("to be let in "+when, func() bool {
		_, status, reason := c.join("a", private())
		if status != "ok" && !strings.HasPrefix(reason, string(protocol.Deaf)) {
			s.t.Fatalf("%s: %s", when, reason)
		}
		return status == "ok"
	})
}

func TestChangesOfDefinitionsCut(t *testing.T) {
	t.Parallel()
	s := newRevocations(t, func(c *Config) { c.RightsPollInterval, c.RecheckInterval = 50*time.Millisecond, 0 })
	s.cut(append(s.roles(), s.definitions()...))
}

// The same by event triggers alone: nobody looks at the digest by himself.
func TestEventTriggersNoticeDefinitions(t *testing.T) {
	t.Parallel()
	s := newRevocations(t, seldom)
	s.exec(sql.EventTriggers)
	s.cut(s.definitions())
}

// major is of the database.
func (r *running) major() int {
	r.t.Helper()
	return scalar[int](r.t, r.db, `select current_setting('server_version_num')::int / 10000`)
}

func TestDropRoleCuts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.NewRole(t, "nologin") + "_gone"
	adminExec(t, db, "create role "+role+"; grant "+role+" to rowcast")
	r := start(t, db, func(c *Config) {
		c.AllowedRoles = append(c.AllowedRoles, role)
		c.RightsPollInterval, c.RecheckInterval = 50*time.Millisecond, 0
	})
	r.exec(`create policy all_receive on realtime.messages for select using (true); grant select, insert on realtime.messages to ` + role)
	c := r.dial(token(t, "u1", role, nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	r.exec("drop owned by " + role + "; drop role " + role)
	c.wait("the end of the channel", isCut("a"))
}

// adminExec runs SQL as a superuser before there is a server.
func adminExec(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	if _, err := db.Admin.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// An open session is given the right to send by a change of definitions, too.
func TestChangesOfDefinitionsGive(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.RightsPollInterval, c.RecheckInterval = 50*time.Millisecond, 0 })
	r.exec(guests + mayWatch)
	c := r.dial(token(t, "u1", "authenticated", nil))
	ref, status, reason := c.join("a", private())
	if status != "ok" {
		t.Fatal(reason)
	}
	send := func() string {
		status, _ := c.reply(c.push(ref, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}))
		return status
	}
	if got := send(); got != "error" {
		t.Fatalf("sending without a policy: %s", got)
	}
	r.exec(`create policy guests_send on realtime.messages for insert to authenticated with check (true)`)
	r.await("the right to send", func() bool { return send() == "ok" })
	r.exec(`revoke insert on realtime.messages from authenticated`)
	r.await("the right to be gone", func() bool { return send() == "error" })
}

// With WATCH=off nobody looks: a change of definitions reaches open sessions by invalidate() alone.
func TestDefinitionsWithWatchOff(t *testing.T) {
	t.Parallel()
	s := newRevocations(t, func(c *Config) { often(c); c.Watch = "off" })
	for _, tt := range append(s.roles(), s.definitions()...) {
		c := s.dial(token(t, "u1", s.role, nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatalf("before %s: %s", tt.name, reason)
		}
		s.exec(tt.take)
		if !s.sync(s.db.Admin, patience) || count(c, isCut("a")) != 0 {
			t.Errorf("%s: cut, and nobody was to look", tt.name)
		}
		s.exec(`select realtime.invalidate()`)
		c.wait("the end of the channel after "+tt.name, isCut("a"))
		s.exec(tt.give)
		c.conn.CloseNow()
	}
}

// WATCH=report installs no triggers, and looks at the digest all the same.
func TestDefinitionsWithWatchReport(t *testing.T) {
	t.Parallel()
	s := newRevocations(t, func(c *Config) { c.RightsPollInterval, c.RecheckInterval, c.Watch = 50*time.Millisecond, 0, "report" })
	s.cut(append(s.roles(), s.definitions()...))
}
