package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Disturbances that change definitions.

// shuts take everything from the role of those whom the writers are after, and give it back; %s is the role.
var shuts = []struct{ shut, open string }{
	{`alter policy receive_open on realtime.messages using (false)`,
		`alter policy receive_open on realtime.messages using (public.open() and public.member() and public.mood())`},
	{`drop policy receive_open on realtime.messages`,
		`create policy receive_open on realtime.messages for select to %s using (public.open() and public.member() and public.mood())`},
	{`create policy shut on realtime.messages as restrictive for select to %s using (false)`, `drop policy shut on realtime.messages`},
	{`revoke select on members from %s`, `grant select on members to %s`},
	{`revoke select on realtime.messages from %s`, `grant select on realtime.messages to %s`},
	{`revoke execute on function open() from %s`, `grant execute on function open() to %s`},
	{`create or replace function open() returns boolean language sql stable as $$ select false $$`,
		`create or replace function open() returns boolean language sql stable as $$ select true $$`},
}

// shutByDDL takes everything from a role and gives it back. With event triggers the right is gone when that commits; without,
// when the first of its users is seen to be cut: one mark is for all.
func (r *race) shutByDDL(rng *rand.Rand) {
	room, canary, ddl := rng.IntN(raceRooms), r.racer("canary"), shuts[rng.IntN(len(shuts))]
	of := func(statement string) string { return strings.ReplaceAll(statement, "%s", r.role) }
	const note = `; insert into history (kind, room_id) values ('%s', 0)`
	c, ok := r.admit(canary, room)
	defer c.conn.CloseNow()
	if !ok {
		return
	}
	if r.triggers {
		r.do(of(ddl.shut) + fmt.Sprintf(note, "shut"))
	} else {
		r.do(of(ddl.shut))
	}
	end := c.wait("the end of the channel after "+ddl.shut, isEnd(room))
	if end.Event != "phx_close" { // it was ended by trouble, which says nothing about the DDL
		if status, _ := canary.ask(r, c, room); status == "ok" {
			r.violate("canary joins room %d after %s", room, ddl.shut)
		}
	}
	if !r.triggers {
		r.do(strings.TrimPrefix(fmt.Sprintf(note, "shut"), "; "))
	}
	r.tell(room)
	r.do(of(ddl.open) + fmt.Sprintf(note, "open"))
	r.revoke(canary.name, room)
}

// droppedRole drops the role of somebody who is there. Roles belong to no database: the digest is what notices.
func (r *race) droppedRole(rng *rand.Rand) {
	room, gone := rng.IntN(raceRooms), r.racer("gone")
	c, ok := r.admit(gone, room)
	defer c.conn.CloseNow()
	if !ok {
		return
	}
	r.do("drop role " + r.gone)
	c.wait("the end of the channel of a role that was dropped", isEnd(room))
	if status, _ := gone.ask(r, c, room); status == "ok" {
		r.violate("gone joins room %d with a role that was dropped", room)
	}
	r.revoke(gone.name, room)
	r.tell(room)
	r.do(fmt.Sprintf(goneRole, r.gone))
}

// goneRole has what it has by being in another.
const goneRole = `create role %[1]s nologin; grant authenticated to %[1]s; grant %[1]s to rowcast;`

// tableOfAMomentAgo makes a policy that reads a table which nobody watches yet, has somebody join by it, and takes the row
// away right after. Without the check of verdicts this is always seen.
func (r *race) tableOfAMomentAgo(*rand.Rand) { r.freshTable("fresh", false) }

// tableOfThisMoment takes the row away while somebody joins.
func (r *race) tableOfThisMoment(*rand.Rand) { r.freshTable("newer", true) }

func (r *race) freshTable(name string, early bool) {
	user, n := r.racer(name), r.next.Add(1)
	topic := fmt.Sprintf("fresh:%d", n)
	r.do(fmt.Sprintf(`create table fresh_%[1]d (user_id text); grant select on fresh_%[1]d to authenticated; grant trigger on fresh_%[1]d to rowcast;
		insert into fresh_%[1]d values ('%[2]s');
		create policy fresh_%[1]d on realtime.messages for select to authenticated using ((select realtime.topic()) = 'fresh:%[1]d'
			and exists (select from public.fresh_%[1]d f where f.user_id = (select current_setting('request.jwt.claim.sub', true))))`, n, name))
	defer r.do(fmt.Sprintf(`drop policy fresh_%[1]d on realtime.messages; drop table fresh_%[1]d`, n))
	c := user.dial(r)
	defer c.conn.CloseNow()
	join := func() (status, response string) {
		ref := c.push("", "realtime:"+topic, "phx_join", map[string]any{"config": private()})
		if early {
			r.do(fmt.Sprintf(`delete from fresh_%d`, n))
		}
		s, answer := c.reply(ref)
		r.steps.Add(1)
		return s, string(answer)
	}
	status, response := join()
	for notNow(response) && !early {
		time.Sleep(retryPause)
		status, response = join()
	}
	switch {
	case status != "ok" && !early:
		r.violate("%s has the right to join %s: %s", name, topic, response)
		return
	case status != "ok":
		return
	case !early:
		r.do(fmt.Sprintf(`delete from fresh_%d`, n))
	}
	r.do(`select realtime.send('{}', 'after', $1)`, topic)
	end := c.wait("the end of the channel, or what must not come", func(f frame) bool {
		return isEvent(topic, "phx_close")(f) || isEvent(topic, "phx_error")(f) || broadcastOf(topic, "after")(f)
	})
	// On a machine that is very busy a table may take too long to be watched; then a timer takes its place, which is off here.
	if end.Event == "broadcast" && !strings.Contains(r.said(), fmt.Sprintf(`msg="table not watched yet" component=rights table=public.fresh_%d`, n)) {
		r.violate("%s was told on %s after its row was deleted", name, topic)
	}
}
