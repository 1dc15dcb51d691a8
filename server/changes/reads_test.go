package changes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/protocol"
)

const snapshotOfNotes = `{"event":"*","schema":"public","table":"notes","snapshot":true}`

// unread subscribes somebody who does not read what he is given.
func (th *theater) unread(who Group, texts ...string) *spectator {
	th.Helper()
	s := &spectator{t: th.TB, more: make(chan struct{}, 1), full: true}
	s.sub = th.engine.Subscribe(Subscriber{Topic: "realtime:room", Role: who.Role, Claims: who.Claims, Member: s, Entries: entries(th.TB, texts...)})
	return s
}

// toldSome waits until so many have been told something.
func toldSome(t *testing.T, who []*spectator, text string, many int) {
	t.Helper()
	for limit := time.Now().Add(askPatience); ; time.Sleep(time.Millisecond) {
		n := 0
		for _, s := range who {
			s.mu.Lock()
			if slices.ContainsFunc(s.told, func(told string) bool { return strings.Contains(told, text) }) {
				n++
			}
			s.mu.Unlock()
		}
		if n >= many {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d of %d are told %q", n, many, text)
		}
	}
}

// once fails where a row comes twice without a gap in between.
func once(t *testing.T, told []string) (rows int) {
	t.Helper()
	seen := map[string]bool{}
	for _, text := range told {
		switch {
		case strings.HasPrefix(text, "-Changes may have been missed"):
			clear(seen)
		case strings.Contains(text, "INSERT"):
			if seen[text] {
				t.Errorf("told twice: %s", text)
			}
			seen[text] = true
		}
	}
	return len(seen)
}

// A snapshot that begins again, whatever the reason, does so behind a gap.
func TestSnapshotsThatBeginAgainSaySo(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(th *theater, s *spectator){
		"connection": func(th *theater, _ *spectator) { th.kill("application_name = 'rowcast changes'") },
		"token": func(_ *theater, s *spectator) {
			s.sub.Rebind("authenticated", []byte(`{"role":"authenticated","sub":"`+annID+`","exp":2}`))
		},
		"publication": func(th *theater, s *spectator) {
			th.exec("alter publication supabase_realtime drop table notes")
			th.engine.Publications()
			s.await("-Unable to subscribe")
			th.exec("alter publication supabase_realtime add table notes")
			th.engine.Publications()
		},
		"stream": func(th *theater, _ *spectator) { th.kill("backend_type = 'walsender'") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, "insert into notes select n, '"+annID+"', 'x' from generate_series(1, 100) as n")
			ann := th.unread(user(annID), snapshotOfNotes)
			told := ann.await(`"id":16,`) // the first page, which is not read
			disturb(th, ann)
			ann.read()
			told = append(told, ann.await("Snapshot complete")...)
			if rows := once(t, told); rows != 100 {
				t.Errorf("%d rows since the last gap", rows)
			}
		})
	}
}

// A page that takes too long is asked for again with fewer rows.
func TestPagesThatTakeTooLongAreCut(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, `
		create function slowly(id int) returns boolean language plpgsql cost 100000 as $$ begin perform pg_sleep(case when id > 30 then 0.06 else 0 end); return true; end $$;
		create policy slowly on notes as restrictive for select using (slowly(id));
		insert into notes select n, '`+annID+`', 'x' from generate_series(1, 100) as n; analyze notes`)
	ann := th.seat(user(annID), snapshotOfNotes)
	if rows := once(t, ann.await("Snapshot complete: 100 rows")); rows != 100 {
		t.Errorf("%d rows", rows)
	}
	th.exec(`create or replace function slowly(id int) returns boolean language plpgsql cost 100000 as $$ begin perform pg_sleep(case when id = 30 then 10 else 0 end); return true; end $$`)
	bob := th.seat(user(annID), snapshotOfNotes)
	told := bob.await("-Unable to give a snapshot of public.notes: " + textSnapshotRights)
	if rows := once(t, told); rows > 29 {
		t.Errorf("%d rows", rows)
	}
}

// Nobody who does not read keeps others from their snapshots.
func TestSnapshotsHaveTheirTurn(t *testing.T) {
	t.Parallel()
	th := newTheater(t, func(o *Options) { o.turn = 300 * time.Millisecond }, notes, "insert into notes select n, null, 'x' from generate_series(1, 100) as n", "create policy everybody on notes for select using (true)")
	var stuck []*spectator
	for i := range maxReading + 2 {
		who := Group{"authenticated", fmt.Appendf(nil, `{"role":"authenticated","n":%d}`, i/maxReadingEach)}
		stuck = append(stuck, th.unread(who, snapshotOfNotes))
	}
	toldSome(t, stuck, "INSERT", maxReading)
	last := th.seat(user(annID), snapshotOfNotes)
	if rows := once(t, last.await("Snapshot complete")); rows != 100 {
		t.Errorf("%d rows", rows)
	}
	toldSome(t, stuck, "-"+fmt.Sprintf(protocol.TextSnapshotSlow, 300*time.Millisecond), 1)
}

