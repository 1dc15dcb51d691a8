package changes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// rooms are readable for members, or as the policy says that takes its place.
const rooms = `
	create schema app; grant usage on schema app to authenticated, anon, service_role;
	create type app."Mood" as enum ('fine', 'so, so'); create domain app.short as text not null check (length(value) < 20); create type app.spot as (x int, "why not" text);
	create table app.members (who uuid, room int, primary key (who, room)); grant select on app.members to authenticated;
	create table app."Posts" (id int primary key, owner uuid, room int, "the mood" app."Mood" default 'so, so', tags text[] default '{"a,b",null,"\"q\" \\"}', nick app.short default 'a "b" \', spot app.spot default '(1,"x, y")', note text);
	alter table app."Posts" drop column note, add column body text default E'line\nline';
	alter table app."Posts" enable row level security;
	create policy member on app."Posts" for select using (exists (select from app.members m where m.room = "Posts".room and m.who = auth.uid()));
	grant select on app."Posts" to authenticated, service_role;
	alter publication supabase_realtime add table app."Posts"`

const allPosts = `{"event":"*","schema":"app","table":"Posts"}`

// post says who may see posts: a policy's expression.
func post(using string) string {
	return fmt.Sprintf(`drop policy member on app."Posts"; create policy member on app."Posts" for select using (%s)`, using)
}

// quietTheater is on a cluster in which nobody else writes.
func quietTheater(t *testing.T, statements ...string) *theater {
	t.Helper()
	return newTheaterOn(newStageOn(t, pgtest.NewCluster(t, pgtest.Options{}).DB(t), append([]string{"create publication supabase_realtime"}, statements...)...), nil)
}

// What was deleted after a right was taken away is not told, however soon after it.
func TestDeletesAfterARevocationAreNotTold(t *testing.T) {
	t.Parallel()
	const rounds = 10
	for name, test := range map[string]struct{ policy, revoke, grant string }{
		"by a subquery":        {"", "delete from app.members where room = ROOM", "insert into app.members values ('" + annID + "', ROOM)"},
		"by a column":          {post("owner = auth.uid()"), `update app."Posts" set owner = null where id = ROOM`, ""},
		"by a function":        {"create function app.may(int) returns boolean language sql stable security definer as 'select exists (select from app.members where room = $1 and who = auth.uid())';" + post("app.may(room)"), "delete from app.members where room = ROOM", "insert into app.members values ('" + annID + "', ROOM)"},
		"by a restrictive":     {post("true") + `; create policy barred on app."Posts" as restrictive using (not exists (select from app.members m where m.room = "Posts".room))`, "insert into app.members values ('" + annID + "', ROOM)", ""},
		"by a whole row":       {`create function app.may(app."Posts") returns boolean language sql stable as 'select exists (select from app.members where room = $1.room and who = auth.uid())';` + post(`app.may("Posts")`), "delete from app.members where room = ROOM", "insert into app.members values ('" + annID + "', ROOM)"},
		"by another policy":    {"", post("false"), post("true")},
		"by ALTER POLICY":      {"", `alter policy member on app."Posts" using (false)`, `alter policy member on app."Posts" using (true)`},
		"by a savepoint":       {"", "begin; savepoint a; delete from app.members where room = ROOM; release a; commit", "insert into app.members values ('" + annID + "', ROOM)"},
		"in spite of an error": {post(`exists (select from app.members m where m.room = "Posts".room and m.who = auth.uid()) and 1 / (select count(*) from app.members m where m.room = "Posts".room) > 0`), "delete from app.members where room = ROOM", "insert into app.members values ('" + annID + "', ROOM)"},
	} {
		for _, identity := range []string{"default", "full"} {
			t.Run(name+", "+identity, func(t *testing.T) {
				t.Parallel()
				th := newTheater(t, nil, rooms, `alter table app."Posts" replica identity `+identity)
				if test.policy != "" {
					th.exec(test.policy)
				}
				ann, root := th.subscribed(user(annID), allPosts), th.subscribed(service, allPosts)
				var told []string
				for i := 1; i <= rounds; i++ {
					room := func(statement string) string { return strings.ReplaceAll(statement, "ROOM", strconv.Itoa(i)) }
					th.exec(room(test.grant))
					th.exec(fmt.Sprintf(`insert into app."Posts" (id, owner, room) values (%d, '%s', %[1]d)`, i, annID))
					told = append(told, ann.await(fmt.Sprintf(`INSERT Posts {"id":%d,`, i))...)
					if i%3 == 0 { // others write, too
						th.exec(fmt.Sprintf("insert into app.members values ('%s', 1000 + %d)", bobID, i))
					}
					th.exec(room(test.revoke), fmt.Sprintf(`delete from app."Posts" where id = %d`, i))
					root.await("DELETE Posts")
				}
				th.stop()
				ann.mu.Lock()
				defer ann.mu.Unlock()
				for _, text := range append(told, ann.told...) {
					if strings.Contains(text, "DELETE") {
						t.Errorf("told %s", text)
					}
				}
			})
		}
	}
}

