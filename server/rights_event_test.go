package main

import (
	"testing"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// Where a superuser has installed the event trigger, nobody has to look: DDL is noticed when it commits, before what its
// transaction sends after it.
func TestEventTriggersCutAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(guests + mayWatch + sql.EventTriggers)
	u1 := r.member("u1", "a")
	r.exec(`begin; alter policy guests_receive on realtime.messages using (false); select realtime.send('{}', 'after', 'a', true); commit`)
	u1.wait("the end of the channel", isCut("a"))
	for _, f := range u1.all() {
		if broadcastOf("a", "after")(f) {
			t.Error("given a message that was sent after the revocation")
		}
	}
}

// Other DDL has nobody decided again, and is never in the way.
func TestEventTriggersLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t) // roles are the whole server's, and other tests change some
	r := start(t, db, seldom)
	r.exec(guests + mayWatch + sql.EventTriggers)
	r.member("u1", "a") // so all is found out
	marks := func() int { return scalar[int](t, r.db, `select count(*) from realtime._marks`) }
	before := marks()
	r.exec(`create table elsewhere (n int); create temp table mine (n int); grant select on elsewhere to anon; drop table elsewhere;
		create schema other; create function other.f() returns int language sql return 1; drop schema other cascade`)
	if after := marks(); after != before {
		t.Errorf("%d marks more", after-before)
	}
	r.exec(`revoke select on guests from authenticated`)
	if after := marks(); after != before+1 {
		t.Errorf("%d marks more for a revocation", after-before)
	}
}
