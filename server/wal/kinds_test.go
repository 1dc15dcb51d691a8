package wal_test

import (
	"fmt"
	"strings"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/server/wal"
)

// What is told of each kind of change, by what the table says its rows are known by.
func TestReplicaIdentities(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		identity string
		want     []string
	}{
		"default": {"default", []string{
			"I t (id=1 a=x b=y)", "U t (id=1 a=x2 b=y)", "U t key(id=1 a=- b=-) → (id=2 a=x2 b=y)", "D t key(id=2 a=- b=-)"}},
		"full": {"full", []string{
			"I t (id=1 a=x b=y)", "U t (id=1 a=x b=y) → (id=1 a=x2 b=y)", "U t (id=1 a=x2 b=y) → (id=2 a=x2 b=y)", "D t (id=2 a=x2 b=y)"}},
		"index": {"using index t_a", []string{
			"I t (id=1 a=x b=y)", "U t key(id=- a=x b=-) → (id=1 a=x2 b=y)", "U t (id=2 a=x2 b=y)", "D t key(id=- a=x2 b=-)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := pgtest.New(t)
			exec(t, d, "create table t (id int primary key, a text not null, b text)", "create unique index t_a on t (a)",
				"alter table t replica identity "+tt.identity, "create publication pub for table t")
			s := stream(t, options(d), newRecorder())
			exec(t, d, "insert into t values (1, 'x', 'y'); update t set a = 'x2'; update t set id = 2; delete from t")
			said := s.awaitCommits(t, 1)
			equal(t, said[1:len(said)-1], tt.want...)
		})
	}
}

// Without an identity there are inserts only; Postgres refuses the rest.
func TestReplicaIdentityNothing(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int)", "alter table t replica identity nothing", "create publication pub for table t")
	s := stream(t, options(d), newRecorder())
	if _, err := d.Admin.Exec(t.Context(), "update t set id = 2"); err == nil {
		t.Error("Postgres lets an update through that it cannot tell of")
	}
	exec(t, d, "insert into t values (1)")
	s.awaitCommits(t, 1)
	s.awaitThat(t, func() bool { return len(s.rows) == 1 })
	if r := s.rows[0].Relation; r.Identity != wal.IdentityNothing || r.Columns[0].Key {
		t.Errorf("told of %+v", *r)
	}
}

// Long values that an UPDATE does not touch are not written again.
func TestUnchangedToast(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key, long text)", "alter table t alter long set storage external",
		"create table f (id int primary key, long text)", "alter table f alter long set storage external", "alter table f replica identity full",
		"create table k (id text primary key, n int)", "alter table k alter id set storage external", "create publication pub for table t, f, k")
	s := stream(t, options(d), newRecorder())
	exec(t, d, "insert into k values (repeat('k', 2400), 1); update k set n = 2")
	s.awaitCommits(t, 1)
	if v := s.rows[1].New[0]; v.Kind != wal.Text || len(v.Text) != 2400 {
		t.Errorf("a key that did not change is %c, %d bytes", v.Kind, len(v.Text))
	}
	s.rows = nil
	exec(t, d, "insert into t values (1, repeat('x', 10000)); update t set id = 2; insert into f values (1, repeat('y', 10000)); update f set id = 2")
	s.awaitCommits(t, 2)
	if v := s.rows[1].New[1]; v.Kind != wal.Unchanged || v.Text != nil {
		t.Errorf("an untouched value is %c, %d bytes", v.Kind, len(v.Text))
	}
	last := s.rows[3]
	if len(last.Old) != 2 || last.Old[1].Kind != wal.Text || len(last.Old[1].Text) != 10000 || last.KeyOnly {
		t.Errorf("of a full row the old one lacks what did not change: %+v", last.Relation)
	}
	if v := last.New[1]; v.Kind != wal.Text || len(v.Text) != 10000 {
		t.Errorf("what did not change is not taken from the old row: %c, %d bytes", v.Kind, len(v.Text))
	}
}

