package changes

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

func TestTablesThatAreNotPublishedYet(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "alter publication supabase_realtime drop table notes")
	s := th.seat(service, all)
	const unavailable = "-Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: notes, filters: [], select: nil]"
	s.expect(unavailable)
	th.exec("alter publication supabase_realtime add table notes")
	th.engine.Publications()
	s.expect("+Subscribed to PostgreSQL")
	th.exec("insert into notes values (1, null, 'a')")
	s.expect(`[1] INSERT notes {"id":1,"owner":null,"body":"a"}`)
	th.exec("alter publication supabase_realtime drop table notes")
	th.engine.Publications()
	s.expect(unavailable)
	th.exec("alter publication supabase_realtime add table notes")
	th.engine.Publications()
	s.expect("+Subscribed to PostgreSQL")
}

func TestAnotherTokenIsAnotherPerson(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	s := th.subscribed(user(annID), all)
	th.exec("insert into notes values (1, '" + annID + "', 'a')")
	s.expect(`[1] INSERT notes {"id":1,"owner":"` + annID + `","body":"a"}`)
	s.sub.Rebind("authenticated", user(bobID).Claims)
	s.expect("+Subscribed to PostgreSQL")
	th.exec("insert into notes values (2, '" + annID + "', 'a'), (3, '" + bobID + "', 'b')")
	s.expect(`[1] INSERT notes {"id":3,"owner":"` + bobID + `","body":"b"}`)
	th.exec("delete from notes where id = 1", "delete from notes where id = 3")
	s.expect(`[1] DELETE notes was {"id":3}`)
}

// kill ends all connections of this kind.
func (th *theater) kill(condition string) {
	th.Helper()
	th.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and " + condition)
}

func TestALostStreamIsAGap(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	s, ann := th.subscribed(service, all), th.subscribed(user(annID), all)
	for range 2 {
		th.kill("backend_type = 'walsender'")
		for _, who := range []*spectator{s, ann} {
			who.expect("-Changes may have been missed while the database was not heard", "+Subscribed to PostgreSQL")
		}
	}
	th.exec("insert into notes values (1, null, 'a')")
	s.expect(`[1] INSERT notes {"id":1,"owner":null,"body":"a"}`)
}

func TestADurableSlotHasNoGap(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	th.stop()
	o := th.engine.options
	o.Slot = "changes_" + th.db.Name[max(0, len(th.db.Name)-20):]
	th2 := startTheater(th.stage, o)
	s := th2.subscribed(service, all)
	for i := range 3 {
		th.kill("backend_type = 'walsender'")
		th.exec("insert into notes select n, null, 'x' from generate_series(" + strconv.Itoa(i*10) + ", " + strconv.Itoa(i*10+9) + ") as n")
		for n := i * 10; n < i*10+10; n++ {
			s.expect(`[1] INSERT notes {"id":` + strconv.Itoa(n) + `,"owner":null,"body":"x"}`)
		}
	}
	th2.stop()
	th.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '" + o.Slot + "'")
}

// A DELETE that nobody can decide any more is a gap to those it may concern.
func TestALostRearViewIsAGap(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	s, ann := th.subscribed(service, all), th.subscribed(user(annID), all)
	th.exec("insert into notes values (1, '" + annID + "', 'a')")
	ann.await("INSERT")
	s.await("INSERT")
	th.kill("application_name = 'rowcast changes'")
	th.exec("delete from notes")
	s.expect(`[1] DELETE notes was {"id":1}`)
	ann.expect("-Changes may have been missed: who may see them could not be found out")
	th.exec("insert into notes values (2, '" + annID + "', 'b')")
	ann.expect(`[1] INSERT notes {"id":2,"owner":"` + annID + `","body":"b"}`)
	th.exec("delete from notes")
	ann.expect(`[1] DELETE notes was {"id":2}`)
}