// What takes a right away together with the row is told, where nothing else was committed.
func TestCascadesAreTold(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{"default", "full"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			th := quietTheater(t, rooms, `alter table app."Posts" replica identity `+identity)
			th.exec("insert into app.members select '" + annID + "', n from generate_series(1, 20) as n")
			ann := th.subscribed(user(annID), allPosts)
			for i := 1; i <= 6; i++ {
				th.exec(fmt.Sprintf(`insert into app."Posts" (id, room) values (%d, %[1]d)`, i))
				ann.await("INSERT")
				th.exec(fmt.Sprintf(`begin; delete from app.members where room = %d; delete from app."Posts" where id = %[1]d; commit`, i))
				if told := ann.await(" was "); len(told) != 1 {
					t.Errorf("told %q", told)
				}
			}
		})
	}
}

// Where the right is there as before, a DELETE is told whatever else was committed.
func TestContestedDeletesAreToldToWhoStillHasTheRight(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ policy, who string }{
		"by a subquery":                      {policy: ""},
		"by columns of many types":           {policy: post(`owner = auth.uid() and "the mood" = 'so, so' and tags = '{"a,b",null,"\"q\" \\"}' and nick = 'a "b" \' and (spot)."why not" = 'x, y' and body = E'line\nline'`)},
		"by a whole row":                     {policy: `create function app.may(app."Posts") returns boolean language sql stable as 'select $1.owner = auth.uid() and $1.body like ''line%''';` + post(`app.may("Posts")`)},
		"by functions of a schema of others": {policy: `create schema hidden; create function hidden.may(uuid) returns boolean language sql stable as 'select $1 = auth.uid()'; grant usage on schema hidden to ` + pgtest.ServerRole + ";" + post("hidden.may(owner)")},
		"by one that means it":               {policy: post("false") + `; create policy mine on app."Posts" to authenticated using (owner = auth.uid()); create policy others on app."Posts" to anon using (1 / 0 > 0)`},
		"by restrictive ones, too":           {policy: post("true") + `; create policy narrow on app."Posts" as restrictive using (owner = auth.uid()); create policy writers on app."Posts" as restrictive for update using (false)`},
		"by a claim":                         {policy: post("auth.uid() = '" + annID + "'")},
	} {
		for _, identity := range []string{"default", "full"} {
			t.Run(name+", "+identity, func(t *testing.T) {
				t.Parallel()
				th := newTheater(t, nil, rooms, `alter table app."Posts" replica identity `+identity)
				if test.policy != "" {
					th.exec(test.policy)
				}
				th.exec("create table other (n int); insert into app.members select '" + annID + "', n from generate_series(1, 20) as n")
				ann := th.subscribed(user(annID), allPosts)
				for i := 1; i <= 6; i++ {
					th.exec(fmt.Sprintf(`insert into app."Posts" (id, owner, room) values (%d, '%s', %[1]d)`, i, annID))
					ann.await("INSERT")
					th.exec("insert into other values (1)")
					if i%2 == 0 {
						th.exec(fmt.Sprintf(`delete from app."Posts" where id = %d`, i))
					} else {
						th.exec(fmt.Sprintf(`begin; savepoint a; delete from app."Posts" where id = %d; release a; commit`, i))
					}
					th.exec(fmt.Sprintf(`insert into app."Posts" (id, owner, room) values (%d, '%s', %d)`, 100+i, annID, i))
					if told := ann.await(fmt.Sprintf(`"id":%d,`, 100+i)); len(told) != 2 || !strings.Contains(told[0], "DELETE") {
						t.Errorf("told %q", told)
					}
				}
			})
		}
	}
}

// Of an UPDATE that lets somebody see a row again, he is not told what it was when he had lost the right.
func TestOldRowsAfterARevocationAreNotShown(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, rooms, `alter table app."Posts" replica identity full`, post(`owner = auth.uid() or exists (select from app.members m where m.room = "Posts".room and m.who = auth.uid())`))
	const columns = `{"event":"*","schema":"app","table":"Posts","select":["body"]}`
	ann := th.subscribed(user(annID), columns)
	for i := 1; i <= 6; i++ {
		th.exec(fmt.Sprintf(`insert into app.members values ('%s', %d); insert into app."Posts" (id, room, body) values (%[2]d, %[2]d, 'secret')`, annID, i))
		ann.expect(fmt.Sprintf(`[1] INSERT Posts {"id":%d,"body":"secret"}`, i))
		th.exec(fmt.Sprintf("delete from app.members where room = %d", i), fmt.Sprintf(`update app."Posts" set owner = '%s', body = 'open' where id = %d`, annID, i))
		ann.expect(fmt.Sprintf(`[1] UPDATE Posts {"id":%d,"body":"open"} was {"id":%[1]d}`, i))
		th.exec("insert into app.members values (gen_random_uuid(), 0)", fmt.Sprintf(`update app."Posts" set body = 'wide open' where id = %d`, i))
		ann.expect(fmt.Sprintf(`[1] UPDATE Posts {"id":%d,"body":"wide open"} was {"id":%[1]d,"body":"open"}`, i))
	}
}

