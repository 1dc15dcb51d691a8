package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// withPolicies gives a database whose policies let the neighbours of a bad request through, and more.
func withPolicies(t *testing.T, statements ...string) (*pgtest.DB, *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t)
	exec(t, admin(t, db), append([]string{
		"create policy good_in on realtime.messages for select using (" + goodPolicy + ")",
		"create policy good_out on realtime.messages for insert with check (" + goodPolicy + ")",
	}, statements...)...)
	return db, server(t, db)
}

func TestPoliciesDecide(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		"create policy a on realtime.messages for select to authenticated using (topic = 'read only' and extension = 'broadcast')",
		"create policy b on realtime.messages for insert to authenticated with check (topic = 'write only')",
		"create policy c on realtime.messages for select to anon using (topic = 'lobby' and extension = 'presence')",
		"create policy d on realtime.messages for all using (topic like 'both %' or case when topic = 'unknown' then null::boolean end)",
		"create policy e on realtime.messages as restrictive for select to authenticated using (topic is distinct from 'both but unheard')",
		"create policy f on realtime.messages as restrictive for all to authenticated using (topic is distinct from 'both but barred')",
		"create policy g on realtime.messages as restrictive for insert to authenticated with check (topic is distinct from 'both but mute')",
		"create view public.rooms with (security_barrier) as select 'barrier'::text as room where current_user = 'postgres' or true",
		"grant select on public.rooms to authenticated",
		"create policy h on realtime.messages for select to authenticated using (exists (select from public.rooms where room = topic))",
	)
	for _, test := range []struct {
		name string
		ask  ask
		want string // receive, send
	}{
		{"allowed", ask{topic: "good:x"}, "yes yes"},
		{"denied", ask{topic: "other"}, "no no"},
		{"read only", ask{topic: "read only"}, "yes no"},
		{"another extension", ask{topic: "read only", extension: "presence"}, "no no"},
		{"write only", ask{topic: "write only"}, "no yes"},
		{"another role's policy", ask{topic: "lobby", extension: "presence"}, "no no"},
		{"anon", ask{topic: "lobby", extension: "presence", role: "anon"}, "yes no"},
		{"for all", ask{topic: "both x"}, "yes yes"},
		{"null", ask{topic: "unknown"}, "no no"},
		{"restrictive for select", ask{topic: "both but unheard"}, "no yes"},
		{"restrictive for all", ask{topic: "both but barred"}, "no no"},
		{"restrictive for insert", ask{topic: "both but mute"}, "yes no"},
		{"restrictive for another role", ask{topic: "both but barred", role: "anon"}, "yes yes"},
		{"service_role bypasses", ask{topic: "anything", role: "service_role"}, "yes yes"},
		{"security_barrier view", ask{topic: "barrier"}, "yes no"},
		{"quotes", ask{topic: `both '"\ {} é`}, "yes yes"},
		{"claims of somebody else", ask{topic: "good:x", claims: `{"sub": "bob"}`}, "no no"},
		{"an empty topic", ask{}, "no no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := between(t, db, conn, test.ask)
			if got.Receive+" "+got.Send != test.want || got.Code != "" {
				t.Errorf("%+v, want %s", got, test.want)
			}
			if got.Send == "no" && !strings.Contains(got.Reason, "send: new row violates row-level security policy") {
				t.Errorf("reason %q", got.Reason)
			}
		})
	}
}