// One person has some of the places only, and who waits for longer than there is room for waiting is refused.
func TestSnapshotsOfOnePersonLeavePlaces(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "insert into notes select n, null, 'x' from generate_series(1, 100) as n", "create policy everybody on notes for select using (true)")
	var his []*spectator
	for range maxReading {
		his = append(his, th.unread(user(bobID), snapshotOfNotes))
	}
	toldSome(t, his, "INSERT", maxReadingEach)
	ann := th.seat(user(annID), snapshotOfNotes)
	if rows := once(t, ann.await("Snapshot complete")); rows != 100 {
		t.Errorf("%d rows", rows)
	}
	for range maxQueued {
		his = append(his, th.unread(user(bobID), snapshotOfNotes))
	}
	toldSome(t, his, "-"+protocol.TextSnapshotBusy, 1)
	refused := func() (n int) {
		for _, s := range his {
			s.mu.Lock()
			if slices.ContainsFunc(s.told, func(told string) bool { return strings.Contains(told, protocol.TextSnapshotBusy) }) {
				n++
			}
			s.mu.Unlock()
		}
		return n
	}
	before := refused()
	var hers []*spectator
	for range maxReadingEach {
		hers = append(hers, th.unread(user(annID), snapshotOfNotes))
	}
	toldSome(t, hers, "INSERT", maxReadingEach)
	ann = th.seat(user(annID), snapshotOfNotes)
	toldSome(t, his, "-"+protocol.TextSnapshotBusy, before+1) // one of his gives way to her
	hers[0].sub.End()
	if told := ann.await("Snapshot"); once(t, told) != 100 {
		t.Errorf("told %q", told)
	}
}

// Who waits behind others' waiting has those end who are in his own way.
func TestTurnsEndForAllWhoWait(t *testing.T) {
	t.Parallel()
	th := newTheater(t, func(o *Options) { o.turn = time.Second }, notes, "insert into notes select n, null, 'x' from generate_series(1, 100) as n", "create policy everybody on notes for select using (true)")
	var his, hers []*spectator
	for range 50 {
		his = append(his, th.unread(user(bobID), snapshotOfNotes))
	}
	toldSome(t, his, "INSERT", maxReadingEach)
	for range maxReadingEach {
		hers = append(hers, th.unread(user(annID), snapshotOfNotes))
	}
	toldSome(t, hers, "INSERT", maxReadingEach)
	ann := th.seat(user(annID), snapshotOfNotes)
	if rows := once(t, ann.await("Snapshot complete")); rows != 100 {
		t.Errorf("%d rows", rows)
	}
	over := 0
	for _, s := range his {
		s.mu.Lock()
		if slices.ContainsFunc(s.told, func(told string) bool {
			return strings.Contains(told, fmt.Sprintf(protocol.TextSnapshotSlow, time.Second))
		}) {
			over++
		}
		s.mu.Unlock()
	}
	if over > 3*maxReadingEach {
		t.Errorf("only when %d of his had had their turn", over)
	}
}

// A snapshot gives what the stream would tell.
func TestSnapshotsGiveWhatIsPublished(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	var version int
	if err := th.admin.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 150000 {
		t.Skip("no row filters")
	}
	th.exec(`
		alter publication supabase_realtime drop table notes;
		alter publication supabase_realtime add table notes (id, owner) where (id > 2 and id <> 4);
		create table logs (id int primary key, body text) partition by range (id);
		create table logs_low partition of logs for values from (0) to (100);
		create table logs_high partition of logs for values from (100) to (200);
		create table logs_more partition of logs for values from (200) to (300);
		grant select on logs to authenticated;
		alter publication supabase_realtime add table logs_low where (id > 2), logs_more;
		insert into logs values (1, 'a'), (3, 'c'), (101, 'x'), (201, 'y');
		insert into notes select n, case n when 5 then null else '` + annID + `'::uuid end, 'x' from generate_series(1, 6) as n`)
	ann := th.seat(user(annID), snapshotOfNotes)
	ann.expect("+Subscribed to PostgreSQL", `[1] INSERT notes {"id":3,"owner":"`+annID+`"}`, `[1] INSERT notes {"id":6,"owner":"`+annID+`"}`, "+Snapshot complete: 2 rows")
	th.exec("insert into notes values (0, '" + annID + "', 'x'), (7, '" + annID + "', 'x')")
	ann.expect(`[1] INSERT notes {"id":7,"owner":"` + annID + `"}`)

	th.exec("alter publication supabase_realtime set (publish_via_partition_root = false)")
	low := th.seat(user(annID), `{"event":"*","schema":"public","table":"logs","snapshot":true}`)
	low.expect("+Subscribed to PostgreSQL", `[1] INSERT logs {"id":3,"body":"c"}`, `[1] INSERT logs {"id":201,"body":"y"}`, "+Snapshot complete: 2 rows")

	th.exec("revoke select on notes from anon; grant select (id) on notes to anon; create policy anyone on notes for select to anon using (true)")
	anon := Group{"anon", []byte(`{"role":"anon"}`)}
	th.seat(anon, snapshotOfNotes).expect("+Subscribed to PostgreSQL", `[1] INSERT notes {"id":3}`, `[1] INSERT notes {"id":5}`, `[1] INSERT notes {"id":6}`, `[1] INSERT notes {"id":7}`, "+Snapshot complete: 4 rows")
	th.exec("alter publication supabase_realtime set table notes where (owner is not null)")
	th.seat(anon, snapshotOfNotes).await("-Unable to give a snapshot of public.notes: " + textSnapshotSieve)
}
