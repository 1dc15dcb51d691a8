package migrations_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// kept is what work leaves in realtime._marks.
func kept(t *testing.T, conn *pgx.Conn, work ...string) []string {
	t.Helper()
	exec(t, conn, "delete from realtime._marks")
	exec(t, conn, work...)
	return values[string](t, conn, "select coalesce(aim::json ->> 's', '*') || '@' || coalesce(aim::json ->> 't', '*') from realtime._marks order by xid, aim = '{}', aim")
}

// A server that does not hear a mark finds it in a table, if it is one that withholds messages.
func TestMarksAreKept(t *testing.T) {
	t.Parallel()
	_, conn := watched(t, ", 'user_id', 'room:{room_id}'")
	exec(t, conn, "create table public.rooms (name text)", "select realtime.watch('public.rooms', topic => '{name}')")
	for _, test := range []struct {
		name string
		work []string
		want []string
	}{
		{"insert", []string{insertMember(1, "'ann'", 1)}, []string{"ann@room:1"}},
		{"update of something else", []string{"update members set hits = 1"}, []string{"ann@room:1"}},
		{"update", []string{"update members set user_id = 'bob', room_id = 2"}, []string{"ann@room:1", "bob@room:2"}},
		{"null", []string{"update members set user_id = null"}, []string{"bob@room:2", "*@room:2"}},
		{"truncate", []string{"truncate members"}, []string{"*@*"}},
		{"invalidate", []string{"select realtime.invalidate('ann'), realtime.invalidate(topic => 'a'), realtime.invalidate(), realtime.invalidate()"}, []string{"ann@*", "*@a", "*@*"}},
		{"a name too long", []string{"select realtime.invalidate(repeat('x', 5000))"}, []string{"*@*"}},
		{"lenient ones", []string{"insert into rooms values ('a')", "update rooms set name = 'b'"}, nil},
		{"truncate of what is lenient", []string{"truncate rooms"}, []string{"*@*"}},
		{"rolled back", []string{"begin", insertMember(2, "'x'", 1), "rollback"}, nil},
		{"a savepoint", []string{"begin", "savepoint s", insertMember(2, "'x'", 1), "rollback to s", insertMember(3, "'y'", 1), "commit"}, []string{"y@room:1"}},
		{"as a replica", []string{"set session_replication_role = replica", insertMember(4, "'x'", 1), "reset session_replication_role"}, []string{"x@room:1"}},
		{"without search_path and row_security", []string{"begin", "set local search_path = ''", "set local row_security = off", "insert into public.members values (5, 'x', 1)", "commit"}, []string{"x@room:1"}},
	} {
		if got := kept(t, conn, test.work...); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A dump of another cluster brings entries of transactions that have not been here yet. Those that get their ids would pass
// for them: their marks would be taken for repetitions, and not be said.
func TestWhatADumpBroughtIsForgotten(t *testing.T) {
	t.Parallel()
	_, conn := watched(t, ", 'user_id', 'room:{room_id}'")
	exec(t, conn, "delete from realtime._marks", "select realtime.send('1', 'e', 't'), realtime.invalidate('ours')",
		"insert into realtime._journal (xid, message_id, inserted_at) select '999999999', id, inserted_at from realtime.messages",
		"insert into realtime._marks (xid, aim) select i::text::xid8, '{}' from generate_series(999999990, 999999999) as i",
		"insert into realtime._dropped (xid, upto) values ('999999999', '999999999')",
		"select realtime._maintain('72 hours')")
	got := values[string](t, conn, `select 'entry' from realtime._journal union all select aim from realtime._marks union all select 'dropped' from realtime._dropped`)
	if want := []string{"entry", `{"s":"ours"}`}; !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
}

// However many rows a transaction changes, it leaves about a thousand marks. The last one, for everyone, goes with the
// savepoint in which it was left, and comes again.
func TestKeptMarksAreBounded(t *testing.T) {
	t.Parallel()
	_, conn := watched(t, ", 'user_id'")
	many := func(from, to string) string {
		return "insert into members (id, user_id) select g, 'u' || g from generate_series(" + from + ", " + to + ") g"
	}
	got := kept(t, conn, "begin", many("1", "20000"), "update members set user_id = 'v' || id", "commit")
	if len(got) != 1001 || got[1000] != "*@*" {
		t.Errorf("%d marks, the last %q", len(got), got[len(got)-1])
	}
	got = kept(t, conn, "begin", many("20001", "20900"), "savepoint s", many("20901", "22000"), "rollback to s", many("22001", "23000"), "commit")
	if len(got) != 1001 || got[1000] != "*@*" {
		t.Errorf("after a savepoint: %d marks, the last %q", len(got), got[len(got)-1])
	}
	for i, forged := range []string{"1000", "999999", "1001"} { // whoever sets the counter makes his marks coarser, not fewer
		got = kept(t, conn, "begin", "select set_config('realtime.marks', '"+forged+"', false)", fmt.Sprintf("delete from members where id between %d and %d", 20*i+1, 20*i+20), "commit", "reset realtime.marks")
		if !slices.Equal(got, []string{"*@*"}) {
			t.Errorf("counter %s: %q", forged, got)
		}
	}
}

// Marks must not make writers fail who have nothing else to do with one another.
func TestMarksOfSerializableWriters(t *testing.T) {
	t.Parallel()
	db, conn := watched(t, ", 'user_id'")
	// The writers meet nowhere but in our tables: each has a table of its own.
	const writers = 6
	for i := range writers {
		name := string(rune('a' + i))
		exec(t, conn, "create table public.own_"+name+" (id int primary key, user_id text)", "select realtime.watch('public.own_"+name+"', 'user_id')")
	}
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			name := string(rune('a' + i))
			for n := range 60 {
				err := pgx.BeginTxFunc(within(t), db.Admin, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
					for _, statement := range []string{"insert into public.own_" + name + " values ($1, 'u')", "delete from public.own_" + name + " where id < $1"} {
						if _, err := tx.Exec(within(t), statement, n); err != nil {
							return err
						}
					}
					_, err := tx.Exec(within(t), "insert into public.own_"+name+" select -g, 'u' || g from generate_series(1, 1100) g where $1 % 20 = 0 on conflict do nothing", n)
					return err
				})
				var refused *pgconn.PgError
				if errors.As(err, &refused) {
					t.Errorf("writer %s: %v", name, refused)
					return
				}
			}
		})
	}
	group.Wait()
}

