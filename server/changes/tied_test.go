package changes

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// crowd are users who own rows of notes, and one whom no policy binds.
type crowd struct {
	*theater
	root  *spectator
	users []*spectator
	role  string
	asked atomic.Int64 // the most who were asked in one question
}

const crowded = 30

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{}
	judged := func(tr *trial, _ *batch) {
		for _, h := range tr.hears {
			c.asked.Store(max(c.asked.Load(), int64(len(h.who.groups))))
			for _, r := range h.rears {
				c.asked.Store(max(c.asked.Load(), int64(len(r.groups))))
			}
		}
	}
	c.theater = newTheater(t, func(o *Options) { o.judged = judged }, notes)
	c.role = c.db.NewRole(t, "")
	c.exec("grant "+c.role+" to rowcast", "grant select on notes to "+c.role)
	c.root = c.subscribed(service, all)
	for i := range crowded {
		c.users = append(c.users, c.subscribed(c.user(personOf(i)), all))
	}
	return c
}

func (c *crowd) user(sub string) Group {
	return Group{c.role, fmt.Appendf(nil, `{"role":%q,"sub":%q}`, c.role, sub)}
}

func personOf(i int) string { return fmt.Sprintf("a1111111-1111-4111-8111-%012d", i) }

// tell executes statements one by one, and compares what everybody is told, in their order. Then the table is empty.
func (c *crowd) tell(want map[int][]string, everybody []string, statements ...string) {
	c.Helper()
	c.asked.Store(0)
	for _, s := range statements {
		c.exec(s)
	}
	c.exec("insert into notes values (999, null, null)") // what was before it is judged with it, or before
	c.root.await(`"id":999`)
	c.exec("truncate notes")
	c.root.await("+TRUNCATE public.notes")
	for i, u := range c.users {
		told := slices.DeleteFunc(u.await("+TRUNCATE public.notes"), func(text string) bool { return strings.Contains(text, `"id":999`) })
		if diff := cmp.Diff(slices.Concat(everybody, want[i], []string{"+TRUNCATE public.notes"}), told); diff != "" {
			c.Errorf("%s: user %d: %s", strings.Join(statements, "; "), i, diff)
		}
	}
}

