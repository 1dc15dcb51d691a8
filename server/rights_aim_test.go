package main

import (
	"slices"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/sql"
)

const (
	ann = "a1111111-1111-4111-8111-111111111111"
	bob = "b2222222-2222-4222-8222-222222222222"
)

// memberships is a right on rooms that nobody has called watch() for.
const memberships = `
	create table members (user_id uuid, sponsor_id uuid, room_id int, hits int default 0);
	grant select on members to authenticated;
	grant trigger on members to rowcast;
	insert into members values ('` + ann + `', null, 1), ('` + bob + `', null, 1), ('` + bob + `', null, 2);
	create policy members_receive on realtime.messages for select to authenticated using (exists (
		select from members m where m.user_id = (select auth.uid()) and 'room:' || m.room_id = realtime.topic()));`

// marked is how many subscriptions were put in doubt while something was done and all of it has arrived.
func (r *running) marked(do func()) float64 {
	r.t.Helper()
	arrived := func() {
		if _, err := r.db.Admin.Exec(r.t.Context(), `select realtime.sync('20 s')`); err != nil {
			r.t.Fatal(err)
		}
	}
	arrived()
	before := metricstest.Value(r.t, r.metrics, "realtime_marked_subscriptions_total", "")
	do()
	arrived()
	return metricstest.Value(r.t, r.metrics, "realtime_marked_subscriptions_total", "") - before
}

// watchedAs waits until realtime.watched says so of members.
func (r *running) watchedAs(subject, topic string) {
	r.t.Helper()
	r.await("members to be watched by "+subject+" and "+topic, func() bool {
		var ok bool
		return r.db.Admin.QueryRow(r.t.Context(), `select noticed_by = 'trigger' and coalesce(subject, '') = $1 and coalesce(topic, '') = $2 and (reason is null) = (subject is not null or topic is not null)
			from realtime.watched where object = 'public.members'`, subject, topic).Scan(&ok) == nil && ok
	})
}

func often50(c *Config) { c.RightsPollInterval, c.RecheckInterval = 50*time.Millisecond, 0 }

// Nobody has said whom a change of a membership concerns, and only the one member is asked again.
func TestChangesConcernWhomPoliciesSay(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(sql.Auth + memberships)
	a1, b1, b2 := r.member(ann, "room:1"), r.member(bob, "room:1"), r.member(bob, "room:2")
	r.watchedAs("user_id", "room:{room_id}")
	if n := r.marked(func() { r.exec(`update members set hits = hits + 1`) }); n != 0 {
		t.Errorf("%v channels in doubt for a column that no policy reads", n)
	}
	if n := r.marked(func() { r.exec(`delete from members where user_id = $1 and room_id = 1`, bob) }); n != 1 {
		t.Errorf("%v channels in doubt for a change of one member's row", n)
	}
	b1.wait("the end of the channel", isCut("room:1"))
	for topic, c := range map[string]*client{"room:1": a1, "room:2": b2} {
		r.exec(`select realtime.send('{}', 'still', $1, true)`, topic)
		c.wait("a message to who has the right", broadcastOf(topic, "still"))
		if slices.ContainsFunc(c.all(), isCut(topic)) {
			t.Errorf("%s was cut as well", topic)
		}
	}
	if n := r.marked(func() { r.exec(`truncate members`) }); n != 2 {
		t.Errorf("%v channels in doubt for all rows", n)
	}
	a1.wait("the end of the channel", isCut("room:1"))
	b2.wait("the end of the channel", isCut("room:2"))
}

// A policy that makes the aim too narrow widens it, before anybody is admitted by that policy.
func TestAimIsWidenedWithPolicies(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), seldom)
	r.exec(sql.Auth + memberships)
	r.member(ann, "room:1")
	r.watchedAs("user_id", "room:{room_id}")
	r.exec(`create policy sponsors_receive on realtime.messages for select to authenticated using (exists (
		select from members m where m.sponsor_id = (select auth.uid()) and 'room:' || m.room_id = realtime.topic()));
		update members set sponsor_id = '` + ann + `' where room_id = 2`)
	sponsor := r.member(ann, "room:2")
	r.watchedAs("", "room:{room_id}")
	r.exec(`update members set sponsor_id = null`)
	sponsor.wait("the end of the channel", isCut("room:2"))
}

// A change that comes between the new policy and the discovery, and is told to others by the old watch, is made up for: then
// everybody is asked again.
func TestOpenSessionsAreAskedWhenTheAimWasWidened(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), often50)
	r.exec(sql.Auth + memberships + `
		insert into members values ('` + bob + `', '` + ann + `', 3);
		create policy all_receive on realtime.messages for select to authenticated using (realtime.topic() = 'room:3')`)
	sponsor := r.member(ann, "room:3")
	r.watchedAs("user_id", "room:{room_id}")
	r.exec(`alter policy all_receive on realtime.messages using (exists (
		select from members m where m.sponsor_id = (select auth.uid()) and 'room:' || m.room_id = realtime.topic() and m.hits < 5));
		update members set hits = 9 where room_id = 3`)
	sponsor.wait("the end of the channel", isCut("room:3"))
	r.watchedAs("", "room:{room_id}")
}

// Two columns that exchange their names: policies go by the column, triggers by its name.
func TestColumnsThatExchangeTheirNames(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), often50)
	r.exec(sql.Auth + memberships)
	a := r.member(ann, "room:1")
	r.watchedAs("user_id", "room:{room_id}")
	r.exec(`begin; alter table members rename user_id to x; alter table members rename sponsor_id to user_id; alter table members rename x to sponsor_id; commit`)
	r.watchedAs("sponsor_id", "room:{room_id}")
	r.exec(`delete from members where sponsor_id = $1`, ann)
	a.wait("the end of the channel", isCut("room:1"))
}