// A policy sees exactly the settings that Supabase's own server makes, and a new row without content.
func TestWhatPoliciesSee(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		`create function public.seen(m realtime.messages) returns boolean language plpgsql as $$
		begin
			return m.topic = 'see' and realtime.topic() = 'see'
			and current_user = 'authenticated' and session_user = 'rowcast' and current_setting('role') = 'authenticated'
			and current_setting('request.jwt.claims', true)::jsonb = '{"sub": "eve", "role": "authenticated", "app": {"x": [1, null]}}'
			and current_setting('request.jwt.claim.sub', true) = 'eve'
			and current_setting('request.jwt.claim.role', true) = 'authenticated'
			and current_setting('request.headers', true)::jsonb ->> 'x-app' = 'chat'
			and m.event is null and m.payload is null and m.binary_payload is null and not m.private and m.id is not null;
		end $$`,
		"create policy p on realtime.messages for all using (public.seen(messages))",
	)
	got := between(t, db, conn, ask{topic: "see", claims: `{"sub": "eve", "role": "authenticated", "app": {"x": [1, null]}}`, headers: `{"x-app": "chat"}`})
	if want := (answer{Receive: "yes", Send: "yes"}); got != want {
		t.Errorf("%+v", got)
	}
	exec(t, admin(t, db), "create or replace function public.seen(m realtime.messages) returns boolean language sql as $$ select current_setting('request.jwt.claim.sub') = '' $$")
	if got := between(t, db, conn, ask{topic: "x", claims: `{"role": "authenticated"}`}); got.Receive != "yes" || got.Send != "yes" {
		t.Errorf("without sub: %+v", got)
	}
	if got := between(t, db, conn, ask{topic: "good:x", claims: `no json`}); got.Receive != "no" || got.Send != "no" || got.Code != "22P02" {
		t.Errorf("claims that are no JSON: %+v", got)
	}
}

// What no message may be stored with is not allowed either, however the probe comes to its end.
func TestChecksOfOthersHaveTheirSay(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"messages", "messages_default"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			_, conn := withPolicies(t, "create policy p on realtime.messages using (true)",
				"alter table realtime."+where+" add constraint a_rule_of_ours check (topic not like 'closed%')")
			got := decide(t, conn, ask{topic: "open"}, ask{topic: "closed"})
			if got[0].Receive+got[0].Send != "yesyes" || got[1].Send != "no" || got[1].Code != "23514" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A row without an id is not what policies are asked about: what is made of the id is there, and what no message may lack counts.
func TestColumnsOfOthersHaveTheirSay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ column, policy, want, code string }{
		"made of the id":       {"short text generated always as (left(id::text, 8)) stored", "true", "yes yes", ""},
		"wanted by the policy": {"short text generated always as (left(id::text, 8)) stored", "short is not null", "yes yes", ""},
		"not wanted by it":     {"short text generated always as (left(id::text, 8)) stored", "short is null", "no no", ""},
		"not null":             {"tenant text not null", "true", "no no", "23502"},
		"with a default":       {"tenant text not null default 'us'", "tenant = 'us'", "yes yes", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			exec(t, admin(t, db), "alter table realtime.messages add column "+test.column,
				"create policy p on realtime.messages using ("+test.policy+")")
			if got := decide(t, server(t, db), ask{topic: "x"})[0]; got.Receive+" "+got.Send != test.want || got.Code != test.code {
				t.Errorf("%+v, want %s %s", got, test.want, test.code)
			}
		})
	}
}

// Whoever might not be held by the policies is refused before they are asked, with the reason in words.
func TestUnfitRolesAreRefused(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t)
	super, bypass, owner := db.NewRole(t, "superuser"), db.NewRole(t, "bypassrls"), db.NewRole(t, "nologin")
	heir := db.NewRole(t, "inherit")
	stranger, reader, writer := db.NewRole(t, ""), db.NewRole(t, ""), db.NewRole(t, "")
	exec(t, admin(t, db),
		"grant "+owner+" to "+heir, "grant rowcast to "+owner,
		"grant "+strings.Join([]string{super, bypass, reader, writer}, ", ")+" to rowcast",
		"grant select on realtime.messages to "+reader, "grant insert on realtime.messages to "+writer)

	for _, test := range []struct{ name, role, want, code, reason string }{
		{"superuser", super, "no no", "42501", "is a superuser"},
		{"bypasses", bypass, "no no", "42501", "is not in BYPASS_ROLES"},
		{"the owner itself", "rowcast", "no no", "42501", "owns realtime.messages"},
		{"member of a member of the owner", heir, "no no", "42501", "owns realtime.messages"},
		{"none", "none", "no no", "42501", "does not exist"},
		{"empty", " ", "no no", "42501", "does not exist"},
		{"unknown", "nobody_here", "no no", "42501", "does not exist"},
		{"too long a name", strings.Repeat("x", 100), "no no", "42501", "does not exist"},
		{"injection", `authenticated"; reset role; --`, "no no", "42501", "does not exist"},
		{"not granted to the server", stranger, "no no", "42501", "permission denied to set role"},
		{"may not insert", reader, "yes no", "", "send: permission denied for table messages"},
		{"may not select", writer, "no yes", "42501", "receive: permission denied for table messages"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := between(t, db, conn, ask{topic: "good:x", role: test.role})
			if got.Receive+" "+got.Send != test.want || got.Code != test.code || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("%+v, want %s %s: %s", got, test.want, test.code, test.reason)
			}
		})
	}
}

