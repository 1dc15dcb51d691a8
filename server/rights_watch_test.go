package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

// guests is a table that nobody watches, and a policy that reads it.
const guests = `
	create table guests (user_id text, room text);
	grant select on guests to authenticated;
	insert into guests values ('u1', 'a'), ('u2', 'a');
	create policy guests_receive on realtime.messages for select to authenticated using (
		exists (select from guests g where g.user_id = current_setting('request.jwt.claim.sub', true) and g.room = realtime.topic()));`

// mayWatch lets the server's role set triggers on it.
const mayWatch = `grant trigger on guests to rowcast;`

// seldom has the digest looked at in decisions only, and nothing decided again by the clock.
func seldom(c *Config) { c.RightsPollInterval, c.RecheckInterval = time.Hour, 0 }

// often is the other extreme.
func often(c *Config) {
	c.RightsPollInterval, c.RecheckInterval = 50*time.Millisecond, 200*time.Millisecond
}

// isCut matches the end of a private channel.
func isCut(topic string) func(frame) bool { return isEvent(topic, "phx_close") }

// member is on a private channel.
func (r *running) member(user, topic string) *client {
	r.t.Helper()
	c := r.dial(token(r.t, user, "authenticated", nil))
	if _, status, reason := c.join(topic, private()); status != "ok" {
		r.t.Fatalf("%s joins %s: %s", user, topic, reason)
	}
	return c
}

// noticedBy is what realtime.watched says of something.
func (r *running) noticedBy(object string) (by, mend string) {
	r.t.Helper()
	err := r.db.Admin.QueryRow(r.t.Context(), `select coalesce(max(noticed_by), ''), coalesce(max(mend), '') from realtime.watched where object = $1`, object).Scan(&by, &mend)
	if err != nil {
		r.t.Fatal(err)
	}
	return by, mend
}

// There is no moment in which somebody is admitted under a policy whose tables nobody watches.
func TestPolicyOfAMomentAgoIsWatched(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(guests + mayWatch)
	u1, u2 := r.member("u1", "a"), r.member("u2", "a")
	r.exec(`delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))
	r.exec(`truncate guests`)
	u2.wait("the end of the channel", isCut("a"))
}

// Without the check of verdicts it is lost: what the test above sees is due to it.
func TestPolicyOfAMomentAgoNeedsTheCheck(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := startWith(t, db, seldom, seams{
		sink:   func(s feed.Sink) feed.Sink { return s },
		rights: func(auth.Rights) auth.Rights { return nil },
	})
	if !r.sync(db.Admin, 60*time.Second) { // after the first discovery, which has everybody decided again
		t.Fatal("not in a minute")
	}
	r.exec(guests + mayWatch)
	u1 := r.member("u1", "a")
	r.exec(`delete from guests where user_id = 'u1'`)
	r.exec(`select realtime.send('{}', 'after', 'a', true)`)
	u1.wait("what it has no right to any more", broadcastOf("a", "after"))
}

// A table that may not be watched refuses nobody: everybody is decided again on a timer, and the mend is said.
func TestUnwatchedTablesCutOnATimer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	adminExec(t, db, guests)
	said, logger := heardLog()
	c := testConfig(db)
	often(&c)
	in, err := newInstance(context.Background(), c, logger)
	if err != nil {
		t.Fatal(err)
	}
	r := launch(t, db, in)
	r.awaitReady()
	u1, u2 := r.member("u1", "a"), r.member("u2", "a")
	const mend = "grant trigger on public.guests to rowcast;"
	if by, told := r.noticedBy("public.guests"); by != "timer" || told != mend {
		t.Errorf("realtime.watched says %q, mend %q", by, told)
	}
	if !strings.Contains(said(), mend) {
		t.Errorf("the log does not say %q: %s", mend, said())
	}
	r.exec(`delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))

	r.exec(`select realtime.send('{}', 'still', 'a', true)`)
	u2.wait("a message to who has the right", broadcastOf("a", "still"))
}

func TestGrantOfTriggerHasATableWatched(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.RightsPollInterval, c.RecheckInterval = 50*time.Millisecond, 0 })
	r.exec(guests)
	u1 := r.member("u1", "a")
	r.exec(mayWatch)
	r.await("the table to be watched", func() bool { by, _ := r.noticedBy("public.guests"); return by == "trigger" })
	r.exec(`delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))
}

// Whoever switches a trigger off is not contradicted: the timer does its work.
func TestDisabledTriggersAreMadeUpFor(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), often)
	r.exec(guests + mayWatch)
	u1 := r.member("u1", "a")
	r.exec(`alter table guests disable trigger zz_realtime_rights; delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))
	by, mend := r.noticedBy("public.guests")
	if by != "timer" || !strings.HasPrefix(mend, "alter table public.guests enable always trigger") {
		t.Errorf("realtime.watched says %q, mend %q", by, mend)
	}
	r.exec(mend)
	if by, mend := r.noticedBy("public.guests"); by != "trigger" || mend != "" {
		t.Errorf("mended: realtime.watched says %q, mend %q", by, mend)
	}
}

