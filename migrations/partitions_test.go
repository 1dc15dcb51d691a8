package migrations_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// maintain does the server's hourly work; retention "" keeps everything.
func maintain(t *testing.T, conn *pgx.Conn, retention string) (created, dropped int) {
	t.Helper()
	var keep *string
	if retention != "" {
		keep = &retention
	}
	if err := conn.QueryRow(within(t), sql.Maintain, keep).Scan(&created, &dropped); err != nil {
		t.Fatal(err)
	}
	return created, dropped
}

// days lists the partitions of days, counted from today in UTC. Midnight may come between two of these questions, so tests
// that compare days take the day first and are told by sameDay.
func days(t *testing.T, conn *pgx.Conn) []int {
	t.Helper()
	return values[int](t, conn, `select to_date(right(relname, 10), 'YYYY_MM_DD') - timezone('utc', now())::date
		from pg_inherits join pg_class on oid = inhrelid where inhparent = 'realtime.messages'::regclass and relname ~ '\d$' order by 1`)
}

// sameDay runs a test again if midnight UTC fell into it.
func sameDay(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	before := time.Now().UTC().YearDay()
	if until := time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)); until < patience {
		t.Skipf("midnight UTC is %s away, and this test is about today", until)
	}
	test(t)
	if time.Now().UTC().YearDay() != before {
		t.Skip("midnight UTC fell into this test")
	}
}

func TestMaintain(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		conn := server(t, db)
		if created, dropped := maintain(t, conn, "72 hours"); created != 5 || dropped != 0 {
			t.Errorf("created %d, dropped %d; want 5, 0", created, dropped)
		}
		if diff := cmp.Diff([]int{-1, 0, 1, 2, 3}, days(t, conn)); diff != "" {
			t.Errorf("days:\n%s", diff)
		}
		if created, dropped := maintain(t, conn, "72 hours"); created != 0 || dropped != 0 {
			t.Errorf("again: created %d, dropped %d", created, dropped)
		}
		// A partition is like the others: same indexes, same trigger, same owner.
		for _, query := range []string{
			"select count(*)::int from pg_index where indrelid = to_regclass($1)",
			"select count(*)::int from pg_trigger where tgrelid = to_regclass($1) and tgname = 'broadcast'",
			"select count(*)::int from pg_constraint where conrelid = to_regclass($1) and contype = 'c'",
		} {
			of := func(table string) int { return value[int](t, conn, query, table) }
			today := value[string](t, conn, "select 'realtime.messages_' || to_char(timezone('utc', now()), 'YYYY_MM_DD')")
			if got, want := of(today), of("realtime.messages_default"); got != want || got == 0 {
				t.Errorf("%s: %d, want %d", query, got, want)
			}
		}
	})
}

func TestConcurrentMaintenance(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		conns := make([]*pgx.Conn, 4)
		for i := range conns {
			conns[i] = server(t, db)
			exec(t, conns[i], "select realtime.send(to_jsonb(1), 'e', 't') from generate_series(1, 100)")
		}
		created := make([]int, len(conns))
		var servers sync.WaitGroup
		for i, conn := range conns {
			servers.Go(func() {
				var dropped int
				if err := conn.QueryRow(within(t), sql.Maintain, "72 hours").Scan(&created[i], &dropped); err != nil {
					t.Errorf("server %d: %v", i, err)
				}
			})
		}
		servers.Wait()
		if diff := cmp.Diff([]int{-1, 0, 1, 2, 3}, days(t, conns[0])); diff != "" {
			t.Errorf("days:\n%s", diff)
		}
		if total := created[0] + created[1] + created[2] + created[3]; total != 5 {
			t.Errorf("created %v, want 5 together", created)
		}
		if n := value[int](t, conns[0], "select count(*) from realtime.messages"); n != 400 {
			t.Errorf("%d messages, want 400", n)
		}
	})
}