func TestRowsThatAreThereComeFirst(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "insert into notes select n, case when n % 2 = 0 then '"+annID+"'::uuid end, 'x' from generate_series(1, 600) as n")
	ann := th.seat(user(annID), `{"event":"*","schema":"public","table":"notes","filter":"id=gt.100","snapshot":true}`)
	told := ann.await("Snapshot complete")
	if want := 1 + 250 + 1; len(told) != want || told[0] != "+Subscribed to PostgreSQL" || told[want-1] != "+Snapshot complete: 250 rows" {
		t.Fatalf("%d told: %s … %s", len(told), told[0], told[len(told)-1])
	}
	th.exec("delete from notes where id = 200")
	ann.expect(`[1] DELETE notes was {"id":200}`)
}

func TestSnapshotsHaveABound(t *testing.T) {
	t.Parallel()
	th := newTheater(t, func(o *Options) { o.MaxSnapshotRows = 100 }, notes, "insert into notes select n, null, 'x' from generate_series(1, 600) as n")
	s := th.seat(service, `{"event":"*","schema":"public","table":"notes","snapshot":true}`)
	told := s.await("Unable")
	if got := told[len(told)-1]; got != "-Unable to give a snapshot of public.notes: there are more than 100 rows, and a filter may leave fewer" || len(told) > 102 {
		t.Fatalf("%d told, then %s", len(told), got)
	}
}

// What comes while a snapshot is given comes behind it, in order and once.
func TestChangesWaitForTheSnapshot(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "insert into notes select n, '"+annID+"', 'x' from generate_series(1, 100) as n")
	ann := &spectator{t: t, more: make(chan struct{}, 1), full: true}
	ann.sub = th.engine.Subscribe(Subscriber{
		Topic: "realtime:room", Role: "authenticated", Claims: user(annID).Claims, Member: ann,
		Entries: entries(t, `{"event":"*","schema":"public","table":"notes","snapshot":true}`),
	})
	ann.await("INSERT") // the first page, which is not read
	other := th.subscribed(user(annID), all)
	th.exec("delete from notes where id = 50", "update notes set body = 'y' where id = 60", "insert into notes values (101, '"+annID+"', 'z')")
	other.await(`"id":101`)
	ann.read()
	told := ann.await("Snapshot complete")
	if len(told) != 100 {
		t.Errorf("%d told", len(told))
	}
	ann.expect(`[1] DELETE notes was {"id":50}`, `[1] UPDATE notes {"id":60,"owner":"`+annID+`","body":"y"} was {"id":60}`, `[1] INSERT notes {"id":101,"owner":"`+annID+`","body":"z"}`)
}

// read takes what it was given from now on.
func (s *spectator) read() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = false
	for _, then := range s.draining {
		then()
	}
	s.draining = nil
}

func TestNothingIsAskedForNobody(t *testing.T) {
	t.Parallel()
	th := newTheater(t, func(o *Options) { o.lingerFor = time.Millisecond }, notes)
	s := th.subscribed(user(annID), all)
	s.sub.End()
	th.until("select count(*) = 0 from pg_stat_activity where datname = current_database() and (backend_type = 'walsender' or application_name = 'rowcast changes' and pid <> pg_backend_pid() and state like 'idle in%')")
	again := th.subscribed(user(annID), all)
	th.exec("insert into notes values (1, '" + annID + "', 'a')")
	again.await("INSERT")
}

// A slot is made when all transactions have ended that were there: whoever waits for that is told so.
func TestWhoWaitsForASlotIsTold(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t) // its own: every slot in it waits
	th := newTheaterOn(newStageOn(t, db, "create publication supabase_realtime", notes), nil)
	open, err := pgx.Connect(t.Context(), db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close(context.Background()) }()
	if _, err := open.Exec(t.Context(), "begin; select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	ann := th.seatAs(&spectator{waits: true}, user(annID), all)
	ann.expect("-" + protocol.TextChangesSlotWaits)
	bob := th.seatAs(&spectator{waits: true}, user(bobID), all) // who comes meanwhile
	bob.expect("-" + protocol.TextChangesSlotWaits)
	if _, err := open.Exec(t.Context(), "commit"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*spectator{ann, bob} {
		s.expect("+Subscribed to PostgreSQL")
	}
}
