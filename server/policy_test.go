package main

import (
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// A policy may do anything. Whatever it does, its channel is refused with the usual words, and the channel beside it on
// the same socket never notices.
func TestHostilePoliciesHarmOnlyTheirChannel(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t) // its own: while roles change, a verdict that takes as long as a slow one does not count
	r := start(t, db, nil)
	r.exec(allowMembers + `
		create table other (n int constraint messages_probe check (n > 0));
		grant insert on other to authenticated;
		create function hostile(topic text) returns boolean language plpgsql as $$ begin
			case topic
				when 'check' then raise check_violation using schema = 'public', table = 'x', constraint = 'x';
				when 'other_check' then insert into public.other values (0);
				when 'denied' then raise insufficient_privilege;
				when 'zero' then return 1 / 0 = 1;
				when 'sleep' then perform pg_sleep(30);
				when 'assert' then assert false;
				when 'recursion' then return public.hostile(topic);
				when 'own_codes' then raise exception using errcode = 'RB001';
				when 'role' then perform set_config('role', 'service_role', true); return false;
				when 'claims' then perform set_config('request.jwt.claim.sub', 'u1', false); return false;
				when 'probe' then perform set_config('realtime.probe', 'off', true); return false;
				else return false;
			end case;
			return true;
		end $$;
		create policy hostile_receive on realtime.messages for select to authenticated using (public.hostile((select realtime.topic())));
		create policy hostile_send on realtime.messages for insert to authenticated with check (public.hostile((select realtime.topic())));
		insert into members values ('u1', 'good');`)
	topics := []string{"check", "other_check", "denied", "zero", "sleep", "assert", "recursion", "own_codes", "role", "claims", "probe"}
	c := r.dial(token(t, "u1", "authenticated", nil))
	good, status, reason := c.join("good", private())
	if status != "ok" {
		t.Fatalf("the good channel was refused: %s", reason)
	}
	refs := map[string]string{}
	for _, topic := range topics { // all at once: they share batches with each other and with the good one
		refs[topic] = c.push("", "realtime:"+topic, "phx_join", map[string]any{"config": private()})
	}
	second := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := second.join("good", private()); status != "ok" {
		t.Errorf("a neighbour in the same batches was refused: %s", reason)
	}
	for _, topic := range topics {
		status, response := c.reply(refs[topic])
		want := "Unauthorized: You do not have permissions to read from this Channel topic: " + topic
		if status != "error" || !strings.Contains(string(response), want) {
			t.Errorf("%s: %s %s, want %q", topic, status, response, want)
		}
	}
	ref := c.push(good, "realtime:good", "broadcast", map[string]any{"type": "broadcast", "event": "still", "payload": map[string]any{}})
	if status, response := c.reply(ref); status != "ok" {
		t.Errorf("the good channel cannot send any more: %s", response)
	}
	second.wait("the broadcast", broadcastOf("good", "still"))
	if kept := scalar[int](t, r.db, `select (select count(*) from realtime.messages) + (select count(*) from other)`); kept != 0 {
		t.Errorf("%d rows were kept", kept)
	}
}

// What can be wrong with the table itself refuses every private channel, and public ones go on.
func TestBlindedDecisionsAreRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, break_, mend string }{
		{"row level security off", `alter table realtime.messages disable row level security`, `alter table realtime.messages enable row level security`},
		{"forced on the owner", `alter table realtime.messages force row level security`, `alter table realtime.messages no force row level security`},
		{"grant missing", `revoke select, insert on realtime.messages from authenticated`, `grant select, insert on realtime.messages to authenticated`},
		{"grant inside a policy missing", `revoke select on members from authenticated`, `grant select on members to authenticated`},
	}
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	for _, tt := range tests {
		r.exec(tt.break_)
		c := r.dial(token(t, "u1", "authenticated", nil))
		if _, status, reason := c.join("a", private()); status != "error" || !strings.HasPrefix(reason, "Unauthorized: ") {
			t.Errorf("%s: %s %s", tt.name, status, reason)
		}
		if _, status, reason := c.join("open", map[string]any{}); status != "ok" {
			t.Errorf("%s: public channel: %s", tt.name, reason)
		}
		r.exec(tt.mend)
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Errorf("%s, mended: %s", tt.name, reason)
		}
	}
}