// A blanket grant is no reason for watch() to fail, nor for others' writes.
func TestMarksUnderBlanketGrants(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	owner, writer := db.NewRole(t, ""), db.NewRole(t, "")
	exec(t, conn,
		"grant all on all tables in schema realtime to "+owner+", "+writer,
		"grant create on schema public to "+owner,
		"set role "+owner,
		"create table public.teams (user_id text)",
		"grant all on public.teams to "+writer,
		"select realtime.watch('public.teams', 'user_id')",
		"set role "+writer,
		"insert into public.teams values ('ann')",
		"reset role")
	if got := values[string](t, conn, "select aim::json ->> 's' from realtime._marks"); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("%q", got)
	}
	exec(t, conn, "set role "+writer)
	refused(t, conn, "42501", "permission denied for function _changed", "select realtime._changed('a', 'b', false)")
	refused(t, conn, "42501", "row-level security", "insert into realtime._marks (xid, aim) values (pg_current_xact_id(), '{}')")
}

func TestRetentionOfMarks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := server(t, db)
	super := admin(t, db)
	fill := func() {
		exec(t, conn, "delete from realtime._marks", "delete from realtime._journal",
			"select realtime.invalidate('old')", "update realtime._marks set inserted_at = inserted_at - interval '25 hours'",
			"select realtime.invalidate('new')",
			"insert into realtime.messages (topic, extension, event, payload, inserted_at) values ('t', 'broadcast', 'old', '1', timezone('utc', now()) - interval '30 hours')",
			"select realtime.send('1', 'new', 't')")
	}
	exec(t, super, "create publication everything for all tables") // deleting takes a replica identity then
	for _, test := range []struct {
		retention string
		marks     []string
		entries   int
	}{
		{"", []string{"new"}, 2},
		{"72 hours", []string{"new"}, 2},
		{"28 hours", []string{"new"}, 1},
		{"26 hours", []string{"new"}, 1},
		{"0", nil, 0},
	} {
		before := value[string](t, conn, "select pg_current_snapshot()::text")
		fill()
		maintain(t, conn, test.retention)
		if got := values[string](t, conn, "select aim::json ->> 's' from realtime._marks"); !slices.Equal(got, test.marks) {
			t.Errorf("retention %q: marks %q", test.retention, got)
		}
		if got := value[int](t, conn, "select count(*) from realtime._journal"); got != test.entries {
			t.Errorf("retention %q: %d entries, want %d", test.retention, got, test.entries)
		}
		if !value[bool](t, conn, sql.Dropped, before) {
			t.Errorf("retention %q: nobody is told of what was dropped", test.retention)
		}
		after := value[string](t, conn, "select pg_current_snapshot()::text")
		maintain(t, conn, test.retention) // drops nothing
		if value[bool](t, conn, sql.Dropped, after) {
			t.Errorf("retention %q: something is missing though nothing was dropped since", test.retention)
		}
	}
}

