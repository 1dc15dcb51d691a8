package changes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/pgtest"
)

// Whatever the policies of one group do, the others are answered, and nothing is left behind.
func TestPoliciesThatMisbehave(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body, code, reason string
		visible            bool
		undecided          bool
	}{
		"raises":                  {body: "raise exception 'no' using errcode = 'XX123'", code: "XX123", reason: "no"},
		"raises what we do":       {body: "raise exception using errcode = 'RB001'", code: "RB001"},
		"asserts":                 {body: "assert false, 'never'", code: "P0004", reason: "never"},
		"divides by zero":         {body: "return 1 / 0 > 0", code: "22012", reason: "division by zero"},
		"recurses":                {body: "return judge()", code: "54001", reason: "stack depth limit exceeded"},
		"is slow":                 {body: "perform pg_sleep(60)", code: "57014", reason: "canceling statement due to statement timeout", undecided: true},
		"is slow, and goes on":    {body: "begin perform pg_sleep(60); exception when query_canceled then null; end", visible: true},
		"waits for a lock":        {body: "lock table held", code: "55P03", reason: "canceling statement due to lock timeout", undecided: true},
		"writes":                  {body: "insert into written values (1)", visible: true},
		"takes another role":      {body: "perform set_config('role', 'service_role', false)", visible: true},
		"takes other claims":      {body: `perform set_config('request.jwt.claims', '{"sub": "carol"}', false)`, visible: true},
		"is not to be printed":    {body: "raise exception '%', repeat('x', 10)", code: "P0001", reason: "xxxxxxxxxx"},
		"turns off the policies":  {body: "perform set_config('row_security', 'off', false)", visible: true},
		"leads functions astray":  {body: "perform set_config('search_path', 'nowhere', false)", visible: true},
		"loses the statement":     {body: "perform set_config('statement_timeout', '0', false)", visible: true},
		"says null":               {body: "return null"},
		"ends in a serialization": {body: "raise serialization_failure", code: "40001", reason: "serialization_failure"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, `
				create table notes (id int primary key, who text);
				create table written (n int); grant insert on written to authenticated;
				create table held (n int); grant select, insert, update, delete, truncate on held to authenticated;
				create function judge() returns boolean language plpgsql as $$ begin `+test.body+`; return true; end $$;
				create policy own on notes using (auth.jwt() ->> 'sub' = who or auth.jwt() ->> 'sub' = 'bad' and who = 'ann' and judge());
				alter table notes enable row level security;
				grant select on notes to authenticated, service_role;
				insert into notes values (1, 'ann'), (2, 'bob')`)
			holder, err := s.db.Admin.Begin(t.Context())
			if err == nil {
				_, err = holder.Exec(t.Context(), "lock table held")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = holder.Rollback(t.Context()) }()
			s.begin()
			look := func() (settings string) {
				err := s.view.read(t.Context(), `select concat_ws(' ', current_user, current_setting('role'), current_setting('row_security'), current_setting('search_path'), current_setting('statement_timeout'),
					nullif(current_setting('request.jwt.claims', true), ''), (select count(*) from pg_locks where pid = pg_backend_pid() and relation = any (array['public.notes', 'public.written', 'public.held']::regclass[])))`,
					nil, scanInto(&settings))
				if err != nil {
					t.Fatal(err)
				}
				return settings
			}
			before := look()
			notes := s.table("notes")
			got := s.visible(notes, [][]string{{"1"}, {"2"}}, []Group{user("ann"), user("bad"), user("bob"), {"service_role", []byte("{}")}})
			for i, want := range map[int][]int{0: {0}, 2: {1}} {
				if !slices.Equal(got[i].Visible, want) || got[i].Code != "" || got[i].Undecided {
					t.Errorf("neighbour %d: %+v", i, got[i])
				}
			}
			if !got[3].All {
				t.Errorf("service_role: %+v", got[3])
			}
			bad := got[1]
			if (len(bad.Visible) == 1) != test.visible || bad.Code != test.code || !strings.HasPrefix(bad.Reason, test.reason) || bad.Undecided != test.undecided || bad.All ||
				(test.code != "" && !test.undecided) != slices.Equal(bad.Failed, []int{0}) {
				t.Errorf("got %+v", bad)
			}
			if after := look(); after != before {
				t.Errorf("left behind: %s, was %s", after, before)
			}
			var rows int
			if err := s.admin.QueryRow(t.Context(), "select count(*) from written").Scan(&rows); err != nil || rows > 0 {
				t.Errorf("%d rows written, %v", rows, err)
			}
		})
	}
}