// A watch() of the owner's stays as it is.
func TestOwnWatchIsKept(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), often)
	r.exec(guests + mayWatch + `select realtime.watch('guests', 'user_id', '{room}')`)
	u1, u2 := r.member("u1", "a"), r.member("u2", "a")
	if definition := scalar[string](t, r.db, `select pg_get_triggerdef(oid) from pg_trigger where tgname = 'zz_realtime_rights'`); !strings.Contains(definition, "user_id") {
		t.Errorf("the trigger is %s", definition)
	}
	r.exec(`delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))
	r.exec(`select realtime.send('{}', 'still', 'a', true)`)
	u2.wait("a message to who has the right", broadcastOf("a", "still"))
}

// What a function reads by dynamic SQL nobody can tell from its text. It is seen when it runs, and then watched.
func TestObservedTablesAreWatched(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.RightsPollInterval, c.RecheckInterval = 50*time.Millisecond, 0 })
	r.exec(guests + mayWatch + `
		drop policy guests_receive on realtime.messages;
		create function secret(who text, topic text) returns boolean language plpgsql security definer as $$ declare found boolean; begin
			execute 'select exists (select from public.gue' || 'sts where user_id = $1 and room = $2)' into found using who, topic;
			return found;
		end $$;
		create policy receive on realtime.messages for select to authenticated using (secret(current_setting('request.jwt.claim.sub', true), realtime.topic()))`)
	if by, _ := r.noticedBy("public.guests"); by != "" {
		t.Fatalf("found without being observed, by %s", by)
	}
	u1 := r.member("u1", "a")
	r.await("the table to be watched", func() bool {
		second := r.dial(token(t, "u2", "authenticated", nil)) // only decisions are observed
		second.join("a", private())
		second.conn.CloseNow()
		by, _ := r.noticedBy("public.guests")
		return by == "trigger"
	})
	r.exec(`delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))
}

func TestWatchReportInstallsNothing(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { often(c); c.Watch = "report" })
	r.exec(guests + mayWatch)
	u1 := r.member("u1", "a")
	r.exec(`delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))
	if by, mend := r.noticedBy("public.guests"); by != "timer" || mend != "select realtime.watch('public.guests');" {
		t.Errorf("realtime.watched says %q, mend %q", by, mend)
	}
}

func TestWatchOffLooksForNothing(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { often(c); c.Watch = "off" })
	r.exec(guests + mayWatch)
	u1 := r.member("u1", "a")
	r.exec(`delete from guests where user_id = 'u1'`)
	r.exec(`select realtime.send('{}', 'after', 'a', true)`)
	u1.wait("what nobody has taken from it", broadcastOf("a", "after"))
	if by, _ := r.noticedBy("public.guests"); by != "nothing" {
		t.Errorf("realtime.watched says %q", by)
	}
	r.exec(`select realtime.watch('guests')`) // which has everybody decided again
	u1.wait("the end of the channel", isCut("a"))
}

// heardLog is a log, and what it said so far.
func heardLog() (said func() string, logger *slog.Logger) {
	var out lockedBuffer
	return out.String, slog.New(slog.NewTextHandler(&out, nil))
}

// A connection that is lost while a table is to be watched says nothing about the table: nobody is admitted meanwhile.
func TestPolicyIsWatchedThoughConnectionsAreLost(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(guests + mayWatch + `
		create sequence attempts;
		grant usage on sequence attempts to rowcast;
		create function lose() returns event_trigger language plpgsql security definer as $$ begin
			if nextval('public.attempts') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if;
		end $$;
		create event trigger lose on ddl_command_start when tag in ('CREATE TRIGGER') execute function lose();`)
	u1 := r.member("u1", "a")
	r.exec(`delete from guests where user_id = 'u1'`)
	r.exec(`select realtime.send('{}', 'after', 'a', true)`)
	told := broadcastOf("a", "after")
	if f := u1.wait("the end of the channel, or what must not come", func(f frame) bool { return told(f) || isCut("a")(f) }); told(f) {
		t.Error("told what was sent after its row was deleted")
	}
	if attempts := scalar[int](t, r.db, `select last_value from attempts`); attempts < 2 {
		t.Errorf("%d triggers were to be made: no connection was lost", attempts)
	}
}
