package changes

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

// askPatience bounds waits for something that is certain to come.
const askPatience = time.Minute

// stage is a database with the helpers of auth, a pool and a view of the server's ordinary role.
type stage struct {
	testing.TB
	db    *pgtest.DB
	admin *pgx.Conn
	pool  *postgres.Pool
	view  *view
}

func newStage(t testing.TB, statements ...string) *stage {
	t.Helper()
	return newStageOn(t, pgtest.New(t), statements...)
}

func newStageOn(t testing.TB, db *pgtest.DB, statements ...string) *stage {
	t.Helper()
	s := &stage{TB: t, db: db}
	ctx, cancel := context.WithTimeout(t.Context(), askPatience)
	defer cancel()
	var err error
	if s.admin, err = pgx.Connect(ctx, s.db.AdminURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.admin.Close(context.Background()) })
	s.exec(sql.Auth)
	s.exec(statements...)
	if s.pool, err = postgres.Open(ctx, s.db.URL, 2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.pool.Close)
	if s.view, err = openView(ctx, s.db.URL, []string{"service_role"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.view.close)
	return s
}

func (s *stage) exec(statements ...string) {
	s.Helper()
	for _, statement := range statements {
		if _, err := s.admin.Exec(s.Context(), statement); err != nil {
			s.Fatalf("%s: %v", statement, err)
		}
	}
}

