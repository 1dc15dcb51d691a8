package main

import (
	"testing"

	"rowcast/server/pgtest"
)

// onRows is a right that takes rows of many tables: channel a is for who has it, on b it is needed to send.
const onRows = `
	create schema app;
	grant usage on schema app to authenticated, rowcast;
	create table app.accounts (id int primary key);
	create table app.plans (id int primary key);
	create table app.members (user_id text primary key, active boolean not null default true,
		account int references app.accounts on delete cascade on update cascade, plan int references app.plans on delete set null);
	create table app.bans (user_id text);
	create table app.log (day int, user_id text) partition by range (day);
	create table app.log1 partition of app.log for values from (0) to (10);
	create table app.log2 partition of app.log for values from (10) to (20);
	create table app.parent (user_id text);
	create table app.child () inherits (app.parent);
	create view app.people as select user_id, active from app.members;
	create table app.quits (user_id text);
	create function app.quit() returns trigger language plpgsql as $$ begin delete from app.members where user_id = new.user_id; return null; end $$;
	create trigger quit after insert on app.quits for each row execute function app.quit();
	create function app.ban(who text) returns void language sql security definer begin atomic insert into app.bans values (who); end;
	insert into app.accounts values (1); insert into app.plans values (1); insert into app.members values ('u1', true, 1, 1);
	insert into app.log1 values (1, 'u1'); insert into app.child values ('u1');
	create function app.may(who text) returns boolean language sql stable security definer begin atomic
		select exists (select from app.members where user_id = who and active and account = 1 and plan = 1)
			and not exists (select from app.bans where user_id = who)
			and exists (select from app.log where user_id = who and day < 10)
			and exists (select from app.parent where user_id = who);
	end;
	grant trigger on all tables in schema app to rowcast;
	create policy receive on realtime.messages for select to authenticated using (
		realtime.topic() = 'b' or app.may(current_setting('request.jwt.claim.sub', true)));
	create policy send on realtime.messages for insert to authenticated with check (app.may(current_setting('request.jwt.claim.sub', true)));`

// change takes a right, and gives it again.
type change struct{ name, take, give string }

const (
	memberAgain = `insert into app.members values ('u1', true, 1, 1)`
	rowAgain    = `insert into app.log1 values (1, 'u1')`
)

// rowChanges are the ways in which rows change.
func (r *running) rowChanges() []change {
	changes := []change{
		{"INSERT", `insert into app.bans values ('u1')`, `delete from app.bans`},
		{"UPDATE", `update app.members set active = false`, `update app.members set active = true`},
		{"UPDATE of the primary key", `update app.members set user_id = 'u9'`, `update app.members set user_id = 'u1'`},
		{"DELETE", `delete from app.members`, memberAgain},
		{"TRUNCATE", `truncate app.members`, memberAgain},
		{"ON DELETE CASCADE", `delete from app.accounts`, `insert into app.accounts values (1); ` + memberAgain},
		{"ON UPDATE CASCADE", `update app.accounts set id = 2`, `update app.accounts set id = 1`},
		{"ON DELETE SET NULL", `delete from app.plans`, `insert into app.plans values (1); update app.members set plan = 1`},
		{"TRUNCATE CASCADE", `truncate app.accounts cascade`, `insert into app.accounts values (1); ` + memberAgain},
		{"COPY", `copy app.bans from program 'echo u1'`, `truncate app.bans`},
		{"INSERT ON CONFLICT", `insert into app.members values ('u1') on conflict (user_id) do update set active = false`,
			`insert into app.members values ('u1') on conflict (user_id) do update set active = true`},
		{"WITH DELETE", `with gone as (delete from app.members returning user_id) select * from gone`, memberAgain},
		{"a view", `update app.people set active = false`, `update app.people set active = true`},
		{"a partition directly", `delete from app.log1`, rowAgain},
		{"a move between partitions", `update app.log set day = 11`, `update app.log set day = 1`},
		{"TRUNCATE of a partition", `truncate app.log1`, rowAgain},
		{"TRUNCATE of the partitioned table", `truncate app.log`, rowAgain},
		{"INHERITS", `delete from app.parent`, `insert into app.child values ('u1')`},
		{"a child directly", `delete from app.child`, `insert into app.child values ('u1')`},
		{"TRUNCATE of a child", `truncate app.child`, `insert into app.child values ('u1')`},
		{"a trigger", `insert into app.quits values ('u1')`, memberAgain},
		{"a SECURITY DEFINER function", `set role authenticated; select app.ban('u1'); reset role`, `delete from app.bans`},
		{"a savepoint that is released", `begin; savepoint s; delete from app.members; release s; commit`, memberAgain},
		{"the second of two statements", `begin; update app.members set active = true; delete from app.members; commit`, memberAgain},
	}
	if r.major() >= 15 {
		const merge = `merge into app.members m using (values ('u1')) as v (id) on m.user_id = v.id when `
		changes = append(changes, change{"MERGE", merge + `matched then delete`, merge + `not matched then insert values ('u1', true, 1, 1)`})
	}
	return changes
}