// Who is not asked about a row is told the same as if he were.
func TestWhoIsNotAskedIsToldTheSame(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	row := func(id, owner int) string {
		return fmt.Sprintf("insert into notes values (%d, '%s', 'x')", id, personOf(owner))
	}
	is := func(id, owner int) string {
		return fmt.Sprintf(`{"id":%d,"owner":"%s","body":"x"}`, id, personOf(owner))
	}
	told := func(id, owner int) []string { return []string{"[1] INSERT notes " + is(id, owner)} }
	few := func(what string) {
		t.Helper()
		if n := c.asked.Load(); n > 5 {
			t.Errorf("%s: %d are asked", what, n)
		}
	}
	c.tell(map[int][]string{3: told(1, 3)}, nil, row(1, 3))
	few("an INSERT")
	c.tell(map[int][]string{3: slices.Concat(told(1, 3), told(3, 3)), 5: told(2, 5)}, nil, row(1, 3)+";"+row(2, 5)+";"+row(3, 3)+";"+row(4, crowded))
	few("several rows")
	c.tell(map[int][]string{4: {"[1] UPDATE notes " + is(1, 4) + ` was {"id":1}`}}, nil, row(1, 3)+"; update notes set owner = '"+personOf(4)+"'")
	c.tell(nil, nil, "insert into notes values (1, null, 'x')")

	c.tell(nil, told(1, 3), "alter table notes disable row level security", row(1, 3))
	c.tell(map[int][]string{3: told(1, 3)}, nil, "alter table notes enable row level security", row(1, 3))
	c.tell(nil, told(1, 3), "alter table notes owner to "+c.role, row(1, 3))
	c.tell(map[int][]string{3: told(1, 3)}, nil, "alter table notes force row level security", row(1, 3))
	c.exec("alter table notes no force row level security; alter table notes owner to current_user; grant select on notes to " + c.role)

	editor := c.db.NewRole(t, "")
	c.tell(map[int][]string{3: told(1, 3)}, nil, "create policy edit on notes to "+editor+" using (true)", row(1, 3))
	few("a policy of another role")
	c.tell(nil, told(1, 3), "grant "+editor+" to "+c.role, row(1, 3))
	c.tell(map[int][]string{3: told(1, 3)}, nil, "revoke "+editor+" from "+c.role, row(1, 3))
	few("a policy of a role that was revoked")
	c.tell(nil, told(1, 3), "alter policy own on notes using (true)", row(1, 3))
	c.tell(map[int][]string{3: told(1, 3)}, nil, "alter policy own on notes using (true)", "create policy narrow on notes as restrictive using (owner = (select auth.uid()))", row(1, 3))
	few("a restrictive policy")
	c.exec("drop policy narrow on notes; alter policy own on notes using (owner = auth.uid())")

	// A function is another.
	c.exec("create function me() returns uuid language sql stable as $$ select auth.uid() $$; alter policy own on notes using (owner = me())")
	c.tell(map[int][]string{3: told(1, 3)}, nil, row(1, 3))
	c.tell(map[int][]string{7: told(1, 7)}, nil, "create or replace function me() returns uuid language sql stable return (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid", row(1, 7))
	few("a function that is understood")
	c.tell(nil, told(1, 7), "create or replace function me() returns uuid language sql stable return '"+personOf(7)+"'::uuid", row(1, 7))
	c.exec("alter policy own on notes using (owner = auth.uid())")

	// Rows that are gone: whose they were is known, or not.
	gone := func(old string) map[int][]string {
		return map[int][]string{3: slices.Concat(told(1, 3), []string{"[1] DELETE notes was " + old})}
	}
	seen := func() { c.root.await(`INSERT notes {"id":1,`) }
	remove := func(old string) {
		t.Helper()
		c.exec(row(1, 3))
		seen()
		c.tell(gone(old), nil, "delete from notes")
	}
	remove(`{"id":1}`)
	if n := c.asked.Load(); n < crowded {
		t.Errorf("%d are asked about a DELETE of a row of which nobody knows whose it was", n)
	}
	c.exec("alter table notes replica identity full")
	remove(is(1, 3))
	few("a DELETE of a row that is known")
	c.exec(row(1, 3))
	seen()
	c.tell(map[int][]string{3: told(1, 3), 4: {"[1] UPDATE notes " + is(1, 4) + ` was {"id":1}`}}, nil, "update notes set owner = '"+personOf(4)+"'")
	few("an UPDATE")

	// What keeps all of a role from being told.
	c.exec("revoke select on notes from "+c.role, row(1, 3))
	for i, u := range c.users {
		if told := u.await("[Error 401: Unauthorized]"); len(told) != 2 || !strings.Contains(told[0], "grant select on public.notes") {
			t.Errorf("user %d is told %q", i, told)
		}
	}
	c.exec("grant select on notes to "+c.role, "alter role "+c.role+" bypassrls", row(2, 3))
	for _, u := range c.users {
		u.expect("-Changes of public.notes are kept from you: whether you may see the rows cannot be decided")
	}
	c.exec("alter role " + c.role + " nobypassrls")
	c.root.await(`"id":2`)
	c.exec("truncate notes")
	c.root.await("+TRUNCATE")
	for _, u := range c.users {
		u.await("+TRUNCATE")
	}
	c.exec("alter table notes drop constraint notes_pkey", row(1, 3))
	for i, u := range c.users {
		if told := u.await("[Error 400: Bad Request, no primary key]"); len(told) != 1 {
			t.Errorf("user %d is told %q", i, told)
		}
	}
}

// A user is found however his id is spelled; of a spelling that only Postgres reads, it is asked.
func TestSpellingsOfAUser(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	var all []*spectator
	for _, sub := range []string{annID, strings.ToUpper(annID), "{" + annID + "}", strings.ReplaceAll(annID, "-", ""), annID[:4] + "-" + annID[4:], bobID} {
		all = append(all, th.subscribed(user(sub), `{"event":"*","schema":"public","table":"notes"}`))
	}
	th.exec("insert into notes values (1, '"+annID+"', 'a')", "insert into notes values (2, '"+bobID+"', 'b')")
	for _, ann := range all[:5] {
		ann.expect(`[1] INSERT notes {"id":1,"owner":"` + annID + `","body":"a"}`)
	}
	all[5].expect(`[1] INSERT notes {"id":2,"owner":"` + bobID + `","body":"b"}`)
}

// Somebody of a role that nobody had when policies were read is asked with the others, and found among them afterwards.
func TestARoleThatComesLater(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	row := func(id int) string { return fmt.Sprintf("insert into notes values (%d, '%s', 'x')", id, annID) }
	c.exec(row(1))
	c.root.await(`"id":1`)
	ann := c.subscribed(user(annID), all)
	c.exec(row(2))
	ann.await(`"id":2`)
	c.root.await(`"id":2`)
	c.asked.Store(0)
	c.exec(row(3))
	ann.await(`"id":3`)
	c.root.await(`"id":3`)
	if n := c.asked.Load(); n > 5 {
		t.Errorf("%d are asked", n)
	}
}
