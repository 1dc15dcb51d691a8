package changes

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
)

const gapUndecidedTold = "-Changes may have been missed: who may see them could not be found out"

// partitions are published by their own names.
const partitions = `
	create table logs (id int primary key, owner uuid) partition by range (id);
	create table logs_low partition of logs for values from (0) to (100);
	create table logs_high partition of logs for values from (100) to (200);
	grant select on logs, logs_low, logs_high to authenticated, service_role;
	alter publication supabase_realtime set (publish_via_partition_root = false);
	alter publication supabase_realtime add table logs`

// A view lasts as long as nobody writes. Its questions must leave no lock behind: who changes a table would wait all that time.
func TestViewsLeaveNoLocks(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, partitions)
	th.subscribed(user(annID), all)
	seats := []*spectator{th.subscribed(user(annID), `{"event":"*","schema":"public"}`), th.subscribed(user(annID), `{"event":"*","schema":"public","table":"logs"}`), th.subscribed(service, `{"event":"*","schema":"public"}`)}
	for i, statement := range []string{
		"insert into logs values (0, null), (101, null); insert into notes values (0, '" + annID + "', 'a')",
		"update logs set owner = '" + annID + "'; update notes set body = 'b'",
		"delete from logs where id = 0; delete from notes",
		"truncate logs, notes",
	} {
		th.exec(statement, fmt.Sprintf("insert into logs values (%d, null)", 110+i)) // the last view is asked about partitions
		for _, s := range seats {
			s.await(fmt.Sprintf(`"id":%d,`, 110+i))
		}
		th.exec("set lock_timeout = '10s'; begin; lock table logs, logs_low, logs_high, notes in access exclusive mode; rollback")
	}
}

// Nobody can say of a table that is gone who could see its rows.
func TestChangesOfDroppedTablesAreAGap(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint(known), func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, partitions)
			seats := []*spectator{
				th.subscribed(service, all),
				th.subscribed(user(annID), `{"event":"*","schema":"public","table":"notes","filter":"body=like.a%"}`),
				th.subscribed(user(annID), `{"event":"*","schema":"public"}`),
			}
			above := th.subscribed(service, `{"event":"*","schema":"public","table":"logs"}`)
			other := th.subscribed(service, `{"event":"INSERT","schema":"public","table":"logs_high"}`)
			if known {
				th.exec("insert into logs values (0, null), (101, null)", "insert into notes values (0, '"+annID+"', 'a')")
				for _, s := range seats {
					s.await(`INSERT notes`)
				}
				above.await(`"id":101`)
				other.await(`"id":101`)
			}
			th.exec(
				"begin; insert into notes values (1, '"+annID+"', 'a'), (2, '"+annID+"', 'a'); drop table notes; commit",
				"begin; truncate logs_low; insert into logs values (1, null); drop table logs_low; commit")
			for _, s := range append(seats, above) {
				s.expect(gapUndecidedTold)
			}
			th.exec("insert into logs values (102, null)")
			other.expect(`[1] INSERT logs_high {"id":102,"owner":null}`)
			told := above.await(`"id":102`)
			if slices.ContainsFunc(told[:len(told)-1], func(text string) bool { return text != gapUndecidedTold }) {
				t.Errorf("told %q", told)
			}
		})
	}
}

// What cannot be judged is given up after a while, and those it may concern know, by whatever name they want it.
func TestBatchesThatAreGivenUpAreAGap(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint(known), func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, partitions)
			above, low := th.subscribed(service, `{"event":"*","schema":"public","table":"logs"}`), th.subscribed(service, `{"event":"*","schema":"public","table":"logs_low"}`)
			other := th.subscribed(service, all)
			broken := "function realtime._visible(oid, text[], text[], text[], text[], text[], text[], text[]) rename to _blind"
			mended := "function realtime._blind(oid, text[], text[], text[], text[], text[], text[], text[]) rename to _visible"
			if !known { // describing fails too
				broken, mended = "function realtime._base_type(oid) rename to _blind", "function realtime._blind(oid) rename to _base_type"
			}
			th.exec("alter "+broken, "insert into logs values (1, null)")
			above.expect(gapUndecidedTold)
			low.expect(gapUndecidedTold)
			th.exec("alter "+mended, "insert into logs values (3, null)", "insert into notes values (1, null, 'a')")
			above.expect(`[1] INSERT logs {"id":3,"owner":null}`)
			low.expect(`[1] INSERT logs_low {"id":3,"owner":null}`)
			other.expect(`[1] INSERT notes {"id":1,"owner":null,"body":"a"}`)
		})
	}
}

