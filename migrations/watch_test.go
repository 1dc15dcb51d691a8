package migrations_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// marks is what the server would hear of work: subject and topic of each mark, "*" where all are meant.
func marks(t *testing.T, db *pgtest.DB, work func()) []string {
	t.Helper()
	var all []string
	for _, payload := range heard(t, db, work) {
		rest, ok := strings.CutPrefix(payload, "r ")
		var mark map[string]any
		if err := json.Unmarshal([]byte(rest), &mark); !ok || err != nil {
			t.Fatalf("%q is no mark: %v", payload, err)
		}
		fields := map[string]string{}
		for key, value := range mark {
			if lenient, is := value.(bool); key == "l" && is && lenient {
				continue // see TestLenientMarks
			}
			fields[key] = fmt.Sprint(value)
		}
		if _, err := strconv.ParseUint(fields["x"], 10, 64); err != nil {
			t.Errorf("%q: the transaction: %v", payload, err)
		}
		aim := func(key string) string {
			if v, ok := fields[key]; ok {
				return v
			}
			return "*"
		}
		all = append(all, aim("s")+"@"+aim("t"))
		delete(fields, "x")
		delete(fields, "k") // the token of marks that are kept
		delete(fields, "s")
		delete(fields, "t")
		if len(fields) > 0 {
			t.Errorf("%q has more than x, s and t", payload)
		}
	}
	return all
}

// watched gives a table of members that is watched, and a session of its owner.
func watched(t *testing.T, arguments string, statements ...string) (*pgtest.DB, *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "create table public.members (id int primary key, user_id text, room_id int, role text, hits int default 0, detail json)")
	exec(t, conn, statements...)
	exec(t, conn, "select realtime.watch('public.members'"+arguments+")")
	return db, conn
}

func insertMember(id int, user string, room any) string {
	return fmt.Sprintf("insert into public.members values (%d, %s, %v, 'guest', 0, '{}')", id, user, room)
}

func TestWatchMarksWhomItConcerns(t *testing.T) {
	t.Parallel()
	db, conn := watched(t, ", 'user_id', 'room:{room_id}:{role}'",
		"insert into public.members select g, 'user' || g, g, 'guest', 0, '{}' from generate_series(1, 20) g")
	for _, test := range []struct {
		name, statement string
		want            []string
	}{
		{"insert", insertMember(30, "'ann'", 7), []string{"ann@room:7:guest"}},
		{"delete", "delete from public.members where id = 1", []string{"user1@room:1:guest"}},
		{"update of another column", "update public.members set hits = 1 where id = 2", []string{"user2@room:2:guest"}},
		{"update of the subject", "update public.members set user_id = 'bob' where id = 3", []string{"user3@room:3:guest", "bob@room:3:guest"}},
		{"update of the topic", "update public.members set room_id = 40, role = 'host' where id = 4", []string{"user4@room:4:guest", "user4@room:40:host"}},
		{"update that changes nothing", "update public.members set hits = hits, user_id = user_id", nil},
		{"update of json alone", `update public.members set detail = '{ }' where id = 5`, []string{"user5@room:5:guest"}},
		{"update of no row", "update public.members set hits = 2 where false", nil},
		{"null subject", insertMember(31, "null", 7), []string{"*@room:7:guest"}},
		{"null topic column", insertMember(32, "'ann'", "null"), []string{"ann@*"}},
		{"several rows", "delete from public.members where id in (6, 7)", []string{"user6@room:6:guest", "user7@room:7:guest"}},
		{"the same twice", "update public.members set user_id = 'eve', room_id = 1, role = 'x' where id in (8, 9)", []string{"user8@room:8:guest", "eve@room:1:x", "user9@room:9:guest"}},
		{"an empty subject", insertMember(33, "''", 7), []string{"@room:7:guest"}},
		{"unfriendly text", insertMember(34, `E'a"\\\n{room_id}é@'`, 7), []string{"a\"\\\n{room_id}é@@room:7:guest"}},
		{"upsert", insertMember(10, "'x'", 1) + " on conflict (id) do update set hits = 9", []string{"user10@room:10:guest"}},
		{"ignored upsert", insertMember(10, "'x'", 1) + " on conflict do nothing", nil},
		{"rolled back", "do $$ begin insert into public.members values (90, 'no', 1, 'guest', 0, '{}'); raise 'undo'; exception when others then end $$", nil},
		{"truncate", "truncate public.members", []string{"*@*"}},
	} {
		if got := marks(t, db, func() { exec(t, conn, test.statement) }); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}

	if got := marks(t, db, func() {
		exec(t, conn, "begin", insertMember(50, "'kept'", 1), "savepoint s", insertMember(51, "'undone'", 1), "rollback to s", "commit")
	}); !slices.Equal(got, []string{"kept@room:1:guest"}) {
		t.Errorf("savepoint: %q", got)
	}
	if got := marks(t, db, func() {
		_, err := conn.CopyFrom(within(t), pgx.Identifier{"public", "members"}, []string{"id", "user_id", "room_id"},
			pgx.CopyFromRows([][]any{{60, "copied", 1}, {61, "too", 2}}))
		if err != nil {
			t.Error(err)
		}
	}); !slices.Equal(got, []string{"copied@*", "too@*"}) {
		t.Errorf("copy: %q", got)
	}
}

