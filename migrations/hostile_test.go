package migrations_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/pgtest"
)

// A policy may call any function, and a function may do anything. It decides about its own request and touches no other.
func TestHostilePolicyFunctions(t *testing.T) {
	t.Parallel()
	const (
		both   = "yes yes"
		none   = "no no"
		raised = "raise exception using errcode = "
		forged = ", schema = 'realtime', table = '_messages_probe', constraint = 'messages_probe'"
		insert = "insert into realtime.messages (topic, extension"
	)
	for _, test := range []struct {
		name, body string // of a plpgsql function that gets topic m.topic; without a return of its own it ends in true
		definer    bool
		want, code string
		checked    *answer // where a policy looks at the id, so that the probe has one and dies on our CHECK; nil: the same
	}{
		{name: "raises check_violation", body: raised + "'23514';", want: none, code: "23514"},
		{name: "forges our own violation", body: raised + "'23514'" + forged + ";", want: none, code: "23514"},
		{name: "forges that of another partition", body: raised + "'23514'" + strings.Replace(forged, "_messages_probe", "messages_default", 1) + ";", want: none, code: "23514"},
		{name: "fails the CHECK of another table", body: "insert into public.positive values (-1);", want: none, code: "23514"},
		{name: "raises not_null_violation", body: raised + "'23502';", want: none, code: "23502"},
		{name: "forges the want of an id", body: raised + "'23502', schema = 'realtime', table = 'messages_default', column = 'id';", want: none, code: "23502"},
		{name: "inserts a message without an id where it may", body: "perform set_config('realtime.topic', 'good:a', true); insert into realtime.messages (id, topic, extension) values (null, 'good:a', 'broadcast');", want: none, code: "23502"},
		{name: "inserts one as owner", definer: true, body: "insert into realtime.messages (id, topic, extension) values (null, topic, 'broadcast');", want: none, code: "23502"},
		{name: "inserts one by lines that read as our context", definer: true, body: "execute E'insert into realtime.messages (id, topic, extension)\\n values (null, $1, ''broadcast'') -- realtime._decide(' using topic;", want: none, code: "23502"},
		{name: "inserts one in a function named as ours", definer: true, body: "perform hostile.own_decide(topic);", want: none, code: "23502"},
		{name: "fails another messages_probe", body: "insert into other.messages_default values (-1);", want: none, code: "23514"},
		{name: "fails it as another role", definer: true, body: "insert into other.messages_default values (-1);", want: none, code: "23514"},
		{name: "fails a domain's CHECK", body: "perform (-1)::other.positive;", want: none, code: "23514"},
		{name: "raises insufficient_privilege", body: raised + "'42501';", want: none, code: "42501"},
		{name: "divides by zero", body: "perform 1 / (length(topic) - length(topic));", want: none, code: "22012"},
		{name: "raises RB001", body: raised + "'RB001';", want: none, code: "RB001"},
		{name: "raises RB002", body: raised + "'RB002';", want: none, code: "RB002"},
		{name: "fails an assertion", body: "assert false;", want: none, code: "P0004"},
		{name: "recurses", body: "return hostile.recurses(topic);", want: none, code: "54001"},
		{name: "raises without end of message", body: "raise '%', repeat('x', 100000);", want: none, code: "P0001"},
		{name: "answers null", body: "return null;", want: none},
		{name: "becomes service_role", body: "perform set_config('role', 'service_role', true);", want: both},
		{name: "becomes service_role for the session", body: "perform set_config('role', 'service_role', false);", want: both},
		{name: "becomes the server", body: "perform set_config('role', 'none', false);", want: both},
		{name: "resets everything", body: "reset role; reset request.jwt.claims; reset realtime.topic; set search_path = hostile;", want: both},
		{name: "leaks claims", body: `perform set_config('request.jwt.claims', '{"sub": "eve"}', false), set_config('request.jwt.claim.sub', 'eve', false);`, want: both},
		{name: "leaks a topic", body: "perform set_config('realtime.topic', 'bad', false);", want: both},
		{name: "writes a row", body: "insert into public.seen values (topic);", want: both},
		{name: "creates a table", body: "create temp table pg_inherits (inhparent regclass, inhrelid regclass) on commit drop; drop table pg_inherits;", want: both},
		{name: "notifies", body: `perform pg_notify('realtime', 'r {}');`, want: both},
		{name: "switches the probe off", body: "perform set_config('realtime.probe', '', false);", want: both, checked: &answer{Receive: "yes", Send: "no", Code: "RB001"}},
		{name: "switches it to another row", body: "perform set_config('realtime.probe', gen_random_uuid() || ' broadcast bad', true);", want: both, checked: &answer{Receive: "yes", Send: "no", Code: "RB001"}},
		{name: "broadcasts and allows", body: "perform realtime.send('{}', 'e', 'good:a');", want: both},
		{name: "broadcasts and denies", body: "perform realtime.send('{}', 'e', 'good:a'); return false;", want: none},
		{name: "broadcasts as owner and denies", definer: true, body: "perform realtime.send('{}', 'e', 'any'); return false;", want: none},
		{name: "broadcasts as owner to itself", definer: true, body: "perform realtime.send('{}', 'e', topic); return false;", want: none},
		{name: "broadcasts where it may not", body: "perform realtime.send('{}', 'e', 'denied');", want: none, code: "42501"},
		{name: "broadcasts to its own topic", body: "perform realtime.send('{}', 'e', topic);", want: none, code: "54001"},
		{name: "inserts an empty message where it may not", body: insert + ") values ('good:a', 'broadcast'); return false;", want: none, code: "42501"},
		{name: "inserts an empty message and denies", body: "perform set_config('realtime.topic', 'good:a', true); " + insert + ") values ('good:a', 'broadcast'); return false;", want: none},
		{name: "the same as owner", definer: true, body: insert + ") values (topic, 'broadcast'); return false;", want: none},
		{name: "inserts an empty message and allows", definer: true, body: insert + ") values ('good:a', 'broadcast');", want: both},
		{name: "inserts with the probe's id", definer: true, body: insert + ", id) values (topic, 'broadcast', coalesce(nullif(split_part(current_setting('realtime.probe', true), ' ', 1), '')::uuid, gen_random_uuid())); return false;", want: none, code: "23514"},
		{name: "the same in our words", definer: true, body: "insert into realtime.messages (id, topic, extension) values (coalesce(nullif(split_part(current_setting('realtime.probe', true), ' ', 1), '')::uuid, gen_random_uuid()), topic, 'broadcast'); return false;", want: none, code: "23514"},
		{name: "swallows its errors", body: "begin perform 1 / (length(topic) - length(topic)); exception when others then return false; end;", want: none},
		{name: "empties messages", definer: true, body: "delete from realtime.messages;", want: both},
		{name: "asks for a right itself", definer: true, body: "return realtime.can('receive', 'good:a', claims => '{\"sub\": \"ann\", \"role\": \"authenticated\"}');", want: none},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			mode := ""
			if test.definer {
				mode = " security definer"
			}
			db, conn := withPolicies(t,
				"create schema hostile", "create schema other", "grant usage on schema hostile, other to public",
				"create table public.positive (x int check (x > 0))", "create table public.seen (topic text)",
				"create table other.messages_default (x int constraint messages_probe check (x > 0))",
				"create domain other.positive as int constraint messages_probe check (value > 0)",
				"grant all on public.positive, public.seen, other.messages_default to authenticated",
				"create function hostile.own_decide(topic text) returns void language plpgsql as $$ begin insert into realtime.messages (id, topic, extension) values (null, topic, 'broadcast'); end $$",
				"create function hostile.recurses(topic text) returns boolean language plpgsql"+mode+" as $$ begin "+test.body+" return true; end $$",
				"create policy bad_in on realtime.messages for select using (case when topic = 'bad' then hostile.recurses(topic) end)",
				"create policy bad_out on realtime.messages for insert with check (case when topic = 'bad' then hostile.recurses(topic) end)")
			got := between(t, db, conn, ask{topic: "bad"})
			if got.Receive+" "+got.Send != test.want || got.Code != test.code {
				t.Errorf("%+v, want %s %s", got, test.want, test.code)
			}
			exec(t, admin(t, db), "create policy looks on realtime.messages using (id is null)")
			want, code := test.want, test.code
			if c := test.checked; c != nil {
				want, code = c.Receive+" "+c.Send, c.Code
			}
			if got := between(t, db, conn, ask{topic: "bad"}); got.Receive+" "+got.Send != want || got.Code != code {
				t.Errorf("with a policy that looks at the id: %+v, want %s %s", got, want, code)
			}
			if rows := value[int](t, admin(t, db), "select (select count(*) from public.seen) + (select count(*) from public.positive)"); rows > 0 {
				t.Errorf("%d rows stay", rows)
			}
		})
	}
}