// An insert finds a place whatever the day, and moves into its day's partition when that is made: once, unheard.
func TestDefaultPartition(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		conn := server(t, db)
		const where = "select array_agg(distinct tableoid::regclass::text) from realtime.messages"
		if got := delivered(t, db, func() {
			exec(t, conn, `select realtime.send('{"a": 1}', 'e', 't')`, "select realtime.send_binary('x', 'e', 't')",
				`insert into realtime.messages (topic, extension, event, payload, inserted_at) select 't', 'broadcast', 'e', '1', timezone('utc', now()) + d * interval '1 day' from unnest('{-400,1,400}'::int[]) d`)
		}); len(got) != 5 {
			t.Errorf("%q", got)
		}
		if got := value[[]string](t, conn, where); !slices.Equal(got, []string{"realtime.messages_default"}) {
			t.Errorf("before: %v", got)
		}
		content := func() []string {
			return values[string](t, conn, "select messages::text from realtime.messages order by 1")
		}
		journal := func() []string {
			return values[string](t, conn, "select _journal::text from realtime._journal order by 1")
		}
		before, entries := content(), journal()
		if got := heard(t, db, func() { maintain(t, conn, "") }); len(got) > 0 {
			t.Errorf("moving notified %v", got)
		}
		if diff := cmp.Diff(before, content()); diff != "" {
			t.Errorf("messages:\n%s", diff)
		}
		if diff := cmp.Diff(entries, journal()); diff != "" {
			t.Errorf("journal:\n%s", diff)
		}
		if n := value[int](t, conn, "select count(*) from realtime.messages_default"); n != 2 {
			t.Errorf("%d rows still wait, want those 400 days away", n)
		}
		if got := value[[]string](t, conn, where); len(got) != 3 {
			t.Errorf("after: %v", got)
		}
		// What follows goes straight into the day, and is heard.
		if got := delivered(t, db, func() { exec(t, conn, "select realtime.send('2', 'e', 't')") }); len(got) != 1 {
			t.Errorf("afterwards: %q", got)
		}
	})
}

// While no server runs, the partitions made ahead are used up. What is sent then waits in the default one, to the microsecond
// around each midnight, and the server that comes back loses none of it.
func TestServerOffForAWeek(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		conn := server(t, db)
		// As it was when the server stopped, seven days ago: days from eight to four days ago have partitions.
		exec(t, conn, "select realtime._create_partition(timezone('utc', now())::date - d) from generate_series(4, 8) d")
		if got := delivered(t, db, func() {
			exec(t, conn, `insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
				select 't', 'broadcast', n::text, '1', true, timezone('utc', now())::date - d * interval '1 day' + at
				  from generate_series(0, 8) d, unnest('{0,1 microsecond,23:59:59.999999}'::interval[]) with ordinality as moments (at, n)`)
		}); len(got) != 27 {
			t.Fatalf("%d of 27 inserts are announced", len(got))
		}
		const places = `select count(*)::text || ' ' || case when tableoid = 'realtime.messages_default'::regclass then 'wait' else 'in their day' end
			from realtime.messages group by tableoid = 'realtime.messages_default'::regclass order by 1`
		if diff := cmp.Diff([]string{"12 wait", "15 in their day"}, values[string](t, conn, places)); diff != "" {
			t.Errorf("while it was off:\n%s", diff)
		}
		if created, dropped := maintain(t, conn, "240 hours"); created != 5 || dropped != 0 {
			t.Errorf("created %d, dropped %d; want 5, 0", created, dropped)
		}
		// Yesterday and today have a partition now; the two days before them go on waiting, until the retention takes them.
		if diff := cmp.Diff([]string{"21 in their day", "6 wait"}, values[string](t, conn, places)); diff != "" {
			t.Errorf("when it was back:\n%s", diff)
		}
		strangers := value[int](t, conn, `select count(*) from realtime.messages
			where tableoid <> 'realtime.messages_default'::regclass and tableoid <> to_regclass('realtime.messages_' || to_char(inserted_at, 'YYYY_MM_DD'))`)
		if strangers != 0 {
			t.Errorf("%d messages are in a partition of another day", strangers)
		}
		if maintain(t, conn, "72 hours"); value[int](t, conn, "select count(*) from realtime.messages where inserted_at < timezone('utc', now()) - interval '96 hours'") != 0 {
			t.Error("the retention does not reach what was sent meanwhile")
		}
		if n := value[int](t, conn, "select count(*) from realtime.messages where inserted_at >= timezone('utc', now()) - interval '72 hours'"); n < 9 {
			t.Errorf("only %d messages are left of those within the retention", n)
		}
	})
}

