package migrations_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// reference asks in the plainest way: it stores a row and looks for it as the user, and it inserts one as the user.
const reference = `
create function public.reference(topic text, extension text, role text, claims text) returns text language plpgsql as $$
declare
	probe uuid := gen_random_uuid();
	receive boolean;
	send boolean := false;
begin
	begin
		insert into realtime.messages (id, topic, extension) values (probe, reference.topic, reference.extension);
		perform realtime._become(reference.topic, reference.role, reference.claims, '{}');
		select exists (select id, inserted_at from realtime.messages where id = probe and inserted_at is not null) into receive;
		raise 'undo';
	exception when assert_failure or others then null;
	end;
	begin
		perform realtime._become(reference.topic, reference.role, reference.claims, '{}');
		insert into realtime.messages (id, topic, extension) values (probe, reference.topic, reference.extension);
		send := true;
		raise 'undo';
	exception when assert_failure or others then null;
	end;
	return case when receive then 'yes' else 'no' end || case when send then ' yes' else ' no' end;
end $$;
create table public.members (sub text, room text, until timestamptz);
insert into public.members values ('ann', 'a', now() + interval '1 hour'), ('ann', 'b', now() - interval '1 hour'),
	('ann', 'a', now() + interval '2 hours'), ('bob', 'b', 'infinity'), ('bob', 'c', null);
create table public.secrets (x int);
insert into public.secrets values (1);
grant select on public.members to authenticated, anon;
grant select on public.secrets to anon;
create function public.sub() returns text language sql stable as $$ select current_setting('request.jwt.claim.sub', true) $$;
create function public.member(room text) returns boolean language sql stable security definer as
	$$ select exists (select from public.members m where m.sub = public.sub() and m.room = member.room) $$;
create function public.raises(topic text) returns boolean language plpgsql as $$ begin if topic = 'c' then raise 'no'; end if; return true; end $$;
create function public.asserts(topic text) returns boolean language plpgsql as $$ begin assert topic <> 'd', 'no'; return true; end $$;`

// expressions that policies are made of.
var expressions = []string{
	"true", "true", "false", "null::boolean", "topic = 'a'", "topic <> 'b'", "topic in ('a', 'c', 'd')", "topic = realtime.topic()",
	"extension = 'broadcast'", "extension = 'presence'", "public.sub() = 'ann'", "(select public.sub()) = 'bob'", "current_user = 'anon'",
	"public.raises(topic)", "public.asserts((select realtime.topic()))", "1 / (length(topic) - 1) is null", "public.member(topic)",
	"exists (select from public.members m where m.sub = public.sub() and m.room = topic)",
	"topic in (select room from public.members where sub = public.sub())", "exists (select from public.secrets)",
	"id is not null", "id is null", "row_to_json(messages) ->> 'id' is null", "payload is null and event is null", "not private",
	"realtime.valid_until(now() + interval '1 hour')", "realtime.valid_until(now() - interval '1 hour')", "not realtime.valid_until('2999-01-01')",
	"exists (select from public.members m where m.sub = public.sub() and m.room = topic and realtime.valid_until(m.until))",
	"not exists (select from public.members m where m.sub = public.sub() and realtime.valid_until(m.until))",
}

func expression(rng *rand.Rand) string {
	e := expressions[rng.IntN(len(expressions))]
	switch rng.IntN(6) {
	case 0:
		return "(" + e + ") and (" + expression(rng) + ")"
	case 1:
		return "(" + e + ") or (" + expression(rng) + ")"
	}
	return e
}

func oneOf(rng *rand.Rand, list ...string) string { return list[rng.IntN(len(list))] }

// randomPolicies replaces all policies and grants on messages.
func randomPolicies(rng *rand.Rand) string {
	var b strings.Builder
	b.WriteString(`do $$ declare p name; begin
		for p in select polname from pg_policy where polrelid = 'realtime.messages'::regclass loop
			execute format('drop policy %I on realtime.messages', p);
		end loop;
	end $$;
	revoke all on realtime.messages from anon, authenticated, service_role;
	`)
	for _, role := range []string{"anon", "authenticated", "service_role"} {
		grant := "select, insert"
		if rng.IntN(4) == 0 {
			grant = oneOf(rng, "select", "insert", "select (id), insert", "select (id, inserted_at), insert", "select (topic), insert",
				"select, insert (id, topic, extension)", "select, insert (topic, extension)", "references")
		}
		fmt.Fprintf(&b, "grant %s on realtime.messages to %s;\n", grant, role)
	}
	for i := range 1 + rng.IntN(6) {
		kind := oneOf(rng, "permissive", "permissive", "restrictive")
		command := oneOf(rng, "all", "select", "insert")
		fmt.Fprintf(&b, "create policy p%d on realtime.messages as %s for %s to %s", i, kind, command,
			oneOf(rng, "public", "public", "authenticated", "anon", "anon, authenticated"))
		if command != "insert" {
			fmt.Fprintf(&b, " using (%s)", expression(rng))
		}
		if command == "insert" || command == "all" && rng.IntN(2) == 0 {
			fmt.Fprintf(&b, " with check (%s)", expression(rng))
		}
		b.WriteString(";\n")
	}
	return b.String()
}

// Whatever the policies and grants are, the decision is what a row and an insert would have shown.
func TestDecisionsAreWhatTheUserCouldDo(t *testing.T) {
	t.Parallel()
	cases := 2400
	if n, err := strconv.Atoi(os.Getenv("DECISION_CASES")); err == nil {
		cases = n
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	db := pgtest.New(t)
	a := admin(t, db)
	exec(t, a, reference)
	conn := server(t, db)
	seen := map[string]int{}
	var asks []ask
	for _, role := range []string{"authenticated", "anon", "service_role"} {
		for _, sub := range []string{"ann", "bob"} {
			for _, topic := range []string{"a", "b", "c", "d"} {
				for _, extension := range []string{"broadcast", "presence"} {
					asks = append(asks, ask{topic: topic, extension: extension, role: role, claims: fmt.Sprintf(`{"sub": %q}`, sub)})
				}
			}
		}
	}
	for done := 0; done < cases; done += len(asks) {
		policies := randomPolicies(rng)
		exec(t, a, policies)
		rng.Shuffle(len(asks), func(i, j int) { asks[i], asks[j] = asks[j], asks[i] })
		wrong := 0
		for i, got := range decide(t, conn, asks...) {
			q := asks[i]
			want := value[string](t, conn, "select public.reference($1, $2, $3, $4)", q.topic, q.extension, q.role, q.claims)
			seen[want]++
			if got.Receive+" "+got.Send != want {
				t.Errorf("seed %d: %+v: %+v, want %s", seed, q, got, want)
				wrong++
			}
		}
		if wrong > 0 {
			t.Fatal(policies)
		}
	}
	t.Logf("%v", seen)
	for _, verdict := range []string{"yes yes", "yes no", "no yes", "no no"} {
		if seen[verdict] < cases/100 {
			t.Errorf("%d times %s: the test does not try that", seen[verdict], verdict)
		}
	}
	if rows := value[int](t, a, "select count(*) from realtime.messages"); rows != 0 {
		t.Errorf("%d rows stay", rows)
	}
}