// The timer fires once a statement. What comes after a request that ran into it is not asked: it would run without one.
func TestSlowPolicies(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		"create function public.slow() returns boolean language plpgsql as $$ begin perform pg_sleep(600); return true; end $$",
		"create policy slow_in on realtime.messages for select using (case when topic = 'slow in' then public.slow() else topic = 'slow out' end)",
		"create policy slow_out on realtime.messages for insert with check (case when topic = 'slow out' then public.slow() end)",
		"create function public.gives_up() returns boolean language plpgsql as $$ begin raise exception using errcode = '57014'; end $$",
		"create function public.stubborn() returns boolean language plpgsql as $$ begin perform public.slow(); return true; exception when query_canceled then return true; end $$",
		"create policy stubborn_in on realtime.messages for select using (topic like 'stubborn %')",
		"create policy stubborn_out on realtime.messages for insert with check (case when topic like 'stubborn %' then public.stubborn() and (topic = 'stubborn out' or topic = 'stubborn until' and realtime.valid_until(now() + interval '1 hour')) end)",
		"create policy gives_up on realtime.messages for select using (case when topic = 'gives up' then public.gives_up() end)")
	exec(t, conn, "set statement_timeout = '300ms'")
	yes := answer{Receive: "yes", Send: "yes"}
	for _, test := range []struct {
		name string
		asks []ask
		want []answer
	}{
		{"receive", []ask{allowed, {topic: "slow in"}, allowed}, []answer{yes, {Code: "57014", Reason: "receive: canceling statement due to statement timeout"}}},
		{"send", []ask{allowed, {topic: "slow out"}, allowed}, []answer{yes, {Code: "57014", Reason: "receive or send: canceling statement due to statement timeout"}}},
		{"two", []ask{{topic: "slow in"}, {topic: "slow in"}}, []answer{{Code: "57014", Reason: "receive: canceling statement due to statement timeout"}}},
		{"raised by hand", []ask{{topic: "gives up"}, allowed}, []answer{{Code: "57014", Reason: "receive: 57014"}}},
		// Whoever swallows the cancellation has used up the timer as well.
		{"swallowed", []ask{allowed, {topic: "stubborn in"}, allowed}, []answer{yes, {Code: "57014", Reason: "send: the policies have used up statement_timeout"}}},
		{"swallowed by send", []ask{{topic: "stubborn out"}, {topic: "slow in"}}, []answer{yes}},
		{"swallowed before an instant", []ask{{topic: "stubborn until"}, allowed}, []answer{{Code: "57014", Reason: "receive or send: the policies have used up statement_timeout"}}},
		{"none", []ask{allowed, allowed}, []answer{yes, yes}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []answer
			leavesNothing(t, db, conn, func() { got = decide(t, conn, test.asks...) })
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A user's own trigger on messages works on the probe rows too.
func TestTriggersOnMessages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body, when string
		topic            string
		want, code, why  string
	}{
		{name: "raises", body: "raise 'not today';", want: "no no", code: "P0001", why: "receive: not today; send: not today"},
		{name: "swallows the row", body: "return null;", want: "no no", code: "RB001", why: "receive: a trigger on realtime.messages keeps the probe row out"},
		{name: "raises for empty rows only in year 1", body: "if new.inserted_at < '2000-01-01' then raise 'too old'; end if; return new;", topic: "good:b", want: "no yes", code: "P0001", why: "receive: too old"},
		{name: "sets the time", body: "new.inserted_at := now(); return new;", topic: "good:b", want: "no yes", code: "0A000", why: "receive: moving row to another partition"},
		{name: "adds an event", body: "new.event := 'e'; new.private := true; return new;", topic: "good:b", want: "yes yes"},
		// What is asked for is judged, not what the trigger makes of it.
		{name: "changes a forbidden topic to an allowed one", body: "new.topic := 'good:a'; return new;", want: "no no", code: "RB001", why: "receive: no policy lets this role see the topic; send: a trigger or a policy changes the probe"},
		{name: "changes an allowed topic to a forbidden one", body: "new.topic := 'bad'; return new;", topic: "good:b", want: "yes no", why: "send: new row violates"},
		{name: "changes a forbidden extension to an allowed one", body: "new.extension := 'broadcast'; return new;", topic: "only broadcast", want: "no no", code: "RB001", why: "receive: no policy lets this role see the topic; send: a trigger or a policy changes the probe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.topic == "" {
				test.topic = "bad"
			}
			db, conn := withPolicies(t,
				"create policy more on realtime.messages for all using (topic in ('only broadcast', 'good:a') and extension = 'broadcast')",
				"create function public.meddle() returns trigger language plpgsql as $$ begin "+test.body+" return new; end $$",
				"create trigger meddle before insert on realtime.messages for each row when (new.topic not in ('good:room')) execute function public.meddle()")
			a := ask{topic: test.topic}
			if test.topic == "only broadcast" {
				a.extension = "presence"
			}
			got := between(t, db, conn, a)
			if got.Receive+" "+got.Send != test.want || got.Code != test.code || !strings.HasPrefix(got.Reason, test.why) {
				t.Errorf("%+v, want %s %s: %s", got, test.want, test.code, test.why)
			}
		})
	}
}

