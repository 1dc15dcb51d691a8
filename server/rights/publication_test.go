package rights

import (
	"testing"

	"rowcast/server/pgtest"
)

// What is published is looked at with the digest: whatever is another table is told, and has nobody decided again.
func TestWhatIsPublishedIsLookedAt(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t) // its own: everything in a database may be published
	w, decided := watcher(t, db)
	told := 0
	w.options.Publication, w.options.Published = "p", func() { told++ }
	look := func() {
		t.Helper()
		if err := w.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	find(t, w)
	look()
	told, *decided = 0, 0
	exec(t, db, `create table a (id int primary key); create table b (id int primary key)`)
	for _, tt := range []struct {
		statement string
		another   bool
	}{
		{`create publication other for table a`, false},
		{`create publication p`, true},
		{`alter publication p add table a`, true},
		{`insert into a values (1)`, false},
		{`vacuum full a`, false},
		{`analyze a`, false},
		{`alter table a rename to c`, true},
		{`alter publication p add table b`, true},
		{`alter publication p set (publish_via_partition_root = true)`, true},
		{`alter publication p set (publish = 'insert')`, true},
		{`grant select on c to authenticated`, true},
		{`revoke select on c from authenticated`, true},
		{`grant select (id) on c to authenticated`, true},
		{`revoke select (id) on c from authenticated`, true},
		{`alter table c enable row level security`, true},
		{`grant usage on schema public to anon`, true},
		{`drop table b`, true},
		{`drop publication p; create publication p for all tables`, true},
		{`create table d (id int primary key)`, true},
		{`drop publication p`, true},
		{`drop publication other`, false},
	} {
		before := told
		exec(t, db, tt.statement)
		look()
		if another := told > before; another != tt.another {
			t.Errorf("%s: told %t", tt.statement, another)
		}
	}
	if *decided != 0 {
		t.Errorf("everybody was decided again %d times", *decided)
	}
	exec(t, db, `create publication p for table c; create role readers`)
	look()
	for _, statement := range []string{`grant readers to authenticated`, `revoke readers from authenticated`} { // rights on messages may change with that, too
		before := told
		exec(t, db, statement)
		find(t, w)
		if look(); told == before {
			t.Errorf("%s: not told", statement)
		}
	}
}