func TestRetention(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		conn := server(t, db)
		for d := -6; d <= 0; d++ {
			exec(t, conn, fmt.Sprintf("select realtime._create_partition(timezone('utc', now())::date + %d)", d))
		}
		exec(t, conn, `insert into realtime.messages (topic, extension, event, payload, inserted_at)
			select 't', 'broadcast', d::text, '1', timezone('utc', now()) + d * interval '1 day' from unnest('{-100,-50,-6,-5,-4,-3,-2,-1,0,40}'::int[]) d`)
		left := func() []int {
			return values[int](t, conn, "select event::int from realtime.messages order by 1")
		}
		all := left()
		maintain(t, conn, "")
		if diff := cmp.Diff(all, left()); diff != "" {
			t.Errorf("without a retention:\n%s", diff)
		}
		// A day goes when all of it is older: three days and a part.
		if created, dropped := maintain(t, conn, "72 hours"); created != 0 || dropped != 3 {
			t.Errorf("created %d, dropped %d; want 0, 3", created, dropped)
		}
		if diff := cmp.Diff([]int{-3, -2, -1, 0, 40}, left()); diff != "" {
			t.Errorf("left:\n%s", diff)
		}
		if diff := cmp.Diff([]int{-3, -2, -1, 0, 1, 2, 3}, days(t, conn)); diff != "" {
			t.Errorf("days:\n%s", diff)
		}
		orphans := value[int](t, conn, "select count(*) from realtime._journal j where not exists (select from realtime.messages m where m.id = j.message_id and m.inserted_at = j.inserted_at)")
		entries := value[int](t, conn, "select count(*) from realtime._journal")
		if orphans != 0 || entries > 5 || entries < 4 {
			t.Errorf("the journal has %d entries, %d without a message", entries, orphans)
		}
		exec(t, conn, "insert into realtime._journal (xid, message_id, inserted_at) values ('1', gen_random_uuid(), timezone('utc', now()) - interval '71 hours')")
		maintain(t, conn, "72 hours")
		if n := value[int](t, conn, "select count(*) from realtime._journal"); n != entries+1 {
			t.Errorf("an entry within the retention is gone")
		}
	})
}

// Partitions are cut by UTC, whatever the session that sends believes the time to be.
func TestSessionTimeZone(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		for _, zone := range []string{"Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu"} {
			for _, style := range []string{"ISO, MDY", "SQL, DMY", "German", "Postgres, MDY"} {
				conn := server(t, db)
				exec(t, conn, "set timezone = '"+zone+"'", "set datestyle = '"+style+"'", "select realtime.send(to_jsonb('"+zone+"'::text), 'e', 't')")
				maintain(t, conn, "72 hours")
			}
		}
		conn := server(t, db)
		if diff := cmp.Diff([]int{-1, 0, 1, 2, 3}, days(t, conn)); diff != "" {
			t.Errorf("days:\n%s", diff)
		}
		if !value[bool](t, conn, "select bool_and(abs(extract(epoch from inserted_at - timezone('utc', now()))) < 600 and inserted_at = updated_at) from realtime.messages") {
			t.Error("inserted_at is not UTC")
		}
		if n := value[int](t, conn, "select count(*) from realtime.messages where tableoid = to_regclass('realtime.messages_' || to_char(timezone('utc', now()), 'YYYY_MM_DD'))"); n != 12 {
			t.Errorf("%d of 12 messages are in today's partition", n)
		}
	})
}

// Somebody who reads all of messages holds up maintenance. It gives up with an error: everybody behind it would wait.
func TestMaintenanceDoesNotQueueForALock(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		reader, conn := server(t, db), server(t, db)
		exec(t, reader, "begin", "select count(*) from realtime.messages")
		refused(t, conn, "55P03", "lock timeout", "select * from realtime._maintain('72 hours')")
		if got := days(t, conn); len(got) > 0 {
			t.Errorf("half of it is done: %v", got)
		}
		// A decision and a message pass the reader.
		exec(t, conn, "select realtime.send('1', 'e', 't')")
		decide(t, conn, allowed)
		exec(t, reader, "commit")
		maintain(t, conn, "72 hours")
		if got := value[string](t, conn, "show lock_timeout"); got != "0" {
			t.Errorf("lock_timeout stays at %s", got)
		}

		// With nothing to make it takes no lock that a reader could hold up.
		exec(t, reader, "begin", "select count(*) from realtime.messages")
		maintain(t, conn, "72 hours")
		exec(t, reader, "commit")
	})
}