// Every value has one text, whatever the role's settings say.
func TestTextForms(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	role := d.NewRole(t, "login replication")
	for _, setting := range []string{"timezone = 'Asia/Kolkata'", "datestyle = 'German'", "intervalstyle = 'iso_8601'", "bytea_output = 'escape'",
		"extra_float_digits = 0", "client_encoding = 'latin1'", "statement_timeout = '1ms'", "lock_timeout = '1ms'"} {
		exec(t, d, "alter role "+role+" set "+setting)
	}
	exec(t, d, `create table t (id int primary key, at timestamptz, day date, i interval, b bytea, f float8, r float4, e text, ok bool, j jsonb,
		a text[], n numeric, nothing text, g int generated always as (id * 2) stored)`, "create publication pub for table t")
	o := options(d)
	o.URL = d.As(role)
	s := stream(t, o, newRecorder())
	exec(t, d, `insert into t values (1, '2024-05-06 07:08:09.123456+02', '2024-05-06', '1 day 02:03:04', '\x00ff', 0.1::float8 + 0.2, 0.1, 'é €', true,
		'{"a":[1,2]}', array['x', null, 'a,b'], 12345678901234567890.10, null)`)
	equal(t, s.awaitCommits(t, 1)[1:2], "I t (id=1 at=2024-05-06 05:08:09.123456+00 day=2024-05-06 i=1 day 02:03:04 b=\\x00ff f=0.30000000000000004 "+
		"r=0.1 e=é € ok=t j={\"a\": [1, 2]} a={x,NULL,\"a,b\"} n=12345678901234567890.10 nothing=-)") // a generated column is not published
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		with string
		want []string
	}{
		"as themselves": {"", []string{
			"I low (id=1 a=x)", "I high (id=11 a=y)", "U low (id=1 a=x2)", "D low key(id=1 a=-)", "I high (id=12 a=x2)", "D high key(id=11 a=-)", "truncate high low"}},
		"as their parent": {" with (publish_via_partition_root)", []string{
			"I t (id=1 a=x)", "I t (id=11 a=y)", "U t (id=1 a=x2)", "D t key(id=1 a=-)", "I t (id=12 a=x2)", "D t key(id=11 a=-)", "truncate t"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := pgtest.New(t)
			exec(t, d, "create table t (id int primary key, a text) partition by range (id)", "create table low partition of t for values from (0) to (10)",
				"create table high (a text, id int not null)", "alter table t attach partition high for values from (10) to (20)", // columns in another order
				"create publication pub for table t"+tt.with)
			s := stream(t, options(d), newRecorder())
			exec(t, d, "insert into t values (1, 'x'), (11, 'y'); update t set a = 'x2' where id = 1; update t set id = 12 where id = 1; delete from t where id = 11; truncate t")
			said := s.awaitCommits(t, 1)
			want := strings.Join(tt.want, "\n")
			if tt.with == "" {
				want = strings.NewReplacer("I high (id=11 a=y)", "I high (a=y id=11)", "I high (id=12 a=x2)", "I high (a=x2 id=12)", "key(id=11 a=-)", "key(a=- id=11)").Replace(want)
			}
			equal(t, said[1:len(said)-1], strings.Split(want, "\n")...)
		})
	}
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key)", "create table u (id int references t)", "create table other (id int)", "create publication pub for table t, u")
	s := stream(t, options(d), newRecorder())
	exec(t, d, "truncate other", "truncate t cascade")
	equal(t, s.awaitCommits(t, 1), "begin", "truncate t u", "commit")
}

// A table may change at any time: each change is told with the table as it was then.
func TestTableAltered(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key, a text)", "create publication pub for table t")
	s := stream(t, options(d), newRecorder())
	exec(t, d, "insert into t values (1, 'x')",
		"begin; insert into t values (2, 'y'); alter table t add b int default 5; insert into t values (3, 'z'); commit",
		"alter table t drop a", "insert into t values (4, 6)", "alter table t rename b to c", "alter table t alter c type bigint",
		"alter table t rename to u", "insert into u values (5, 7)", "alter table u replica identity full", "update u set c = 8 where id = 5")
	s.awaitThat(t, func() bool { return len(s.rows) == 6 })
	got := make([]string, 6)
	for i, c := range s.rows {
		got[i] = fmt.Sprintf("%s %s %c", c.Relation.Name, row(c.Relation, c.New), c.Relation.Identity)
	}
	equal(t, got, "t (id=1 a=x) d", "t (id=2 a=y) d", "t (id=3 a=z b=5) d", "t (id=4 b=6) d", "u (id=5 c=7) d", "u (id=5 c=8) f")
	if columns := s.rows[4].Relation.Columns; !columns[0].Key || columns[1].Key || columns[1].Type != 20 || columns[1].Modifier != -1 {
		t.Errorf("the columns are told as %+v", columns)
	}
	if r := s.rows[0].Relation; r.Schema != "public" || len(r.Columns) != 2 || r.Columns[1].Name != "a" {
		t.Errorf("the table as it was has become %+v", *r)
	}
}

// A table is told of from the transaction on in which it is published.
func TestTablePublishedLater(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	name := `it's a "list", of, one`
	quoted := `"it's a ""list"", of, one"`
	exec(t, d, "create table t (id int primary key)", "create table u (id int primary key)", "create publication "+quoted+" for table t")
	o := options(d)
	o.Publication = name
	s := stream(t, o, newRecorder())
	exec(t, d, "insert into u values (1)", "alter publication "+quoted+" add table u", "insert into u values (2)",
		"alter publication "+quoted+" drop table t", "insert into t values (3)", "insert into u values (4)")
	s.awaitThat(t, func() bool { return len(s.rows) == 2 })
	equal(t, []string{row(s.rows[0].Relation, s.rows[0].New), row(s.rows[1].Relation, s.rows[1].New)}, "(id=2)", "(id=4)")
}