// rawDecide asks with arguments that no server of ours sends.
func rawDecide(t *testing.T, conn *pgx.Conn, arguments string) []string {
	t.Helper()
	return values[string](t, conn, "select concat_ws(' ', receive, send, code, reason) from realtime._decide("+arguments+")")
}

// A null anywhere is no right, and no trouble for the request beside it.
func TestNullsAreRefused(t *testing.T) {
	t.Parallel()
	_, conn := withPolicies(t)
	const good = `{"sub": "ann"}`
	for _, test := range []struct{ name, topic, extension, role, claims, bypass, want string }{
		{"role", "'good:x'", "'broadcast'", "null", "'" + good + "'", "'{service_role}'", "f f 42501 there is no role"},
		{"bypass roles", "'good:x'", "'broadcast'", "'service_role'", "'" + good + "'", "null", "f f 42501 role service_role bypasses row level security and is not in BYPASS_ROLES"},
		{"a null among the bypass roles", "'good:x'", "'broadcast'", "'service_role'", "'" + good + "'", "'{anon,null}'", "f f 42501 role service_role bypasses row level security and is not in BYPASS_ROLES"},
		{"claims", "'good:x'", "'broadcast'", "'authenticated'", "null", "'{service_role}'", "f f"},
		{"topic", "null", "'broadcast'", "'authenticated'", "'" + good + "'", "'{service_role}'", "f f 23502"},
		{"extension", "'good:x'", "null", "'authenticated'", "'" + good + "'", "'{service_role}'", "f f 23502"},
	} {
		for _, first := range []bool{true, false} {
			pair := func(bad, good string) string {
				if first {
					return "array[" + bad + ", " + good + "]"
				}
				return "array[" + good + ", " + bad + "]"
			}
			got := rawDecide(t, conn, strings.Join([]string{
				pair(test.topic, "'good:y'"), pair(test.extension, "'broadcast'"), pair(test.role, "'authenticated'"),
				pair(test.claims, "'"+good+"'"), "array['{}', '{}']", test.bypass}, ", "))
			bad, neighbour := got[0], got[1]
			if !first {
				bad, neighbour = neighbour, bad
			}
			if !strings.HasPrefix(bad, test.want) || neighbour != "t t" {
				t.Errorf("null %s, first %t: %q, neighbour %q", test.name, first, bad, neighbour)
			}
		}
	}
	if got := rawDecide(t, conn, "array['good:x'], array['broadcast'], array[]::text[], array['"+good+"'], array['{}'], '{service_role}'"); got[0][:3] != "f f" {
		t.Errorf("roles missing: %q", got)
	}
}

func TestSwitchedOffSecurityRefusesEveryone(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t)
	want := func(code, reason string) {
		t.Helper()
		for _, a := range []ask{allowed, {topic: "x", role: "service_role"}, {topic: "x", role: "anon"}} {
			var got []answer
			leavesNothing(t, db, conn, func() { got = decide(t, conn, a) })
			if got[0].Receive != "no" || got[0].Send != "no" || got[0].Code != code || !strings.Contains(got[0].Reason, reason) {
				t.Errorf("%s: %+v, want %s: %s", a.role, got[0], code, reason)
			}
		}
	}
	a := admin(t, db)
	exec(t, a, "alter table realtime.messages disable row level security")
	want("42501", "row level security is switched off")
	exec(t, a, "alter table realtime.messages enable row level security, force row level security")
	want("42501", "FORCE ROW LEVEL SECURITY")
	exec(t, a, "alter table realtime.messages no force row level security")
	between(t, db, conn, allowed)

	// row_security = off turns policies into errors. The server's role or database may have been given it.
	exec(t, a, "alter database "+db.Name+" set row_security = off")
	conn = server(t, db)
	if got := decide(t, conn, allowed)[0]; got.Receive != "no" || got.Send != "no" || !strings.Contains(got.Reason, "row-level security") {
		t.Errorf("row_security off: %+v", got)
	}
	exec(t, a, "alter database "+db.Name+" reset row_security", "revoke usage on schema realtime from public")
	conn = server(t, db)
	if got := decide(t, conn, allowed)[0]; got.Receive != "no" || got.Send != "no" || !strings.Contains(got.Reason, "permission denied for schema realtime") {
		t.Errorf("no usage of the schema: %+v", got)
	}
}