// A rule that writes elsewhere, with a CHECK named as ours, runs under our own statement.
func TestRuleOnMessages(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, admin(t, db),
		"create table public.audit (topic text, constraint messages_probe check (topic <> 'bad'))", "grant insert on public.audit to public",
		"create rule audit as on insert to realtime.messages do instead insert into public.audit values (new.topic)")
	conn := server(t, db)
	if got := decide(t, conn, ask{topic: "bad"})[0]; got.Receive != "no" || got.Send != "no" {
		t.Errorf("%+v", got)
	}
}

// A rule that writes into a partition comes to our CHECK past all policies: who may insert so still may not receive.
func TestRuleIntoAPartition(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, admin(t, db), `create rule direct as on insert to realtime.messages
		do instead insert into realtime.messages_default values (new.*) returning messages_default.*`)
	if got := decide(t, server(t, db), ask{topic: "bad"})[0]; got.Receive != "no" {
		t.Errorf("%+v", got)
	}
}

// A rule that only takes notes changes no right.
func TestRuleBesideTheProbe(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t, "create policy one_way on realtime.messages for select using (topic = 'read only')",
		"create table public.audit (topic text)", "grant insert on public.audit to public",
		"create rule audit as on insert to realtime.messages do also insert into public.audit values (new.topic)")
	for topic, want := range map[string]string{"good:x": "yes yes", "read only": "yes no", "bad": "no no"} {
		if got := between(t, db, conn, ask{topic: topic}); got.Receive+" "+got.Send != want {
			t.Errorf("%s: %+v, want %s", topic, got, want)
		}
	}
}

