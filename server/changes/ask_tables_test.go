package changes

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What an entry's name stands for, and what a table says of being published.
func TestFindAndDescribe(t *testing.T) {
	t.Parallel()
	s := newStage(t, `
		create schema "Other one"; create table "Other one"."T a" (id int primary key);
		create table rooted (id int, day int, primary key (id)) partition by list (id); create table leaf partition of rooted for values in (1);
		create table deep partition of rooted for values in (2) partition by list (id); create table deepest partition of deep for values in (2);
		create table bare (a int, b text); create view seen as select * from bare;
		create table user_data (id int primary key); create table userxdata (id int primary key);
		create publication supabase_realtime for table rooted, "Other one"."T a", bare, user_data with (publish_via_partition_root = true);
		create publication leaves for table rooted; create publication everything for all tables`)
	ctx := t.Context()
	oid := func(name string) uint32 { return s.table(name).OID }
	for _, test := range []struct {
		publication, schema, table string
		want                       []string
		mend                       string
	}{
		{"supabase_realtime", "public", "user_data", []string{"user_data"}, ""},
		{"supabase_realtime", "public", "userxdata", nil, "alter publication supabase_realtime add table public.userxdata;"},
		{"supabase_realtime", "public", "user%", nil, `There is no table public."user%".`},
		{"supabase_realtime", "public", "seen", nil, "public.seen is not a table, so it has no changes of its own."},
		{"supabase_realtime", "Other one", "T a", []string{`"Other one"."T a"`}, ""},
		{"supabase_realtime", "", "", []string{`"Other one"."T a"`, "rooted", "bare", "user_data"}, ""},
		{"supabase_realtime", "public", "", []string{"rooted", "bare", "user_data"}, ""},
		{"supabase_realtime", "nowhere", "", nil, ""},
		{"supabase_realtime", "public", "leaf", nil, "Its changes are told by the name of public.rooted: ask for that, or alter publication supabase_realtime set (publish_via_partition_root = false);"},
		{"supabase_realtime", "public", "deepest", nil, "Its changes are told by the name of public.rooted: ask for that, or alter publication supabase_realtime set (publish_via_partition_root = false);"},
		{"supabase_realtime", "public", "rooted", []string{"rooted"}, ""},
		{"leaves", "public", "leaf", []string{"leaf"}, ""},
		{"leaves", "public", "rooted", []string{"rooted"}, ""},
		{"leaves", "public", "", []string{"leaf", "deepest"}, ""},
		{"everything", "public", "userxdata", []string{"userxdata"}, ""},
		{"missing", "public", "bare", nil, "alter publication missing add table public.bare;"},
	} {
		var want []uint32
		for _, name := range test.want {
			want = append(want, oid(name))
		}
		slices.Sort(want)
		got, err := find(ctx, onPool(s.pool), test.publication, test.schema, test.table)
		slices.Sort(got.Tables)
		if err != nil || !slices.Equal(got.Tables, want) || got.Mend != test.mend {
			t.Errorf("%s: %q.%q: %+v, %v; want %v", test.publication, test.schema, test.table, got, err, want)
		}
	}
	for name, want := range map[string]Table{
		"deepest":           {Published: true, Key: []string{"id"}, Parents: []Name{{"public", "deep"}, {"public", "rooted"}}},
		"rooted":            {Published: true, Key: []string{"id"}},
		"bare":              {Published: true},
		"userxdata":         {Key: []string{"id"}},
		`"Other one"."T a"`: {Published: true, Key: []string{"id"}},
	} {
		got := s.table(name)
		if got.Published != want.Published || !cmp.Equal(got.Key, want.Key) || !cmp.Equal(got.Parents, want.Parents) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if tables, err := describe(ctx, onPool(s.pool), "supabase_realtime", []uint32{1, oid("bare")}); err != nil || len(tables) != 1 {
		t.Errorf("%d tables, %v", len(tables), err)
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	s := newStage(t, `
		create type mood as enum ('sad'); create domain inner_mood as mood; create domain outer_mood as inner_mood; create domain moods as outer_mood[];
		create type pair as (a int, m mood); create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		create table typed (id int primary key, gone int, m outer_mood, l moods, p pair, ps pair[], t text collate nocase, v varchar(3)[], j json, c int2vector, n numeric, b box[], x text);
		alter table typed drop column gone`)
	table := s.table("typed")
	elem := func(t *Type) Type {
		if t == nil {
			return Type{}
		}
		return *t
	}
	for _, c := range table.Columns {
		base, e := c.Type.Base, elem(c.Type.Elem)
		var ok bool
		switch c.Name {
		case "m":
			ok = c.Type.Name == "outer_mood" && base >= firstUserOID && base != c.Type.OID && c.Type.Exact && !c.Type.Exotic
		case "l":
			ok = c.Type.Name == "moods" && e.Name == "outer_mood" && e.Exact && e.Base == s.columnType(table, "m").Base
		case "p":
			ok = c.Type.Exotic && !c.Type.Exact
		case "ps":
			ok = !c.Type.Exotic && e.Exotic && c.Type.Name == "_pair"
		case "t":
			ok = base == oidText && !c.Type.Exact
		case "x":
			ok = base == oidText && c.Type.Exact && c.Type.Delimiter == ',' && c.Type.Elem == nil
		case "v":
			ok = e.Base == oidVarchar && e.Exact
		case "j", "n":
			ok = !c.Type.Exotic && !c.Type.Exact
		case "c":
			ok = c.Type.Exotic
		case "b":
			ok = e.Delimiter == ';'
		case "id":
			ok = base == oidInt4
		}
		if !ok {
			t.Errorf("%s: %+v, of %+v", c.Name, c.Type, e)
		}
	}
	text := func(s string) *string { return &s }
	for _, test := range []struct {
		column string
		c      Condition
		values []*string
		want   []bool
		fails  bool
	}{
		{"n", Condition{Op: Eq, Value: "1.0"}, []*string{text("1"), text("1.00"), text("2"), nil}, []bool{true, true, false, false}, false},
		{"n", Condition{Op: Neq, Value: "1.0"}, []*string{text("1"), text("2"), nil}, []bool{false, true, false}, false},
		{"n", Condition{Op: Gt, Not: true, Value: "1"}, []*string{text("1"), text("2"), nil}, []bool{true, false, false}, false},
		{"n", Condition{Op: IsDistinct, Value: "1"}, []*string{text("1"), text("2"), nil}, []bool{false, true, true}, false},
		{"n", Condition{Op: IsDistinct, Not: true, Value: "1"}, []*string{text("1"), nil}, []bool{true, false}, false},
		{"n", Condition{Op: In, Values: []string{"1", "2.0"}}, []*string{text("2"), text("3"), nil}, []bool{true, false, false}, false},
		{"n", Condition{Op: In, Values: []string{}}, []*string{text("2"), nil}, []bool{false, false}, false},
		{"n", Condition{Op: Is, Value: "null"}, []*string{text("2"), nil}, []bool{false, true}, false},
		{"n", Condition{Op: Gte, Value: "1"}, []*string{text("1"), text("x"), text("2")}, []bool{true, false, true}, true},
		{"t", Condition{Op: Eq, Value: "ANN"}, []*string{text("ann"), text("bob")}, []bool{true, false}, false},
		{"x", Condition{Op: ILike, Value: `A\_%`}, []*string{text("a_b"), text("ab")}, []bool{true, false}, false},
		{"x", Condition{Op: Like, Value: "a%"}, []*string{text("a'b\\"), text("Ab")}, []bool{true, false}, false},
		{"x", Condition{Op: Match, Value: "^a+$"}, []*string{text("aa"), text("AA")}, []bool{true, false}, false},
		{"x", Condition{Op: IMatch, Not: true, Value: "^a+$"}, []*string{text("aa"), text("AA"), text("b")}, []bool{false, false, true}, false},
		{"m", Condition{Op: Lte, Value: "sad"}, []*string{text("sad")}, []bool{true}, false},
		{"l", Condition{Op: Eq, Value: "{sad}"}, []*string{text("{sad}"), text("{}")}, []bool{true, false}, false},
		{"v", Condition{Op: In, Values: []string{"{a,b}", "{}"}}, []*string{text("{a,b}"), text("{a}"), text("{}")}, []bool{true, false, true}, false},
		{"p", Condition{Op: Is, Value: "null"}, []*string{text("(,)"), text("(1,)"), nil}, []bool{true, false, true}, false},
		{"p", Condition{Op: Eq, Value: "(1,sad)"}, []*string{text("(1,sad)"), text("(2,sad)")}, []bool{true, false}, false},
	} {
		test.c.Column = test.column
		got, err := matches(t.Context(), onPool(s.pool), table, test.c, test.values)
		if !slices.Equal(got, test.want) || errors.Is(err, errUndecided) != test.fails || err != nil && !test.fails {
			t.Errorf("%s %+v: %v, %v", test.column, test.c, got, err)
		}
	}
	types := []uint32{s.columnType(table, "p").OID, s.columnType(table, "c").OID, s.columnType(table, "ps").OID, s.columnType(table, "p").OID}
	rendered, err := render(t.Context(), onPool(s.pool), types, []*string{text("(1,sad)"), text("1 2"), text(`{"(1,sad)","(,)"}`), text("no pair")})
	want := []string{`{"a": 1, "m": "sad"}`, "[1, 2]", `[{"a": 1, "m": "sad"}, {"a": null, "m": null}]`, `"no pair"`}
	if err != nil || !cmp.Equal(rendered, want) {
		t.Errorf("%q, %v", rendered, err)
	}
}

func (s *stage) columnType(t *Table, name string) *Type {
	s.Helper()
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		s.Fatalf("there is no column %s", name)
	}
	return t.Columns[i].Type
}