// taken has a change take a right from a live session, and give it again: the channel that goes by it ends, the other one loses the
// right to send and has it back.
func (r *running) taken(tests []change) {
	r.t.Helper()
	for _, tt := range tests {
		c := r.dial(token(r.t, "u1", "authenticated", nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			r.t.Fatalf("before %s: %s", tt.name, reason)
		}
		b, _, _ := c.join("b", private())
		maySend := func() bool { ok, _ := c.sends(b, "b"); return ok }
		if !maySend() {
			r.t.Fatalf("before %s: no right to send", tt.name)
		}
		r.exec(tt.take)
		c.wait("the end of the channel after "+tt.name, isCut("a"))
		r.await("no right to send after "+tt.name, func() bool { return !maySend() })
		r.exec(tt.give)
		r.await("the right to send again after "+tt.name, maySend)
		if _, status, reason := c.join("a", private()); status != "ok" {
			r.t.Errorf("not let in again after %s: %s", tt.name, reason)
		}
		if count(c, isCut("b")) != 0 {
			r.t.Errorf("%s: cut from what it may hear", tt.name)
		}
		c.conn.CloseNow()
	}
}

// By the triggers that the server has installed by itself, with no more than the privilege to.
func TestChangesOfRowsCut(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(onRows)
	r.taken(r.rowChanges())
}

// By the triggers of watch(), which the owner has called with the subject.
func TestChangesOfRowsCutWhomTheyConcern(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { seldom(c); c.Watch = "report" })
	r.exec(onRows + `select realtime.watch(source::regclass, 'user_id') from unnest('{app.members,app.bans,app.log,app.parent,app.child}'::text[]) as source`)
	replica := func(change string) string {
		return `set session_replication_role = replica; ` + change + `; reset session_replication_role`
	}
	r.taken(append(r.rowChanges(),
		change{"session_replication_role = replica", replica(`delete from app.members`), replica(memberAgain)},
		change{"TRUNCATE under session_replication_role = replica", replica(`truncate app.members`), replica(memberAgain)},
	))
}

// What is not committed takes nothing from anybody.
func TestWhatIsRolledBackCutsNobody(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(onRows)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	for _, change := range []string{
		`begin; savepoint s; delete from app.members; truncate app.log; rollback to s; commit`,
		`begin; delete from app.members; rollback`,
		`do $$ begin delete from app.members; raise 'no'; exception when others then null; end $$`,
		`begin; savepoint s; alter policy receive on realtime.messages using (false); rollback to s; commit`,
	} {
		r.exec(change)
		if !r.sync(r.db.Admin, patience) {
			t.Fatal("not synced")
		}
		r.lives(c, "a", false)
	}
}