// Pages of messages go by place, those of marks by transaction, as numbers, and then by aim; the last entry looked at is
// always there.
func TestPagesOfWhatWasMissed(t *testing.T) {
	t.Parallel()
	conn := server(t, pgtest.New(t))
	exec(t, conn, `insert into realtime._journal (xid, seq, message_id, inserted_at) overriding system value
		select x::text::xid8, place, gen_random_uuid(), now() from unnest(array[7, 9, 10, 9, 8, 100, 11, 12, 13]) with ordinality as entries (x, place)`,
		"insert into realtime._marks (xid, aim) select x::text::xid8, a from unnest(array[8, 9, 10, 100]) as x, unnest(array['{}', '{\"s\":\"B\"}', '{\"s\":\"a\"}']) as a")
	const from, to = "8:12:8,10", "13:13:"
	var first, last int64
	if err := conn.QueryRow(within(t), sql.MissedRange, from, to).Scan(&first, &last); err != nil || first != 3 || last != 8 {
		t.Errorf("what was missed lies from %d to %d (%v), want 3 to 8", first, last, err)
	}
	for _, test := range []struct {
		query        string
		after, place any
		limit        int
		want         []string // of those missed; an entry that was not is marked
	}{
		// 9 and 11 are seen by the first snapshot, 100 and later by neither
		{sql.MissedMessages, 0, 8, 10, []string{"10", "8", "12"}},
		{sql.MissedMessages, 2, 5, 10, []string{"10", "8"}},
		{sql.MissedMessages, 2, 8, 1, []string{"10"}},
		{sql.MissedMessages, 2, 8, 2, []string{"10", "9 seen"}},
		{sql.MissedMessages, 5, 7, 10, []string{"11 seen"}},
		{sql.MissedMessages, 8, 8, 10, nil},
		{sql.MissedMarks, "8", "", 10, []string{"8", "8", "8", "10", "10", "10"}},
		{sql.MissedMarks, "8", `{"s":"B"}`, 3, []string{"8", "8", "9 seen"}},
	} {
		rows, err := conn.Query(within(t), test.query, from, to, test.after, test.place, test.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			entry := values[0].(string)
			if !values[2].(bool) {
				entry += " seen"
			}
			got = append(got, entry)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("behind (%v, %v), %d: %q, want %q", test.after, test.place, test.limit, got, test.want)
		}
	}
}