func (s *stage) begin() {
	s.Helper()
	if _, err := s.view.begin(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// table describes a table by its name, as it is quoted in SQL.
func (s *stage) table(name string) *Table {
	s.Helper()
	var oid uint32
	if err := s.admin.QueryRow(s.Context(), "select $1::text::regclass::oid", name).Scan(&oid); err != nil {
		s.Fatal(err)
	}
	tables, err := describe(s.Context(), onPool(s.pool), "supabase_realtime", []uint32{oid})
	if err != nil || len(tables) != 1 {
		s.Fatalf("%d tables, %v", len(tables), err)
	}
	return tables[0]
}

func (s *stage) visible(t *Table, keys [][]string, groups []Group, wanted ...string) []Seen {
	s.Helper()
	seen, err := s.view.visible(s.Context(), t, keys, groups, nil, wanted)
	if err != nil {
		s.Fatal(err)
	}
	return seen
}

const (
	annID = "a1111111-1111-4111-8111-111111111111"
	bobID = "b2222222-2222-4222-8222-222222222222"
)

func user(sub string) Group {
	return Group{"authenticated", []byte(`{"role": "authenticated", "sub": "` + sub + `"}`)}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	s := newStage(t, `
		create table notes (id int primary key, owner uuid, body text, secret text);
		alter table notes enable row level security;
		create policy own on notes for select using (owner = auth.uid());
		grant select (id, owner, body) on notes to authenticated; grant select on notes to service_role; grant select (body) on notes to anon;
		insert into notes values (1, '`+annID+`', 'hers', 'x'), (2, '`+bobID+`', 'his', 'y'), (3, '`+annID+`', null, 'z')`)
	s.begin()
	got := s.visible(s.table("notes"), [][]string{{"1"}, {"2"}, {"3"}, {"4"}}, []Group{
		user(annID), {"service_role", []byte("{}")}, user(bobID), {"anon", []byte("{}")}, {"postgres", []byte("{}")}, {"nobody", []byte("{}")},
	}, "body", "secret")
	text := func(s string) *string { return &s }
	want := []Seen{
		{Columns: []string{"id", "owner", "body"}, RowSecurity: true, Visible: []int{0, 2}, Texts: [][]*string{{text("hers"), nil}, {nil, nil}}},
		{Columns: []string{"id", "owner", "body", "secret"}, All: true, Visible: []int{0, 1, 2}, Texts: [][]*string{{text("hers"), text("x")}, {text("his"), text("y")}, {nil, text("z")}}},
		{Columns: []string{"id", "owner", "body"}, RowSecurity: true, Visible: []int{1}, Texts: [][]*string{{text("his"), nil}}},
		{Columns: []string{"body"}, RowSecurity: true, Missing: "grant select on public.notes to anon;"},
		{Columns: []string{}, Refusal: "role postgres is a superuser"},
		{Columns: []string{}, Refusal: "role nobody does not exist"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	s := newStage(t, `
		create type mood as enum ('sad', 'happy');
		create type pair as (a int, b text);
		create domain mail as text check (value like '%@%');
		create table plain (id bigint primary key, email mail, moods mood[], two pair, at timestamptz, twice int generated always as (7) stored);
		create policy own on plain for select using (email = auth.email());
		alter table plain enable row level security;
		grant select on plain to authenticated`)
	ctx := t.Context()
	if p, err := readPublication(ctx, onPool(s.pool), "supabase_realtime"); p != nil || err != nil {
		t.Errorf("before: %+v, %v", p, err)
	}
	if err := makePublication(ctx, s.pool, "supabase_realtime"); err != nil {
		t.Fatal(err)
	}
	before, err := readPublication(ctx, onPool(s.pool), "supabase_realtime")
	if err != nil || !before.ViaRoot || before.WALLevel != "logical" {
		t.Fatalf("%+v, %v", before, err)
	}
	f, err := find(ctx, onPool(s.pool), "supabase_realtime", "public", "plain")
	if err != nil || len(f.Tables) > 0 || f.Mend != "alter publication supabase_realtime add table public.plain;" {
		t.Errorf("%+v, %v", f, err)
	}
	s.exec(f.Mend)
	table := s.table("plain")
	for _, names := range [][2]string{{"public", "plain"}, {"public", ""}, {"", ""}} {
		if f, err := find(ctx, onPool(s.pool), "supabase_realtime", names[0], names[1]); err != nil || !cmp.Equal(f, found{Tables: []uint32{table.OID}}) {
			t.Errorf("%v: %+v, %v", names, f, err)
		}
	}
	if after, err := readPublication(ctx, onPool(s.pool), "supabase_realtime"); err != nil || after.Digest == before.Digest {
		t.Errorf("%+v, %v", after, err)
	}
	if !table.Published || !table.RowSecurity || !cmp.Equal(table.Key, []string{"id"}) || len(table.Columns) != 6 || !table.Columns[5].Generated ||
		!table.Columns[1].Type.Exact || table.Columns[1].Type.Base != oidText || table.Columns[2].Type.Elem == nil || !table.Columns[2].Type.Elem.Exact || !table.Columns[3].Type.Exotic {
		t.Errorf("%+v", table)
	}
	for _, test := range []struct {
		filter []Condition
		names  []string
		want   checked
	}{
		{[]Condition{{Column: "id", Op: Eq, Value: "1"}, {Column: "email", Op: Like, Value: "a%"}}, nil, checked{}},
		{[]Condition{{Column: "nothing", Op: Eq, Value: "1"}}, nil, checked{"P0001", "invalid column for filter nothing", ""}},
		{nil, []string{"id", "nothing"}, checked{"P0001", "invalid column for select nothing", ""}},
		{[]Condition{{Column: "id", Op: Eq, Value: "x"}}, nil, checked{"22P02", `invalid input syntax for type bigint: "x"`, ""}},
		{[]Condition{{Column: "email", Op: Match, Value: "("}}, nil, checked{"2201B", "invalid regular expression: parentheses () not balanced", ""}},
		{[]Condition{{Column: "id", Op: Like, Value: "1"}}, nil, checked{"42883", "operator does not exist: bigint pg_catalog.~~ text", ""}},
		{[]Condition{{Column: "id", Op: In, Values: []string{"1", "2"}}}, nil, checked{}},
	} {
		got, err := check(ctx, onPool(s.pool), "authenticated", nil, table, &Entry{Filter: test.filter, Select: test.names})
		if err != nil || got != test.want {
			t.Errorf("%+v: %+v, %v", test.filter, got, err)
		}
	}
	text := func(s string) *string { return &s }
	got, err := matches(ctx, onPool(s.pool), table, Condition{Column: "at", Op: Gt, Value: "2024-01-01"}, []*string{text("2024-01-01 00:00:00+00"), text("2024-01-01 00:00:01+00"), nil})
	if err != nil || !cmp.Equal(got, []bool{false, true, false}) {
		t.Errorf("%v, %v", got, err)
	}
	rendered, err := render(ctx, onPool(s.pool), []uint32{table.Columns[3].Type.OID, table.Columns[3].Type.OID}, []*string{text(`(1,"x y")`), nil})
	if err != nil || !cmp.Equal(rendered, []string{`{"a": 1, "b": "x y"}`, "null"}) {
		t.Errorf("%v, %v", rendered, err)
	}
	p, err := readPolicies(ctx, s.pool, table.OID)
	if err != nil || p.Claims.All || !cmp.Equal(p.Claims.Names, []string{"email"}) {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, want := range []bool{true, false} {
		if same, err := unchanged(ctx, s.pool, []*policies{p}); err != nil || same[0] != want {
			t.Errorf("%v, %v", same, err)
		}
		s.exec("alter policy own on plain using (true)")
	}
}

// A view sees what was there when it began, until it begins again; an error in it, and its end, cost it nothing more.
func TestViewKeepsItsSnapshot(t *testing.T) {
	t.Parallel()
	s := newStage(t, "create table notes (id int primary key); grant select on notes to service_role; insert into notes values (1)")
	notes, groups := s.table("notes"), []Group{{"service_role", []byte("{}")}}
	count := func() int { return len(s.visible(notes, [][]string{{"1"}}, groups, "id")[0].Visible) }
	first, err := s.view.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.exec("delete from notes")
	if n := count(); n != 1 {
		t.Errorf("%d rows in the view from before", n)
	}
	if err := s.view.read(t.Context(), "select 1 / 0", nil, func(pgx.Rows) error { return nil }); postgres.SQLState(err) != "22012" {
		t.Error(err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d rows after an error", n)
	}
	second, err := s.view.begin(t.Context())
	if err != nil || !first.OlderThan(second) {
		t.Errorf("%v, then %v, %v", first, second, err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d rows in the new view", n)
	}
	if err := s.view.end(t.Context()); err != nil || s.view.closed() {
		t.Error(err)
	}
}

// scanInto reads the one value of an answer.
func scanInto(to any) func(pgx.Rows) error {
	return func(rows pgx.Rows) error { return rows.Scan(to) }
}
