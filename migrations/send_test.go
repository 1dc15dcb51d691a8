package migrations_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// delivered reads what notifications announce, as the server does: topic, event, private flag and content.
func delivered(t *testing.T, db *pgtest.DB, work func()) []string {
	t.Helper()
	var xids, tokens []string
	var seqs []int64
	for _, payload := range heard(t, db, work) {
		var xid, token string
		var seq int64
		if n, err := fmt.Sscanf(payload, "m %s %d %s", &xid, &seq, &token); n != 3 || err != nil {
			t.Fatalf("%q announces no message: %v", payload, err)
		}
		xids, seqs, tokens = append(xids, xid), append(seqs, seq), append(tokens, token)
	}
	if len(xids) == 0 {
		return nil
	}
	rows, err := server(t, db).Query(within(t), sql.Messages, xids, seqs, tokens, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	var place int
	var id, topic string
	var event, payload *string
	var private bool
	var tooLarge *bool
	var binary []byte
	var all []string
	_, err = pgx.ForEachRow(rows, []any{&place, &id, &topic, &event, &private, &tooLarge, &payload, &binary}, func() error {
		content := fmt.Sprintf("%x", binary)
		if payload != nil {
			content = strings.ReplaceAll(*payload, id, "ID")
		}
		if event == nil {
			event = new(string)
		}
		all = append(all, fmt.Sprintf("%s %s %t %s", topic, *event, private, content))
		if place != len(all) {
			t.Errorf("message %d is announced at place %d", len(all), place)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(xids) {
		t.Errorf("%d announced, %d found", len(xids), len(all))
	}
	return all
}

func TestSend(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := server(t, db)
	for _, test := range []struct {
		call string
		want string
	}{
		{`send('{"a": 1}', 'ev', 'room')`, `room ev true {"a": 1, "id": "ID"}`},
		{`send('{"a": 1, "id": 7}', 'ev', 'room', false)`, `room ev false {"a": 1, "id": 7}`},
		{`send('{"id": null}', 'ev', 'room', null)`, `room ev true {"id": null}`},
		{`send(payload => '{}', event => 'ev', topic => 'room', private => true)`, `room ev true {"id": "ID"}`},
		{`send('[1, {"a": 2}]', 'ev', 'room')`, `room ev true [1, {"a": 2}]`},
		{`send('"text"', 'ev', 'room')`, `room ev true "text"`},
		{`send('null', 'ev', 'room')`, `room ev true null`},
		{`send('0', repeat('é', 127), repeat('x', 246))`, strings.Repeat("x", 246) + " " + strings.Repeat("é", 127) + " true 0"},
		{`send_binary('\x00ff', 'ev', 'room')`, `room ev true 00ff`},
		{`send_binary(payload => '', event => 'ev', topic => 'a:b c', private => false)`, `a:b c ev false `},
	} {
		if got := delivered(t, db, func() { exec(t, conn, "select realtime."+test.call) }); !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: %q, want %q", test.call, got, test.want)
		}
	}
	for _, test := range []struct{ call, state, words string }{
		{`send(null, 'ev', 'room')`, "22004", "payload must not be null"},
		{`send_binary(null, 'ev', 'room')`, "22004", "payload must not be null"},
		{`send('{}', '', 'room')`, "22004", "event and topic must not be empty"},
		{`send('{}', null, 'room')`, "22004", "event and topic must not be empty"},
		{`send('{}', 'ev', '')`, "22004", "event and topic must not be empty"},
		{`send('{}', 'ev', null)`, "22004", "event and topic must not be empty"},
		{`send_binary('x', repeat('é', 128), 'room')`, "22001", "event has 256 bytes"},
		{`send('{}', 'ev', repeat('x', 247))`, "22001", "topic has 247 bytes"},
		{`send(jsonb_build_object('x', repeat('y', 3000000)), 'ev', 'room')`, "22001", "the server delivers at most 3000000"},
		{`send_binary(repeat('y', 3000001)::bytea, 'ev', 'room')`, "22001", "payload has 3000001 bytes"},
	} {
		leavesNothing(t, db, conn, func() { refused(t, conn, test.state, test.words, "select realtime."+test.call) })
	}
}

// send() is an INSERT with the caller's own rights. Without them it is an error, never a message that gets lost.
func TestSendObeysTheCallersPolicies(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, admin(t, db), "create policy p on realtime.messages for insert to authenticated with check (realtime.topic() = topic and topic = 'mine' and extension = 'broadcast')")
	conn := server(t, db)
	exec(t, conn, "set role authenticated")
	if got := delivered(t, db, func() {
		exec(t, conn, "select realtime.send('1', 'a', 'mine')", "select realtime.send_binary('x', 'b', 'mine', false)")
	}); len(got) != 2 {
		t.Errorf("%q", got)
	}
	leavesNothing(t, db, conn, func() {
		refused(t, conn, "42501", "row-level security", "select realtime.send('1', 'a', 'other')")
		refused(t, conn, "42501", "row-level security", "select realtime.send_binary('1', 'a', 'other')")
		refused(t, conn, "42501", "row-level security", "insert into realtime.messages (topic, extension, event, payload) values ('mine', 'broadcast', 'e', '1')")
		refused(t, conn, "42501", "permission denied", "insert into realtime._journal (xid, message_id, inserted_at) values ('1', gen_random_uuid(), now())")
		refused(t, conn, "42501", "permission denied", "delete from realtime.messages")
	})
	for role, want := range map[string]int{"service_role": 1, "anon": 0} {
		exec(t, conn, "set role "+role)
		if got := delivered(t, db, func() { _, _ = conn.Exec(within(t), "select realtime.send('1', 'a', 'other')") }); len(got) != want {
			t.Errorf("%s: %q", role, got)
		}
	}
	exec(t, conn, "set role authenticated")
	if value[int](t, conn, "select count(*) from realtime.messages") > 0 {
		t.Error("a sender reads without a SELECT policy")
	}
}

// The topic of send() is set for the policies of that INSERT alone.
func TestSendRestoresTheTopic(t *testing.T) {
	t.Parallel()
	conn := server(t, pgtest.New(t))
	topic := func() string {
		return value[string](t, conn, "select coalesce(realtime.topic(), '(none)')")
	}
	exec(t, conn, "select realtime.send('1', 'e', 'a')")
	if got := topic(); got != "(none)" {
		t.Errorf("after the transaction: %s", got)
	}
	exec(t, conn, "begin", "select realtime.send('1', 'e', 'a')")
	if got := topic(); got != "(none)" {
		t.Errorf("after send(): %s", got)
	}
	exec(t, conn, "set local realtime.topic = 'outer'", "select realtime.send('1', 'e', 'a')", "select realtime.send_binary('1', 'e', 'b')")
	if got := topic(); got != "outer" {
		t.Errorf("within another topic: %s", got)
	}
	refused(t, conn, "22004", "payload", "select realtime.send(null, 'e', 'a')")
	if got := topic(); got != "outer" {
		t.Errorf("after an error: %s", got)
	}
	exec(t, conn, "commit", "set realtime.topic = 'session'", "select realtime.send('1', 'e', 'a')")
	if got := topic(); got != "session" {
		t.Errorf("within the session's topic: %s", got)
	}
}

// A message is delivered if and only if its transaction commits, in the order of its statements.
func TestMessagesFollowTheirTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := server(t, db)
	send := func(n int) string { return fmt.Sprintf("select realtime.send('%d', 'e', 't')", n) }
	var got []string
	for _, m := range delivered(t, db, func() {
		exec(t, conn, send(0), "begin", send(99), "rollback",
			"begin", send(1), "savepoint a", send(2), "savepoint b", send(98), "rollback to b", send(3), "release a",
			"do $$ begin perform realtime.send('4', 'e', 't'); begin perform realtime.send('97', 'e', 't'); raise 'x'; exception when others then perform realtime.send('5', 'e', 't'); end; end $$",
			"insert into realtime.messages (topic, extension, event, payload) select 't', 'broadcast', 'e', to_jsonb(n) from generate_series(6, 8) n",
			send(9), "commit")
	}) {
		got = append(got, m[strings.LastIndex(m, " ")+1:])
	}
	if diff := cmp.Diff(strings.Fields("0 1 2 3 4 5 6 7 8 9"), got); diff != "" {
		t.Errorf("order:\n%s", diff)
	}
	// A savepoint has a transaction id of its own, which no snapshot of another session knows.
	if n := value[int](t, conn, "select count(distinct xid) from realtime._journal"); n != 2 {
		t.Errorf("%d transactions in the journal, want 2", n)
	}
	if n := value[int](t, conn, "select count(distinct xmin::text) from realtime.messages"); n < 4 {
		t.Errorf("only %d ids in the table: nothing was sent from within a savepoint", n)
	}
	exec(t, conn, "begin", "savepoint a", send(1))
	if !value[bool](t, conn, "select exists (select from realtime._journal where xid = pg_current_xact_id())") {
		t.Error("the journal does not name the top-level transaction")
	}
	exec(t, conn, "rollback")
}

// Two that send at the same time do not mix: each transaction has its own order, and none waits for another.
func TestConcurrentSenders(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	a, b := server(t, db), server(t, db)
	got := delivered(t, db, func() {
		exec(t, a, "begin", "select realtime.send('1', 'a', 't')")
		exec(t, b, "begin", "select realtime.send('1', 'b', 't')", "select realtime.send('2', 'b', 't')", "commit")
		exec(t, a, "select realtime.send('2', 'a', 't')", "commit")
	})
	if want := []string{"t b true 1", "t b true 2", "t a true 1", "t a true 2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOnlyBroadcastsAreDelivered(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := server(t, db)
	for statement, want := range map[string][]string{
		`insert into realtime.messages (topic, extension, event, payload, private) values ('t', 'broadcast', 'e', '{"a": 1}', true)`: {`t e true {"a": 1}`},
		`insert into realtime.messages (topic, extension, event, binary_payload) values ('t', 'broadcast', 'e', '\x01')`:             {"t e false 01"},
		`insert into realtime.messages (topic, extension) values ('t', 'broadcast')`:                                                 {"t  false "},
		`insert into realtime.messages (topic, extension, event, payload) values ('t', 'presence', 'e', '1')`:                        nil,
		`insert into realtime.messages (topic, extension, event, payload) values ('t', 'Broadcast', 'e', '1')`:                       nil,
		`update realtime.messages set topic = 'other'`:                                                                               nil,
		`delete from realtime.messages where false`:                                                                                  nil,
	} {
		if got := delivered(t, db, func() { exec(t, conn, statement) }); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", statement, got, want)
		}
	}
	got := delivered(t, db, func() {
		_, err := conn.CopyFrom(context.WithoutCancel(within(t)), pgx.Identifier{"realtime", "messages"}, []string{"topic", "extension", "event", "payload"},
			pgx.CopyFromRows([][]any{{"t", "broadcast", "1", "{}"}, {"t", "broadcast", "2", "{}"}}))
		if err != nil {
			t.Error(err)
		}
	})
	if !slices.Equal(got, []string{"t 1 false {}", "t 2 false {}"}) {
		t.Errorf("copy: %q", got)
	}
	// Too large for a client, and entries that do not exist.
	exec(t, conn, "truncate realtime.messages, realtime._journal restart identity", "select realtime.send(to_jsonb(repeat('x', 1000)), 'e', 't')", "select realtime.send_binary(repeat('x', 1000)::bytea, 'e', 't')")
	xids := values[string](t, conn, "select xid::text from realtime._journal order by seq")
	tokens := values[string](t, conn, "select token::text from realtime._journal order by seq")
	rows, err := conn.Query(within(t), sql.Messages, []string{xids[0], xids[0], xids[1], "1", xids[0]}, []int64{1, 77, 2, 1, 1},
		[]string{tokens[0], tokens[0], tokens[1], tokens[0], tokens[1]}, 999)
	if err != nil {
		t.Fatal(err)
	}
	var places []int
	var place int
	var id, topic, event, payload, binary *string
	var private, tooLarge *bool
	if _, err := pgx.ForEachRow(rows, []any{&place, &id, &topic, &event, &private, &tooLarge, &payload, &binary}, func() error {
		places = append(places, place)
		if tooLarge == nil || !*tooLarge || payload != nil || binary != nil {
			t.Errorf("message %d is read although too large", place)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(places, []int{1, 3}) {
		t.Errorf("places %v, want 1 and 3", places)
	}
}

// Policies, and others' triggers, find names as the caller does.
func TestSendKeepsTheSearchPath(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	changing(t, db)
	exec(t, admin(t, db), `
		create schema app; grant usage on schema app to public;
		create function app.helper() returns boolean language sql return true;
		create function public.calls() returns boolean language plpgsql as $$ begin return helper(); end $$;
		create function public.fires() returns trigger language plpgsql as $$ begin perform helper(); return new; end $$;
		create trigger fires before insert on realtime.messages for each row execute function public.fires();
		create policy calls on realtime.messages for insert to authenticated with check (public.calls());
		alter function public.notes_changed() security invoker`,
		"alter function public.notes_changed() reset all")
	conn := server(t, db)
	for _, statement := range []string{
		"select realtime.send('{}', 'e', 't')", `select realtime.send_binary('\x00', 'e', 't')`, "insert into public.notes select coalesce(max(id), 0) + 1 from public.notes",
	} {
		exec(t, conn, "set search_path = app", "set role authenticated", statement)
		if path := value[string](t, conn, "show search_path"); path != "app" {
			t.Errorf("%s: search_path is %s afterwards", statement, path)
		}
		exec(t, conn, "set search_path = public")
		refused(t, conn, "42883", "helper()", statement)
		exec(t, conn, "reset role")
	}
}
