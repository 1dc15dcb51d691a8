package main

import (
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// allowGuests lets in who has an access that has not ended, and send who is not muted for a while.
const allowGuests = `
create table guests (user_id text primary key, until timestamptz, muted_until timestamptz);
grant select on guests to authenticated;
create function public.guest(topic text) returns boolean language plpgsql stable security definer as $$ begin
	return exists (select from public.guests g
		where g.user_id = current_setting('request.jwt.claim.sub', true) and topic = 'a' and realtime.valid_until(g.until));
exception when others then return false;
end $$;
create policy guests_receive on realtime.messages for select to authenticated using (public.guest((select realtime.topic())));
create policy guests_send on realtime.messages for insert to authenticated with check (exists (select from public.guests g
	where g.user_id = (select current_setting('request.jwt.claim.sub', true)) and not coalesce(realtime.valid_until(g.muted_until), false)));
select realtime.watch('guests', 'user_id');`

// Access that ends by itself ends open sessions, and a mute that does lets them send, with no write to the database.
func TestRightsEndByThemselves(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowGuests + `insert into guests values
		('stays', 'infinity', null), ('muted', 'infinity', now() + interval '3 s'), ('extended', now() + interval '1 hour', null), ('ends', now() + interval '1 hour', null)`)
	is := func(condition string) bool { return scalar[bool](t, r.db, "select "+condition+" from guests") }
	clients, refs := map[string]*client{}, map[string]string{}
	for _, user := range []string{"stays", "muted", "extended", "ends"} {
		c := r.dial(token(t, user, "authenticated", nil))
		ref, status, reason := c.join("a", private())
		if status != "ok" {
			t.Fatalf("%s: %s", user, reason)
		}
		clients[user], refs[user] = c, ref
	}
	send := func(user, event string) (string, string) {
		c := clients[user]
		status, response := c.reply(c.push(refs[user], "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": event, "payload": map[string]any{}}))
		return status, string(response)
	}
	r.exec(`update guests set until = now() + interval '1500 ms' where user_id = 'ends';
		update guests set until = now() + interval '5 s' where user_id = 'extended'`)
	r.exec(`update guests set until = now() + interval '1 hour' where user_id = 'extended'`)
	// From here on the database is only looked at.
	clients["ends"].wait("the end of what has ended", isEvent("a", "phx_close"))
	if !is("bool_or(user_id = 'ends' and until <= clock_timestamp())") {
		t.Error("cut before its time")
	}
	refused := 0
	r.await("the muted to be let send", func() bool {
		status, response := send("muted", "late")
		if strings.Contains(response, "SendDenied") {
			refused++
		}
		return status == "ok"
	})
	t.Logf("refused %d times before", refused)
	if !is("bool_or(user_id = 'muted' and muted_until <= clock_timestamp())") {
		t.Error("let send before its time")
	}
	r.await("the time at which the extended would have ended", func() bool {
		return is("bool_or(user_id = 'muted' and muted_until < clock_timestamp() - interval '3 s')")
	})
	if status, response := send("stays", "news"); status != "ok" {
		t.Errorf("who stays: %s", response)
	}
	clients["extended"].wait("the news", broadcastOf("a", "news"))
	for _, user := range []string{"stays", "muted", "extended"} {
		if n := count(clients[user], isEvent("a", "phx_close")); n != 0 {
			t.Errorf("%s was cut: %s", user, clients[user].said())
		}
	}
	if n := count(clients["ends"], broadcastOf("a", "news")); n != 0 {
		t.Error("who was cut heard what came after it")
	}
}

// A policy whose instant is always near does not keep the server busy, nor its members from hearing.
func TestAnInstantThatMovesIsPaced(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(`create policy moves on realtime.messages for all to authenticated using (realtime.valid_until(clock_timestamp() + interval '1 ms'))`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	ref, status, reason := c.join("a", private())
	if status != "ok" {
		t.Fatal(reason)
	}
	for range 200 { // some of them between two answers
		if status, response := c.reply(c.push(ref, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}})); status != "ok" {
			t.Fatalf("%s", response)
		}
	}
}