// A table in a policy that the role may not read makes the whole question an error, as it would for the user's own query.
func TestMissingGrantInsidePolicy(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t, "create table public.orgs (id int)",
		"create policy p on realtime.messages for select to authenticated using (topic = 'x' and exists (select from public.orgs))")
	got := decide(t, conn, ask{topic: "x"}, ask{topic: "good:y", role: "anon"})
	want := []answer{
		{Receive: "no", Send: "no", Code: "42501", Reason: `receive: permission denied for table orgs; send: new row violates row-level security policy for table "messages"`},
		{Receive: "yes", Send: "yes"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	exec(t, admin(t, db), "grant select on public.orgs to authenticated")
	between(t, db, conn, ask{topic: "x"})
}

// The send side takes no transaction id, so that asking costs no WAL. The receive side's row takes one; here a trigger
// refuses it before it is stored.
func TestSendSideTakesNoTransactionID(t *testing.T) {
	t.Parallel()
	_, conn := withPolicies(t,
		"create function public.no_probe() returns trigger language plpgsql as $$ begin raise 'no'; end $$",
		"create trigger t before insert on realtime.messages for each row when (new.inserted_at < '0001-01-02') execute function public.no_probe()")
	exec(t, conn, "begin")
	got := decide(t, conn, allowed, allowed, ask{topic: "denied"})
	if got[0].Receive != "no" || got[0].Send != "yes" || got[1].Send != "yes" || got[2].Send != "no" {
		t.Errorf("%+v", got)
	}
	if value[bool](t, conn, "select pg_current_xact_id_if_assigned() is not null") {
		t.Error("a transaction id was taken")
	}
	exec(t, conn, "rollback")
}

// What policies call finds names by the default of the server's session, and not by what was set in it since. What we call our
// own must depend on neither.
func TestSearchPathIsThePolicies(t *testing.T) {
	t.Parallel()
	db, _ := withPolicies(t,
		"create schema app", "create function app.may() returns boolean language sql as 'select true'", "grant usage on schema app to public",
		`create function public.open() returns boolean language plpgsql as $$ begin return may(); end $$`,
		"create policy p on realtime.messages for all using (topic = 'x' and public.open())")
	inherit := func(path string) *pgx.Conn {
		exec(t, admin(t, db), fmt.Sprintf("alter role %s in database %s set search_path = %s", pgtest.ServerRole, db.Name, path))
		return server(t, db)
	}
	const can, said = `select realtime.can('send', 'x', role => 'authenticated')`, `select value from realtime.explain('x', '{"sub": "ann"}', 'authenticated') where name = 'p' and action = 'send' and extension = 'broadcast'`
	conn := inherit("app, public")
	for _, path := range []string{"app, public", "realtime", "''"} {
		exec(t, conn, "set search_path = "+path)
		if got := between(t, db, conn, ask{topic: "x"}); got.Receive != "yes" || got.Send != "yes" {
			t.Errorf("under %s: %+v", path, got)
		}
		if got := value[string](t, conn, said); got != "true" || !value[bool](t, conn, can) {
			t.Errorf("under %s explain() says %s", path, got)
		}
	}
	conn = inherit("realtime") // where names of ours print without their schema
	for _, path := range []string{"realtime", "app, public"} {
		exec(t, conn, "set search_path = "+path)
		if got := between(t, db, conn, ask{topic: "x"}); got.Code != "42883" {
			t.Errorf("under %s: %+v, want: no function may()", path, got)
		}
		if got := value[string](t, conn, said); got != "error 42883: function may() does not exist" || value[bool](t, conn, can) {
			t.Errorf("under %s explain() says %s", path, got)
		}
	}
}