// An open transaction that has just sent a message does not lose it to a partition made meanwhile.
func TestMaintenanceBesideASender(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		sender, conn := server(t, db), server(t, db)
		exec(t, sender, "begin", "select realtime.send('1', 'e', 't')")
		refused(t, conn, "55P03", "lock timeout", "select * from realtime._maintain('72 hours')")
		if got := delivered(t, db, func() { exec(t, sender, "commit") }); len(got) != 1 {
			t.Errorf("%q", got)
		}
		maintain(t, conn, "72 hours")
		if got := value[int](t, conn, "select count(*) from realtime.messages"); got != 1 {
			t.Errorf("%d messages", got)
		}
		// A sender into a partition that exists holds up only what needs its table.
		exec(t, sender, "begin", "select realtime.send('1', 'e', 't')")
		maintain(t, conn, "72 hours")
		exec(t, sender, "commit")
	})
}

// Dropping a partition locks messages as a whole. Where a transaction stands in the way it is put off, and nothing else is.
func TestDropIsPutOff(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		sender, conn := server(t, db), server(t, db)
		exec(t, conn, "select realtime._create_partition(timezone('utc', now())::date + d) from unnest('{-10,-1,0}'::int[]) d")
		exec(t, sender, "begin", "select realtime.send('1', 'e', 't')")
		exec(t, conn, "insert into realtime._journal (xid, message_id, inserted_at) values ('1', gen_random_uuid(), '2000-01-01')")
		if created, dropped := maintain(t, conn, "72 hours"); created != 3 || dropped != 0 {
			t.Errorf("created %d, dropped %d; want 3, 0", created, dropped)
		}
		if n := value[int](t, conn, "select count(*) from realtime._journal"); n != 0 {
			t.Error("the journal keeps what is too old")
		}
		exec(t, sender, "commit")
		if created, dropped := maintain(t, conn, "72 hours"); created != 0 || dropped != 1 {
			t.Errorf("created %d, dropped %d; want 0, 1", created, dropped)
		}
	})
}

func TestWhoMaintains(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := server(t, db)
	// Whoever runs it, the server can drop the partitions later.
	for i, user := range []*pgx.Conn{dial(t, db.As(pgtest.DBARole)), admin(t, db)} {
		exec(t, user, fmt.Sprintf("select realtime._create_partition(timezone('utc', now())::date - %d)", 10+i))
	}
	if _, dropped := maintain(t, conn, "72 hours"); dropped != 2 {
		t.Errorf("dropped %d, want 2", dropped)
	}
	exec(t, conn, "set role service_role")
	refused(t, conn, "42501", "permission denied for function _maintain", "select realtime._maintain('0')")
	refused(t, conn, "42501", "permission denied for function _create_partition", "select realtime._create_partition(now()::date)")
}

// Who inserts while the partition for it is being made waits, and then finds it: for a writer's message and for a decision
// alike. Postgres itself refuses a row that was on its way to the default partition.
func TestInsertWhileItsPartitionIsMade(t *testing.T) {
	t.Parallel()
	sameDay(t, func(t *testing.T) {
		db := pgtest.New(t)
		maker, sender, decider := server(t, db), server(t, db), server(t, db)
		exec(t, admin(t, db), `create policy all_of_good on realtime.messages to authenticated using (`+goodPolicy+`) with check (`+goodPolicy+`)`)
		tx, err := maker.Begin(within(t))
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background())
		if _, err := tx.Exec(within(t), "select realtime._maintain(null)"); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := sender.Exec(within(t), "select realtime.send('1', 'e', 't')"); err != nil {
				t.Errorf("send: %v", err)
			}
		})
		both.Go(func() {
			if got := decide(t, decider, allowed); got[0] != (answer{Receive: "yes", Send: "yes"}) {
				t.Errorf("decision: %+v", got)
			}
		})
		awaitWaiters(t, db, 2)
		if err := tx.Commit(within(t)); err != nil {
			t.Fatal(err)
		}
		both.Wait()
	})
}

// awaitWaiters returns once so many sessions of the database wait for a lock.
func awaitWaiters(t *testing.T, db *pgtest.DB, want int) {
	t.Helper()
	for ctx := within(t); ; {
		var got int
		err := db.Admin.QueryRow(ctx, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").Scan(&got)
		if err != nil {
			t.Fatalf("wait until %d sessions wait for a lock: %v", want, err)
		}
		if got == want {
			return
		}
	}
}