func TestWatchColumns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		arguments string
		marks     string // which of the columns below count
	}{
		{"", "user_id room_id role hits detail"},
		{", 'user_id', null, null", "user_id room_id role hits detail"},
		{", 'user_id', null, '{role}'", "user_id role"},
		{", 'user_id', 'room:{room_id}', '{detail}'", "user_id room_id detail"},
		{", columns => '{hits,detail}'", "hits detail"},
		{", columns => '{hits,hits,null}'", "hits"},
		{", 'user_id', columns => '{}'", "user_id"},
		{", columns => '{}'", "user_id room_id role hits detail"}, // no column at all would make every revocation by UPDATE unheard
	} {
		t.Run(test.arguments, func(t *testing.T) {
			t.Parallel()
			db, conn := watched(t, test.arguments, insertMember(1, "'ann'", 1))
			var got []string
			for _, change := range []string{"user_id = 'bob'", "room_id = 2", "role = 'host'", "hits = null", `detail = '[1]'`} {
				if len(marks(t, db, func() { exec(t, conn, "update public.members set "+change) })) > 0 {
					got = append(got, strings.Fields(change)[0])
				}
			}
			if diff := cmp.Diff(strings.Fields(test.marks), got); diff != "" {
				t.Errorf("columns whose change counts:\n%s", diff)
			}
			if len(marks(t, db, func() { exec(t, conn, insertMember(2, "'x'", 1), "delete from public.members") })) == 0 {
				t.Error("insert and delete must always count")
			}
		})
	}
}

// The text of a column may hide a change that its bytes show.
func TestWatchComparesValuesNotTheirText(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "create table public.grants (score float8)", "select realtime.watch('public.grants', columns => '{score}')",
		"insert into public.grants values (1)", "set extra_float_digits = -10")
	if got := marks(t, db, func() { exec(t, conn, "update public.grants set score = 1.0000001") }); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestWatchIsBounded(t *testing.T) {
	t.Parallel()
	db, conn := watched(t, ", 'user_id', 'room:{room_id}'")
	for _, test := range []struct {
		name, statement string
		count           int
		everyone        bool
	}{
		{"1000 rows", "insert into public.members (id, user_id, room_id) select g, 'user' || g, 1 from generate_series(1, 1000) g", 1000, false},
		{"more rows", "insert into public.members (id, user_id, room_id) select g, 'user' || g, 1 from generate_series(1001, 2100) g", 1001, true},
		{"again", "delete from public.members where id <= 1000", 1000, false}, // counted by transaction
		{"a long name", "insert into public.members (id, user_id, room_id) values (5000, repeat('x', 2000), 1)", 1, true},
		{"a name that grows when it is written as JSON", `insert into public.members (id, user_id, room_id) values (5001, repeat(E'\x01', 1000), 1)`, 1, true},
		{"a very long name", "insert into public.members (id, user_id, room_id) values (5002, repeat('é', 1000000), 1)", 1, true},
	} {
		got := marks(t, db, func() { exec(t, conn, test.statement) })
		if len(got) != test.count || slices.Contains(got, "*@*") != test.everyone {
			t.Errorf("%s: %d marks, everyone: %t; want %d, %t", test.name, len(got), slices.Contains(got, "*@*"), test.count, test.everyone)
		}
	}
	if got := marks(t, db, func() {
		exec(t, conn, "insert into public.members (id, user_id, room_id) values (6000, repeat('x', 1900), 1)")
	}); len(got) != 1 || got[0] == "*@*" {
		t.Error("a name that fits was given up")
	}
}

// Whoever can write may set the counter of rows as he likes: his marks get coarser, never fewer.
func TestForgedCounter(t *testing.T) {
	t.Parallel()
	db, conn := watched(t, ", 'user_id'")
	for i, forged := range []string{"garbage", "99999999999", "-1", "", "1e3", " 7", "999999", "NaN", "1000", "٣"} {
		for _, local := range []string{"true", "false"} {
			id := 2*i + len(local)%2
			got := marks(t, db, func() {
				exec(t, conn, "begin", "select set_config('realtime.marks', '"+forged+"', "+local+")", insertMember(id, "'ann'", 1), "commit")
			})
			if len(got) != 1 || got[0] != "ann@*" && got[0] != "*@*" {
				t.Errorf("counter %q: %q", forged, got)
			}
		}
	}
	exec(t, conn, "set realtime.marks = 0")
	if got := marks(t, db, func() {
		exec(t, conn, "begin")
		for i := range 3 {
			exec(t, conn, insertMember(100+i, "'u"+strconv.Itoa(i)+"'", 1), "set local realtime.marks = -5")
		}
		exec(t, conn, "commit")
	}); !slices.Equal(got, []string{"u0@*", "u1@*", "u2@*"}) {
		t.Errorf("%q", got)
	}
}

