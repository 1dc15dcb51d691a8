package migrations_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

func TestValidUntilOutsideADecision(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "set role anon") // everyone may
	for at, want := range map[string]string{
		"null": "null", "'infinity'": "true", "'-infinity'": "false", "'294276-12-31'": "true", "'0001-01-01 BC'": "false",
		"now() + interval '1 s'": "true", "statement_timestamp()": "false", "now() - interval '1 s'": "false",
	} {
		if got := value[string](t, conn, "select coalesce(realtime.valid_until("+at+")::text, 'null')"); got != want {
			t.Errorf("valid_until(%s) is %s, want %s", at, got, want)
		}
	}
}

// remaining is for how many seconds an answer is good; 0 if for ever.
func remaining(t *testing.T, conn *pgx.Conn, topic string) (got string, seconds float64) {
	t.Helper()
	err := conn.QueryRow(within(t), `select concat_ws(' ', receive, send, code, reason), coalesce(valid_for, 0)
		from realtime._decide(array[$1], '{broadcast}', '{authenticated}', array['{"sub": "ann", "role": "authenticated"}'], '{"{}"}', '{}')`, topic).Scan(&got, &seconds)
	if err != nil {
		t.Fatal(err)
	}
	return got, seconds
}

// However a policy comes to ask, the decision is good until the first instant that it depends on.
func TestValidUntilInPolicies(t *testing.T) {
	t.Parallel()
	const (
		both = "t t"
		no   = `f f receive: no policy lets this role see the topic; send: new row violates row-level security policy for table "messages"`
	)
	for _, test := range []struct {
		name, receive, send string // send as receive, if it is empty
		want                string
		hours               float64
	}{
		{"in a row of a table", "exists (select from public.access where room = 'one hour' and realtime.valid_until(until))", "", both, 1},
		{"of two, the one that is still good", "exists (select from public.access where room = 'past and two' and realtime.valid_until(until))", "", both, 2},
		{"expired", "exists (select from public.access where room = 'past' and realtime.valid_until(until))", "", no, 0},
		{"all of three", "(select bool_and(realtime.valid_until(until)) from public.access where room = 'three')", "", both, 3},
		{"null", "realtime.valid_until(null)", "", no, 0},
		{"infinity", "realtime.valid_until('infinity')", "", both, 0},
		{"-infinity", "realtime.valid_until('-infinity')", "", no, 0},
		{"a far-away instant", "realtime.valid_until('294276-12-31 23:59:59.999999+00')", "", both, math.Inf(1)},
		{"a constant", "realtime.valid_until((now() + interval '1 h')::text::timestamptz)", "", both, 1},
		{"compared", "realtime.valid_until(now() + interval '1 h') = true", "", both, 1},
		{"a denial that ends", "not realtime.valid_until(now() + interval '1 h')", "", no, 1},
		{"a mute that ends", "true", "not realtime.valid_until(now() + interval '1 h')", `t f send: new row violates row-level security policy for table "messages"`, 1},
		{"receive alone", "realtime.valid_until(now() + interval '1 h')", "false", `t f send: new row violates row-level security policy for table "messages"`, 1},
		{"send alone", "false", "realtime.valid_until(now() + interval '1 h')", "f t receive: no policy lets this role see the topic", 1},
		{"the earlier of both", "realtime.valid_until(now() + interval '2 h')", "realtime.valid_until(now() + interval '1 h')", both, 1},
		{"the same in the other order", "realtime.valid_until(now() + interval '1 h')", "realtime.valid_until(now() + interval '2 h')", both, 1},
		{"in a function that catches everything", "public.catches()", "", both, 1},
		{"in a definer's function", "public.definers()", "", both, 1},
		{"in a view", "exists (select from public.good where room = 'one hour')", "", both, 1},
		{"asked about as can() does", "realtime.valid_until(now() + interval '1 h') and public.definers()", "", both, 1},
		{"too many", "(select bool_and(realtime.valid_until(until)) from public.access where room = 'many')", "", "f f 54000 receive: valid_until() is asked about too many instants; send: valid_until() is asked about too many instants", 78},
		{"forged", "public.forges()", "", "f f P0004 receive: forged; send: forged", 0},
		{"an assertion", "public.asserts()", "", "f f P0004 receive: assertion failed; send: assertion failed", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.send == "" {
				test.send = test.receive
			}
			db, conn := withPolicies(t,
				"create table public.access (room text, until timestamptz)", "grant select on public.access to authenticated",
				`insert into public.access select room, now() + hours * interval '1 h' from (values ('one hour', 1), ('past and two', -1), ('past and two', 2),
					('past', -1), ('three', 5), ('three', 4), ('three', 3)) v(room, hours)`,
				"insert into public.access select 'many', now() + hours * interval '1 h' from generate_series(100, 1, -1) hours",
				"create view public.good as select room from public.access where realtime.valid_until(until)", "grant select on public.good to authenticated",
				`create function public.catches() returns boolean language plpgsql as $$ begin
					return realtime.valid_until(now() + interval '1 h'); exception when others then return false; end $$`,
				`create function public.definers() returns boolean language sql stable security definer as
					$$ select exists (select from public.access where room = 'one hour' and realtime.valid_until(until)) $$`,
				`create function public.forges() returns boolean language plpgsql as $$ begin
					raise assert_failure using message = 'forged', detail = '1', hint = 'realtime.valid_until(timestamp with time zone)'; end $$`,
				"create function public.asserts() returns boolean language plpgsql as $$ begin assert false; end $$",
				"create policy x_in on realtime.messages for select using (topic = 'x' and "+test.receive+")",
				"create policy x_out on realtime.messages for insert with check (topic = 'x' and "+test.send+")")
			between(t, db, conn, ask{topic: "x"})
			got, seconds := remaining(t, conn, "x")
			if math.IsInf(test.hours, 1) {
				test.hours = max(seconds/3600, 1e9)
			}
			if got != test.want || math.Abs(seconds/3600-test.hours) > 0.1 {
				t.Errorf("%s for %.2f hours, want %s for %g", got, seconds/3600, test.want, test.hours)
			}
			may := value[bool](t, conn, `select realtime.can('receive', 'x', claims => '{"sub": "ann", "role": "authenticated"}')`)
			if may != strings.HasPrefix(test.want, "t") {
				t.Errorf("can() says %t", may)
			}
		})
	}
}