// A grant that is taken while a question is under way is that role's from then on, and nobody's fault.
func TestGrantTakenDuringAQuestion(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		taken   string
		columns []string
	}{
		"of a column":    {"revoke select on notes from authenticated; grant select (id, who) on notes to authenticated", []string{"id", "who"}},
		"of all columns": {"revoke select on notes from authenticated", []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, `
				create table notes (id int primary key, who text, body text);
				create function awaits() returns boolean language plpgsql as $$ begin perform pg_advisory_xact_lock_shared(77); return true; end $$;
				create policy own on notes using (auth.jwt() ->> 'sub' = who and awaits());
				alter table notes enable row level security;
				grant select on notes to authenticated; insert into notes values (1, 'ann', 'a'), (2, 'bob', 'b')`)
			var got []Seen
			for got == nil || got[0].Undecided { // where the test was too slow for the limit of locks
				s.exec("grant select on notes to authenticated")
				got = s.takenMeanwhile(tt.taken)
			}
			if !slices.Equal(got[0].Visible, []int{0}) {
				t.Errorf("asked before: %+v", got[0])
			}
			bob := got[1]
			if bob.Code != "" || bob.Undecided || !slices.Equal(bob.Columns, tt.columns) || (bob.Missing == "") != (len(tt.columns) > 0) {
				t.Errorf("asked afterwards: %+v", bob)
			}
			if len(tt.columns) > 0 && (!slices.Equal(bob.Visible, []int{1}) || bob.Texts[0][0] != nil) {
				t.Errorf("asked afterwards: %+v", bob)
			}
		})
	}
}

// takenMeanwhile asks about two groups, and has a statement executed while the policies of the first are asked.
func (s *stage) takenMeanwhile(taken string) []Seen {
	s.Helper()
	holder, err := s.db.Admin.Begin(s.Context())
	if err == nil {
		_, err = holder.Exec(s.Context(), "select pg_advisory_xact_lock(77)")
	}
	if err != nil {
		s.Fatal(err)
	}
	s.begin()
	notes, answered := s.table("notes"), make(chan []Seen, 1)
	go func() {
		seen, err := s.view.visible(s.Context(), notes, [][]string{{"1"}, {"2"}}, []Group{user("ann"), user("bob")}, nil, []string{"body"})
		if err != nil {
			s.Error(err)
			seen = make([]Seen, 2)
		}
		answered <- seen
	}()
	for waits := false; !waits && len(answered) == 0; {
		if err := s.admin.QueryRow(s.Context(), "select exists (select from pg_locks join pg_database d on d.oid = database where datname = current_database() and objid = 77 and not granted)").Scan(&waits); err != nil {
			s.Fatal(err)
		}
	}
	s.exec(taken)
	if err := holder.Commit(s.Context()); err != nil {
		s.Fatal(err)
	}
	return <-answered
}

// A few groups that take all their time do not keep the others waiting for ever; who was not asked is said.
func TestManySlowGroups(t *testing.T) {
	t.Parallel()
	s := newStage(t, `
		create table notes (id int primary key);
		create policy own on notes using (auth.jwt() ->> 'sub' = 'ann' or pg_sleep(60) is null);
		alter table notes enable row level security; grant select on notes to authenticated; insert into notes values (1)`)
	s.begin()
	groups := []Group{user("ann"), user("x"), user("y"), user("z"), user("ann")}
	got := s.visible(s.table("notes"), [][]string{{"1"}}, groups)
	if !slices.Equal(got[0].Visible, []int{0}) || got[0].Undecided {
		t.Errorf("before them: %+v", got[0])
	}
	for i, code := range []string{1: "57014", 2: "57014", 3: "", 4: ""} {
		if i > 0 && (!got[i].Undecided || got[i].Code != code || got[i].Reason == "" || len(got[i].Visible) > 0 || got[i].All) {
			t.Errorf("%d: %+v", i, got[i])
		}
	}
}