// A later watch() takes the place of the first one; watching begins, and is renewed, with a mark of everything.
func TestWatchAgainAndUnwatch(t *testing.T) {
	t.Parallel()
	db, conn := watched(t, ", 'user_id', 'room:{room_id}', '{role}'", insertMember(1, "'ann'", 1))
	triggers := func() []string {
		return values[string](t, conn, `select concat(tgname, ' ', tgenabled) from pg_trigger where tgrelid = 'public.members'::regclass order by 1`)
	}
	want := []string{"zz_realtime_rights A", "zz_realtime_rights_truncate A", "zz_realtime_rights_update A"}
	if diff := cmp.Diff(want, triggers()); diff != "" {
		t.Errorf("triggers:\n%s", diff)
	}
	if got := marks(t, db, func() { exec(t, conn, "select realtime.watch('public.members', topic => 'r{role}')") }); !slices.Equal(got, []string{"*@*"}) {
		t.Errorf("watch() itself: %q", got)
	}
	if diff := cmp.Diff(want, triggers()); diff != "" {
		t.Errorf("triggers after the second watch():\n%s", diff)
	}
	if got := marks(t, db, func() { exec(t, conn, "update public.members set hits = 5") }); !slices.Equal(got, []string{"*@rguest"}) {
		t.Errorf("after the second watch(): %q", got)
	}
	exec(t, conn, "select realtime.unwatch('public.members')", "select realtime.unwatch('public.members')")
	if got := marks(t, db, func() { exec(t, conn, "truncate public.members", insertMember(1, "'ann'", 1)) }); len(got) > 0 || len(triggers()) > 0 {
		t.Errorf("after unwatch(): %q, %v", got, triggers())
	}
}

func TestInvalidate(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := server(t, db)
	for statement, want := range map[string][]string{
		"select realtime.invalidate()":                                               {"*@*"},
		"select realtime.invalidate('ann')":                                          {"ann@*"},
		"select realtime.invalidate(topic => 'room:1')":                              {"*@room:1"},
		"select realtime.invalidate('ann', 'room:1')":                                {"ann@room:1"},
		"select realtime.invalidate(repeat('x', 9000))":                              {"*@*"},
		"begin; select realtime.invalidate(); rollback":                              nil,
		"select realtime.invalidate() from generate_series(1, 5)":                    {"*@*"},
		"begin; select realtime.invalidate('b'); savepoint a; rollback to a; commit": {"b@*"},
	} {
		if got := marks(t, db, func() { exec(t, conn, statement) }); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", statement, got, want)
		}
	}
	for _, user := range []string{pgtest.DBARole} {
		exec(t, dial(t, db.As(user)), "select realtime.invalidate()")
	}
	exec(t, conn, "set role authenticated")
	refused(t, conn, "42501", "permission denied for function invalidate", "select realtime.invalidate()")
}

// Marks are lenient where no change names a subject because the table has no subject column, and nowhere else.
func TestLenientMarks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		arguments, work string
		want            []bool
	}{
		{"", "update members set room_id = 2", []bool{true, true}},
		{", topic => 'room:{room_id}'", "update members set room_id = 2", []bool{true, true}},
		{", 'user_id'", "update members set room_id = 2", []bool{false}},
		{", 'user_id'", "update members set user_id = null", []bool{false, false}},
		{"", "truncate members", []bool{false}},
		{"", "insert into members select null, i from generate_series(1, 1001) as i", append(slices.Repeat([]bool{true}, 1), false)},
	} {
		db := pgtest.New(t)
		conn := admin(t, db)
		exec(t, conn, "create table public.members (user_id text, room_id int)", "insert into members values ('u', 1)",
			"select realtime.watch('members'"+test.arguments+")")
		var got []bool
		for _, payload := range heard(t, db, func() { exec(t, conn, test.work) }) {
			got = append(got, strings.Contains(payload, `"l":true`))
		}
		got = slices.Compact(got)
		if want := slices.Compact(test.want); !slices.Equal(got, want) {
			t.Errorf("watch%s, %s: lenient %v, want %v", test.arguments, test.work, got, want)
		}
	}
}