// A row of a partition is one of the partitioned table, whose columns may be in another order.
func TestContestedDeletesOfPartitions(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{"default", "full"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, `
				create table logs (gone int, id int primary key, owner uuid, body text) partition by range (id); alter table logs drop column gone;
				create table logs_low (body text, unused text, owner uuid, id int primary key); alter table logs_low drop column unused, replica identity `+identity+`;
				alter table logs attach partition logs_low for values from (0) to (100);
				alter table logs enable row level security; create policy own on logs using (owner = auth.uid() and body = 'its body');
				grant select on logs to authenticated; create table other (n int);
				alter publication supabase_realtime set (publish_via_partition_root = true); alter publication supabase_realtime add table logs`)
			ann := th.subscribed(user(annID), `{"event":"*","schema":"public","table":"logs"}`)
			for i := 1; i <= 4; i++ {
				th.exec(fmt.Sprintf("insert into logs values (%d, '%s', 'its body')", i, annID))
				ann.await("INSERT")
				th.exec("insert into other values (1)", fmt.Sprintf("delete from logs where id = %d", i), fmt.Sprintf("insert into logs values (%d, '%s', 'its body')", 50+i, annID))
				if told := ann.await(fmt.Sprintf(`"id":%d,`, 50+i)); len(told) != 2 || !strings.Contains(told[0], "DELETE") {
					t.Errorf("told %q", told)
				}
			}
		})
	}
}

// What a policy looks at and nobody may read who follows the table is only known where the WAL has it.
func TestContestedDeletesByAColumnThatIsNotRead(t *testing.T) {
	t.Parallel()
	for identity, want := range map[string]string{"default": gapUndecidedTold, "full": `[1] DELETE Posts was {"id":1}`} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, rooms, `alter table app."Posts" replica identity `+identity, post("owner = auth.uid()"), `revoke select on app."Posts" from authenticated; grant select (id) on app."Posts" to authenticated`)
			ann := th.subscribed(user(annID), allPosts)
			th.exec(fmt.Sprintf(`insert into app."Posts" (id, owner) values (1, '%s')`, annID))
			ann.await("INSERT")
			th.exec(`begin; insert into app.members values (gen_random_uuid(), 0); commit; begin; delete from app."Posts"; commit`) // with no view in between
			ann.expect(want)
		})
	}
}

// A policy of which nobody can say what it would say, or whose columns are others by now, keeps a row back, and nothing else.
func TestStill(t *testing.T) {
	t.Parallel()
	s := newStage(t, "create publication supabase_realtime", rooms, `
		create function app.slow() returns boolean language plpgsql as 'begin perform pg_sleep(60); return true; end';
		create function app.alone() returns boolean language plpgsql as 'begin deallocate all; return true; end'`)
	table := s.table(`app."Posts"`)
	text := func(s string) *string { return &s }
	columns, values := []string{"room", "owner", "nick"}, []*string{text("1"), text(annID), text("a"), text("0"), text(bobID), text("b"), text("1"), nil, text("c")}
	ann, bob := &group{Group: user(annID)}, &group{Group: user(bobID)}
	ask := func() [][]int {
		t.Helper()
		p, err := readPolicies(t.Context(), s.pool, table.OID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.view.still(t.Context(), table, p, columns, values, 3, []*group{ann, bob})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, tt := range []struct {
		using string
		want  [][]int
	}{
		{"owner = auth.uid()", [][]int{{0}, {1}}},
		{"1 / room = 1", [][]int{{0, 2}, {0, 2}}},
		{"false", [][]int{nil, nil}},
		{"tableoid > 0", [][]int{nil, nil}},
		{"auth.uid() = '" + bobID + "' or app.slow()", [][]int{nil, nil}},
		{"auth.uid() = '" + bobID + "' or app.alone()", [][]int{{0, 1, 2}, {0, 1, 2}}},
		{"exists (select from pg_authid)", [][]int{nil, nil}},
	} {
		s.exec(post(tt.using))
		s.begin()
		got := ask()
		for i := range got {
			if !slices.Equal(got[i], tt.want[i]) {
				t.Errorf("%s: %v, want %v", tt.using, got, tt.want)
			}
		}
	}
	s.exec(post("true"))
	s.begin()
	s.exec(post("not false"))
	if got := ask(); got[0] != nil {
		t.Errorf("by policies that are not those of the view: %v", got)
	}
	s.begin()
	s.exec(`alter table app."Posts" drop column tags; alter table app."Posts" add column more text`)
	if got := ask(); got[0] != nil {
		t.Errorf("of columns that are not those of the view: %v", got)
	}
	s.begin()
	if got := ask(); !slices.Equal(got[0], []int{0, 1, 2}) {
		t.Errorf("in another view: %v", got)
	}
	var left int
	if err := s.view.read(t.Context(), "select (select count(*) from pg_prepared_statements where name like 'realtime%') + (select count(*) from pg_locks where pid = pg_backend_pid() and relation = 'app.\"Posts\"'::regclass)", nil, scanInto(&left)); err != nil || left > 0 {
		t.Errorf("%d statements and locks are left, %v", left, err)
	}
}