// However many changes of a batch may have been missed, one notice says so.
func TestAGapIsToldOnceABatch(t *testing.T) {
	t.Parallel()
	var batches atomic.Int64
	th := newTheater(t, func(o *Options) { o.judged = func(*trial, *batch) { batches.Add(1) } }, notes, "insert into notes select n, '"+annID+"', 'x' from generate_series(1, 1000) as n")
	ann := th.subscribed(user(annID), all)
	th.kill("application_name = 'rowcast changes'")
	th.exec("delete from notes", "insert into notes values (1001, '"+annID+"', 'b')")
	told := ann.await(`"id":1001`)
	if gaps := len(told) - 1; gaps == 0 || int64(gaps) > batches.Load() || told[0] != gapUndecidedTold {
		t.Errorf("%d gaps in %d batches: %q", gaps, batches.Load(), told[0])
	}
}

// A DELETE about which policies raise is kept back like any other change, and not without a word.
func TestPoliciesThatFailOnADelete(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, `
		create policy picky on notes as restrictive for select using (case when body = 'bad' and auth.uid() = '`+annID+`' then 1 / (id - id) = 1 else true end);
		insert into notes values (1, '`+annID+`', 'bad'), (2, '`+bobID+`', 'bad')`)
	ann, bob := th.subscribed(user(annID), all), th.subscribed(user(bobID), all)
	th.exec("delete from notes")
	bob.expect(`[1] DELETE notes was {"id":2}`)
	ann.expect("-Changes of public.notes are kept from you: whether you may see the rows cannot be decided")
}

// Of a table whose rows are told apart by another index than the primary key, a DELETE is decided by that.
func TestReplicaIdentityUsingIndex(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, `
		create table seats (id int primary key, owner uuid, room text not null, place int not null, body text, unique (room, place));
		alter table seats enable row level security;
		create policy own on seats for select using (owner = auth.uid());
		grant select on seats to authenticated, service_role; grant select (id, owner, place) on seats to anon;
		alter table seats replica identity using index seats_room_place_key;
		alter publication supabase_realtime add table seats`)
	const seats = `{"event":"*","schema":"public","table":"seats"}`
	ann, bob, root := th.subscribed(user(annID), seats), th.subscribed(user(bobID), seats), th.subscribed(service, seats)
	anon := th.subscribed(Group{"anon", []byte(`{"role":"anon","sub":"` + annID + `"}`)}, seats)
	row := func(id int, owner, place string) string {
		return fmt.Sprintf(`{"id":%d,"owner":"%s","room":"a","place":%s,"body":"x"}`, id, owner, place)
	}
	th.exec("insert into seats values (1, '" + annID + "', 'a', 1, 'x'), (2, '" + bobID + "', 'a', 2, 'x')")
	ann.expect("[1] INSERT seats " + row(1, annID, "1"))
	bob.expect("[1] INSERT seats " + row(2, bobID, "2"))
	th.exec("update seats set id = id + 10") // the identity is as it was
	ann.expect("[1] UPDATE seats " + row(11, annID, "1") + ` was {"room":"a","place":1}`)
	bob.expect("[1] UPDATE seats " + row(12, bobID, "2") + ` was {"room":"a","place":2}`)
	th.exec("update seats set place = 12 where id = 12") // of bob's another
	bob.expect("[1] UPDATE seats " + row(12, bobID, "12") + ` was {"room":"a","place":2}`)
	th.exec("delete from seats")
	ann.expect(`[1] DELETE seats was {"room":"a","place":1}`)
	bob.expect(`[1] DELETE seats was {"room":"a","place":12}`)
	root.await(`DELETE seats was {"room":"a","place":12}`)
	anon.await(gapUndecidedTold) // the role may not look for it
}
