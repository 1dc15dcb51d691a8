package decisions

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"rowcast/server/metrics"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder writes to a database of its own.
func recorder(t testing.TB) (*Recorder, *pgtest.DB) {
	t.Helper()
	db := pgtest.New(t)
	pool, err := postgres.Open(context.Background(), db.URL, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return New(Options{SQL: true, Pool: pool, Node: "here", Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New()}), db
}

func count(t testing.TB, db *pgtest.DB, where string) (n int) {
	t.Helper()
	if err := db.Admin.QueryRow(context.Background(), `select count(*) from realtime.decisions where `+where).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNilRecorderTakesNothing(t *testing.T) {
	t.Parallel()
	r := New(Options{})
	r.Record(Entry{})
	r.Run(context.Background())
	tenure := r.Begin("room", "ann", "authenticated")
	tenure.Asked("ann", "authenticated")
	tenure.Answered("", "")
	tenure.Decided(Right{}, Right{})
	tenure.Ended("")
}

func TestMoreThanTheQueueHoldsIsCounted(t *testing.T) {
	t.Parallel()
	r, db := recorder(t)
	for i := range maxQueue + 5 {
		r.Record(Entry{Event: Refused, Topic: fmt.Sprint(i)})
	}
	if got := metricstest.Value(t, r.options.Metrics, "realtime_decision_log_lost_total", ""); got != 5 {
		t.Errorf("%v entries are counted as lost, want 5", got)
	}
	r.flush(context.Background())
	if got := count(t, db, "event = 'refused'"); got != maxQueue {
		t.Errorf("the table holds %d entries, want %d", got, maxQueue)
	}
	if got := count(t, db, "event = 'lost' and reason = '5 entries'"); got != 1 {
		t.Error("the table does not say that 5 are lost")
	}
	if got := count(t, db, fmt.Sprintf("number between %d and %d", maxQueue+1, maxQueue+5)); got != 0 {
		t.Error("those that are lost have no numbers of their own")
	}
}

func TestAPageWrittenTwiceIsThereOnce(t *testing.T) {
	t.Parallel()
	r, db := recorder(t)
	r.Record(Entry{Event: Admitted, Topic: "room"})
	page := r.first()
	for range 2 { // as when the answer to the first is lost
		if err := r.write(context.Background(), page); err != nil {
			t.Fatal(err)
		}
	}
	if got := count(t, db, "true"); got != 1 {
		t.Errorf("the table holds %d entries, want 1", got)
	}
}

func TestEntriesWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	r, db := recorder(t)
	r.Record(Entry{Event: Admitted, Topic: "room"})
	away, cancel := context.WithCancel(context.Background())
	cancel()
	r.flush(away)
	if got := count(t, db, "true"); got != 0 {
		t.Fatalf("the table holds %d entries", got)
	}
	r.flush(context.Background())
	if got := count(t, db, "true"); got != 1 {
		t.Errorf("the table holds %d entries, want 1", got)
	}
}

func TestEntriesThatTheDatabaseRefusesDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	r, db := recorder(t)
	r.Record(Entry{Event: "forbidden", Topic: "room"})
	if _, err := db.Admin.Exec(context.Background(), `alter table realtime.decisions add check (event <> 'forbidden')`); err != nil {
		t.Fatal(err)
	}
	r.flush(context.Background())
	r.Record(Entry{Event: Admitted, Topic: "room"})
	r.flush(context.Background())
	if got := count(t, db, "event = 'admitted'"); got != 1 {
		t.Errorf("the table holds %d entries, want 1", got)
	}
	if got := metricstest.Value(t, r.options.Metrics, "realtime_decision_log_lost_total", ""); got != 1 {
		t.Errorf("%v entries are counted as lost, want 1", got)
	}
}

func TestWhatPostgresCannotStoreIsReplaced(t *testing.T) {
	t.Parallel()
	r, db := recorder(t)
	r.Record(Entry{Event: Refused, Topic: "a\x00b", Subject: "\xff", Reason: strings.Repeat("ä", maxReason+1)})
	r.flush(context.Background())
	if got := count(t, db, "topic = 'a�b' and subject = '�' and length(reason) = 300"); got != 1 {
		t.Error("the entry is not there as it should be")
	}
}

func TestThoseWhoStayAreConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Log: true, Metrics: metrics.New()})
		tenure := r.Begin("room", "ann", "authenticated")
		both := Right{true, true}
		decide := func(right Right) {
			tenure.Asked("ann", "authenticated")
			tenure.Answered("", "")
			tenure.Decided(right, Right{})
		}
		decide(both)
		decide(both)
		time.Sleep(confirmAfter)
		decide(both)
		decide(Right{Receive: true})
		tenure.Ended("")
		events := ""
		for _, e := range r.first() {
			events += fmt.Sprintf("%s %d\n", e.Event, e.Generation)
		}
		if want := "admitted 1\nconfirmed 3\nchanged 4\nended 4\n"; events != want {
			t.Errorf("recorded\n%swant\n%s", events, want)
		}
	})
}

func TestPartitionsOfDecisions(t *testing.T) {
	t.Parallel()
	r, db := recorder(t)
	exec := func(query string) {
		t.Helper()
		if _, err := db.Admin.Exec(context.Background(), query); err != nil {
			t.Fatal(err)
		}
	}
	day := 24 * time.Hour
	r.Record(Entry{Event: Admitted, Topic: "before there are partitions"})
	r.flush(context.Background())
	exec(`create table realtime.decisions_2001_01_01 partition of realtime.decisions for values from ('2001-01-01Z') to ('2001-01-02Z')`)
	for _, at := range []time.Time{time.Date(2001, 1, 1, 12, 0, 0, 0, time.UTC), time.Now().Add(-9 * day), time.Now().Add(day)} {
		r.Record(Entry{Event: Admitted, Topic: "room", At: at})
	}
	r.flush(context.Background())
	exec(`select realtime._maintain_decisions('3 days')`)
	if got := count(t, db, "topic = 'room'"); got != 1 {
		t.Errorf("%d entries are left of the topic, want that of tomorrow", got)
	}
	if got := count(t, db, "topic = 'before there are partitions'"); got != 1 {
		t.Error("an entry in the default partition is gone before its time")
	}
	var partitions, open int
	err := db.Admin.QueryRow(context.Background(), `select count(*), count(*) filter (where not relrowsecurity)
		from pg_inherits join pg_class on pg_class.oid = inhrelid where inhparent = 'realtime.decisions'::regclass`).Scan(&partitions, &open)
	if err != nil || partitions != 4 || open > 0 { // the default one, and of five days but the two that it had rows of
		t.Errorf("there are %d partitions, %d of them without row level security (%v)", partitions, open, err)
	}
}

// BenchmarkWrite is what the log costs: an entry from Record to the table.
func BenchmarkWrite(b *testing.B) {
	r, _ := recorder(b)
	entry := Entry{Event: Admitted, Topic: "room:12345", Subject: "a11ce000-0000-4000-8000-000000000001", Role: "authenticated", Broadcast: Right{true, true}, Generation: 1, Latency: time.Millisecond}
	for b.Loop() {
		r.Record(entry)
		if len(r.queue) >= maxPage {
			r.flush(context.Background())
		}
	}
}