func TestKeysOfAnySort(t *testing.T) {
	t.Parallel()
	s := newStage(t, `
		create schema "we ird"; grant usage on schema "we ird" to authenticated;
		create type "we ird"."Mo,od" as enum ('so, so', '"', '{}', '\');
		create type pair as (a int, b text);
		create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		create domain code as text check (value like 'c%');
		create table "we ird"."odd"".na'me" ("Key %s one" "we ird"."Mo,od", t int, "n" text, "k1" text, primary key (t, "Key %s one"), u code);
		insert into "we ird"."odd"".na'me" values ('so, so', 1, 'a', 'b', 'cc'), ('"', 2, '100%', E'\\\n', 'cd'), ('\', 3, '', null, 'ce');
		create table lists (k int[] primary key); insert into lists values ('{1,2}'), ('{3}');
		create table pairs (k pair primary key); insert into pairs values ('(1,"a b")');
		create table codes (k code primary key); insert into codes values ('c1');
		create table times (k timestamptz, d interval, n numeric, b bytea, f float8, primary key (k, d, n, b, f)); insert into times values ('2024-01-01 00:00:00.5+02', '1 day -00:00:01', 1.50, '\x00ff', 0.1);
		create table nocases (k text collate nocase primary key); insert into nocases values ('Ann');
		create table padded (k char(5) primary key); insert into padded values ('a');
		create table flags (k bool primary key); insert into flags values (true);
		do $$ declare t regclass; begin
			for t in select oid from pg_class where relkind = 'r' and relnamespace in ('public'::regnamespace, '"we ird"'::regnamespace) loop
				execute format('alter table %s enable row level security; create policy p on %s using (true); grant select on %s to authenticated', t, t, t);
			end loop; end $$`)
	s.begin()
	for _, test := range []struct {
		table  string
		keys   [][]string
		wanted []string
		want   []int
		texts  [][]string
	}{
		{`"we ird"."odd"".na'me"`, [][]string{{"1", "so, so"}, {"1", `"`}, {"2", `"`}, {"3", `\`}, {"2", "none"}}, []string{"n", "k1", "Key %s one", "u"}, []int{0, 2, 3},
			[][]string{{"a", "b", "so, so", "cc"}, {"100%", "\\\n", `"`, "cd"}, {"", "NULL", `\`, "ce"}}},
		{"lists", [][]string{{"{3}"}, {"{1,2}"}, {"{1}"}, {"x"}}, []string{"k"}, []int{0, 1}, [][]string{{"{3}"}, {"{1,2}"}}},
		{"pairs", [][]string{{"(1,b)"}, {`(1,"a b")`}}, []string{"k"}, []int{1}, [][]string{{`(1,"a b")`}}},
		{"codes", [][]string{{"x"}, {"c1"}}, nil, []int{1}, nil},
		{"times", [][]string{{"2023-12-31 22:00:00.5+00", "1 day -00:00:01", "1.50", `\x00ff`, "0.1"}, {"2023-12-31 22:00:00.5+00", "1 day -00:00:01", "no number", `\x00ff`, "0.1"}},
			[]string{"k", "d", "n", "b", "f"}, []int{0}, [][]string{{"2023-12-31 22:00:00.5+00", "1 day -00:00:01", "1.50", `\x00ff`, "0.1"}}},
		{"nocases", [][]string{{"Ann"}, {"bob"}}, nil, []int{0}, nil},
		{"padded", [][]string{{"a    "}, {"b    "}}, []string{"k"}, []int{0}, [][]string{{"a    "}}},
		{"flags", [][]string{{"f"}, {"t"}}, []string{"k"}, []int{1}, [][]string{{"t"}}},
	} {
		got := s.visible(s.table(test.table), test.keys, []Group{user(annID)}, test.wanted...)[0]
		var texts [][]string
		for _, row := range got.Texts {
			var values []string
			for _, value := range row {
				if value == nil {
					values = append(values, "NULL")
					continue
				}
				values = append(values, *value)
			}
			texts = append(texts, values)
		}
		if !slices.Equal(got.Visible, test.want) || got.Code != "" || !cmp.Equal(texts, test.texts) {
			t.Errorf("%s: %+v %q", test.table, got, texts)
		}
	}
}

func TestRolesAndTables(t *testing.T) {
	t.Parallel()
	s := newStage(t, `
		create schema closed; create table closed.notes (id int primary key); grant select on closed.notes to anon;
		create table owned (id int primary key, n int); insert into owned values (1, 1);
		create table parted (id int, day int, primary key (id, day)) partition by list (day);
		create table part1 partition of parted for values in (1);
		create table parent (id int primary key); create table child (primary key (id)) inherits (parent);
		insert into parted values (1, 1); insert into child values (1); insert into parent values (2);
		alter table parted enable row level security; create policy p on parted using (true); grant select on parted, parent, child to authenticated;
		alter table part1 enable row level security;
		alter table parent enable row level security; create policy p on parent using (true)`)
	owner, stranger := s.db.NewRole(t, "nologin"), s.db.NewRole(t, "nologin")
	free := s.db.NewRole(t, "nologin bypassrls")
	s.exec(fmt.Sprintf("grant %s, %s to %s", owner, free, pgtest.ServerRole), "alter table owned owner to "+owner, "alter table owned enable row level security",
		"grant select on owned to public", "grant select on part1 to authenticated")
	s.begin()
	ask := func(table *Table, role string, key ...string) Seen {
		t.Helper()
		return s.visible(table, [][]string{key}, []Group{{role, []byte("{}")}})[0]
	}
	owned := s.table("owned")
	if got := ask(owned, owner, "1"); !got.All || got.RowSecurity {
		t.Errorf("the owner: %+v", got)
	}
	if got := ask(owned, free, "1"); got.Refusal != fmt.Sprintf("role %s bypasses row level security and is not in BYPASS_ROLES", free) || got.All {
		t.Errorf("who bypasses: %+v", got)
	}
	if got := ask(owned, stranger, "1"); got.Code != "42501" || got.All || got.Reason != fmt.Sprintf("permission denied to set role %q", stranger) {
		t.Errorf("who is not granted to the server: %+v", got)
	}
	s.exec("alter table owned force row level security")
	if got := ask(owned, owner, "1"); got.All || !got.RowSecurity || len(got.Visible) > 0 {
		t.Errorf("the owner, forced: %+v", got)
	}
	s.exec("alter table owned disable row level security")
	if got := ask(owned, owner, "1"); !got.All {
		t.Errorf("without policies: %+v", got)
	}
	s.exec("alter table owned enable row level security")
	if got := ask(s.table("closed.notes"), "anon", "1"); got.Missing != "grant usage on schema closed to anon;" || got.All || got.Visible != nil {
		t.Errorf("a closed schema: %+v", got)
	}
	if got := ask(s.table("parted"), "authenticated", "1", "1"); len(got.Visible) != 1 {
		t.Errorf("a partitioned table: %+v", got)
	}
	if got := ask(s.table("part1"), "authenticated", "1", "1"); len(got.Visible) != 0 || !got.RowSecurity {
		t.Errorf("its partition: %+v", got)
	}
	if got := ask(s.table("parent"), "authenticated", "1"); len(got.Visible) != 0 {
		t.Errorf("a child's row in its parent: %+v", got)
	}
	// Without keys: what the role may read, and whether policies bind it.
	if got := s.visible(owned, nil, []Group{user(annID)})[0]; !cmp.Equal(got, Seen{Columns: []string{"id", "n"}, RowSecurity: true}) {
		t.Errorf("without keys: %+v", got)
	}
	// The catalogs are those of now, the rows those of the view.
	s.exec(`alter table owned rename to "Renamed"`, `alter table "Renamed" no force row level security`, `alter table "Renamed" drop column n`)
	if got := s.visible(owned, [][]string{{"1"}}, []Group{{owner, []byte("{}")}}, "id")[0]; !got.All || len(got.Visible) != 1 || !slices.Equal(got.Columns, []string{"id"}) {
		t.Errorf("renamed: %+v", got)
	}
	s.exec(`drop table "Renamed"`, "create table late (id int primary key)", "grant select on late to authenticated")
	if got := ask(owned, "authenticated", "1"); got.Code != "42P01" || got.All {
		t.Errorf("dropped: %+v", got)
	}
	if got := ask(s.table("late"), "authenticated", "1"); got.Code != "42P01" || got.All {
		t.Errorf("made after the view began: %+v", got)
	}
}