// What the session has set says nothing about a decision.
func TestValidUntilIsUndisturbed(t *testing.T) {
	t.Parallel()
	db, conn := withPolicies(t,
		"create policy x on realtime.messages for all using (topic = 'x' and realtime.valid_until(now() + interval '1 h'))")
	for _, set := range []string{"''", "'infinity'", "'1'", "'nonsense'"} {
		exec(t, conn, "set realtime.until = "+set)
		if got, seconds := remaining(t, conn, "x"); got != "t t" || math.Abs(seconds-3600) > 360 {
			t.Errorf("with %s: %s for %g s", set, got, seconds)
		}
		if got := value[string](t, conn, "show realtime.until"); "'"+got+"'" != set {
			t.Errorf("%s became %s", set, got)
		}
	}
	// Many in one statement: each has its own instant.
	exec(t, admin(t, db), "create policy y on realtime.messages for all using (realtime.valid_until(now() + nullif(regexp_replace(topic, '\\D', '', 'g'), '')::int * interval '1 h'))")
	rows, err := conn.Query(within(t), `select round(valid_for / 3600)::int from realtime._decide('{h2,x,h1,z,h3}', array_fill('broadcast'::text, '{5}'), array_fill('authenticated'::text, '{5}'),
		array_fill('{"sub": "ann"}'::text, '{5}'), array_fill('{}'::text, '{5}'), '{}')`)
	if err != nil {
		t.Fatal(err)
	}
	hours, err := pgx.CollectRows(rows, pgx.RowTo[*int])
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, h := range hours {
		if h == nil {
			got += " none"
		} else {
			got += fmt.Sprint(" ", *h)
		}
	}
	if got != " 2 1 1 none 3" {
		t.Errorf("hours:%s", got)
	}
}

// What only looks like valid_until() may make a decision good for less, and never for longer.
func TestForgedInstant(t *testing.T) {
	t.Parallel()
	_, conn := withPolicies(t,
		`create function public.valid_until(at timestamptz) returns boolean language plpgsql as $$
		begin raise exception using errcode = 'assert_failure', detail = trunc(extract(epoch from at) * 1000000)::text; end $$`,
		"create policy p on realtime.messages using (topic = 'later' and realtime.valid_until(now() + interval '1 min') and public.valid_until(now() + interval '1 hour'))")
	if got := decide(t, conn, ask{topic: "later"})[0]; got.Receive != "no" || got.Code != "P0004" {
		t.Errorf("%+v", got)
	}
}
