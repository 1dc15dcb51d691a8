package changes

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/protocol"
)

// A table that is written anew is empty in a snapshot that is older, and so are tables that its policies read.
func TestSnapshotsOfTablesThatAreWrittenAnew(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"table":     "create table spare as table parts_low; truncate parts_low; insert into parts_low table spare",
		"policies":  "create table spare as table members; truncate members; insert into members table spare",
		"elsewhere": "alter table others alter column id type bigint",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, `
				create table others (id int);
				create table members (owner uuid);
				create table parts (id int primary key, body varchar(8)) partition by range (id);
				create table parts_low partition of parts for values from (0) to (1000);
				grant select on parts, members to authenticated;
				alter table parts enable row level security;
				create policy members on parts for select using (exists (select from members where owner::text = current_setting('request.jwt.claims')::json ->> 'sub'));
				alter publication supabase_realtime add table parts;
				insert into members values ('`+annID+`');
				insert into parts select n, 'x' from generate_series(1, 100) as n`)
			ann := th.unread(user(annID), `{"event":"*","schema":"public","table":"parts","snapshot":true}`)
			told := ann.await(`"id":16,`) // the first page, which is not read
			th.exec(statement)
			ann.read()
			told = append(told, ann.await("Snapshot complete")...)
			if rows := once(t, told); rows != 100 {
				t.Errorf("%d rows since the last gap", rows)
			}
			again := slices.ContainsFunc(told, func(text string) bool { return strings.Contains(text, protocol.TextGapAgain) })
			if again != (name != "elsewhere") {
				t.Errorf("a gap: %v", again)
			}
		})
	}
}

// A row that is gone is not there in such a snapshot either, whoever could see it.
func TestDeletesFromTablesThatAreWrittenAnew(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"table":    "alter table notes alter column id type bigint",
		"policies": "create table spare as table members; truncate members; insert into members table spare",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, `
				create table members (owner uuid);
				grant select on members to authenticated;
				create policy members on notes as restrictive for select using (owner in (select m.owner from members as m));
				insert into members values ('`+annID+`');
				insert into notes select n, '`+annID+`', 'x' from generate_series(1, 3) as n`)
			ann := th.subscribed(user(annID), `{"event":"*","schema":"public","table":"notes"}`)
			th.exec(statement)
			th.exec("delete from notes where id = 1")
			th.exec("insert into notes values (9, '" + annID + "', 'x')")
			told := ann.await(`"id":9`)
			th.exec("insert into notes values (10, '" + annID + "', 'x')")
			told = append(told, ann.await(`"id":10`)...) // a gap is told of at the end of a batch
			if !slices.ContainsFunc(told, func(text string) bool { return strings.Contains(text, "DELETE") || strings.Contains(text, "missed") }) {
				t.Errorf("told of no DELETE, and of no gap: %q", told)
			}
		})
	}
}

// Whose filter looks at a column that was revoked is given no snapshot, rather than one of no rows.
func TestSnapshotsWhoseFilterIsRevoked(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "insert into notes select n, '"+annID+"', 'x' from generate_series(1, 100) as n")
	var his []*spectator
	for range maxReadingEach {
		his = append(his, th.unread(user(annID), snapshotOfNotes))
	}
	toldSome(t, his, "INSERT", maxReadingEach)
	ann := th.seat(user(annID), `{"event":"*","schema":"public","table":"notes","filter":"body=eq.x","snapshot":true}`)
	for queued := make(chan int); ; time.Sleep(time.Millisecond) { // it has been checked, and waits for its turn
		th.engine.mail.post(func() { queued <- len(th.engine.loop.reads.queue) })
		if <-queued > 0 {
			break
		}
	}
	th.exec("revoke select on notes from authenticated; grant select (id, owner) on notes to authenticated")
	his[0].sub.End()
	ann.await("-Unable to subscribe to changes with given parameters")
}