// Postgres believes a function that calls itself immutable, and keeps in a plan what it said to the first who asked.
func TestFunctionsThatAreNotImmutable(t *testing.T) {
	t.Parallel()
	for name, function := range map[string]string{
		"claims":  "language sql immutable as $$ select current_setting('request.jwt.claim.sub', true) = 'ann' $$",
		"parsed":  "language sql immutable begin atomic select current_setting('request.jwt.claim.sub', true) = 'ann'; end",
		"plpgsql": "language plpgsql immutable as $$ begin return current_setting('request.jwt.claim.sub', true) = 'ann'; end $$",
		"rows":    "language sql immutable as $$ select exists (select from public.members where user_id = 'ann') and current_setting('request.jwt.claim.sub', true) = 'ann' $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			exec(t, admin(t, db), "create table public.members (user_id text)", "insert into public.members values ('ann')", "grant select on public.members to public",
				"create function public.trusted() returns boolean "+function,
				"create policy p on realtime.messages using (public.trusted() and topic = 'x') with check (public.trusted() and topic <> 'read only')",
				"create policy read_only on realtime.messages for select using (public.trusted() and topic = 'read only')")
			conn := server(t, db)
			for _, topic := range []string{"x", "read only"} {
				ann, eve := ask{topic: topic, claims: `{"sub": "ann"}`}, ask{topic: topic, claims: `{"sub": "eve"}`}
				for range 3 {
					got := decide(t, conn, ann, ann, ann, ann, ann, ann, eve)
					if got[5].Receive != "yes" || got[6].Receive != "no" || got[6].Send != "no" {
						t.Errorf("%s: ann %+v, eve %+v", topic, got[5], got[6])
					}
				}
			}
			exec(t, admin(t, db), "delete from public.members")
			if got := decide(t, conn, ask{topic: "x"}); name == "rows" && got[0].Receive != "no" {
				t.Errorf("a right outlives its row: %+v", got)
			}
		})
	}
}

