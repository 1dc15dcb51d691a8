package changes

import "testing"

// A table that is altered between changes of it: rows that are judged together come from both of its shapes.
func TestTableIsAlteredAmongItsChanges(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, "create table words (id int primary key); grant select on words to authenticated; alter publication supabase_realtime add table words")
	ann := th.subscribed(user(annID), `{"event":"*","schema":"public","table":"words"}`)
	for range 2 { // known, and not known yet
		th.exec(`begin; insert into words values (1); alter table words add column text text; insert into words values (2, 'two'); update words set text = 'new' where id = 1; commit`)
		ann.expect(
			`[1] INSERT words {"id":1}`,
			`[1] INSERT words {"id":2,"text":"two"}`,
			`[1] UPDATE words {"id":1,"text":"new"} was {"id":1}`)
		th.exec("begin; delete from words where id = 1; delete from words; alter table words drop column text; commit")
		ann.expect(`[1] DELETE words was {"id":1}`, `[1] DELETE words was {"id":2}`)
	}
}