// A row that cannot be made the one that was asked about is not looked for.
func TestTriggerThatInsists(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		"create function public.insist() returns trigger language plpgsql as $$ begin if new.topic = 'bad' then new.topic := 'good:a'; end if; return new; end $$",
		"create trigger insist before insert or update on realtime.messages for each row execute function public.insist()",
		"create policy good on realtime.messages for select using (topic = 'good:a')")
	if got := between(t, db, conn, ask{topic: "bad"}); got.Receive != "no" || got.Send != "no" || !strings.Contains(got.Reason, "receive: a trigger on realtime.messages keeps the probe row out") {
		t.Errorf("%+v", got)
	}
}

// What a policy says of a row that is not there yet does not count where it is an error: the row is looked for.
func TestPolicyThatLooksForTheRow(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		`create function public.stored(message uuid) returns boolean language plpgsql security definer as $$
		begin if not exists (select from realtime.messages where id = message) then raise 'no such message'; end if; return true; end $$`,
		"grant select on realtime.messages to public",
		"create policy stored on realtime.messages for select using (topic = 'stored' and public.stored(id))",
		"create policy sent on realtime.messages for insert with check (topic = 'stored')")
	if got := between(t, db, conn, ask{topic: "stored"}); got.Receive != "yes" || got.Send != "yes" {
		t.Errorf("%+v", got)
	}
}

// Whoever waits for a lock does not keep the others waiting: they are asked elsewhere.
func TestPolicyThatWaitsForALock(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t, "create table public.locked (n int)", "grant select on public.locked to public",
		"create policy locked on realtime.messages using (topic = 'locked' and exists (select from public.locked))")
	exec(t, admin(t, db), "begin", "lock table public.locked")
	exec(t, conn, "set lock_timeout = '100ms'")
	if got := decide(t, conn, ask{topic: "locked"}, allowed); len(got) != 1 || got[0].Code != "55P03" || got[0].Receive+got[0].Send != "" {
		t.Errorf("%+v", got)
	}
}
