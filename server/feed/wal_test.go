package feed_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/feed"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/wal"
)

// node is this server's id where it is to hear by the WAL.
const node = "node"

// startByWAL is a feed that hears by the WAL.
func startByWAL(t *testing.T, db *pgtest.DB, hold func(feed.Message), change ...func(*feed.Options)) *bundle {
	t.Helper()
	b := startTowardsWAL(t, db, hold, change...)
	b.awaitWAL(t)
	return b
}

// startTowardsWAL is one that is to.
func startTowardsWAL(t *testing.T, db *pgtest.DB, hold func(feed.Message), change ...func(*feed.Options)) *bundle {
	t.Helper()
	if _, err := db.Admin.Exec(t.Context(), `insert into realtime._nodes (id, name, started_at, expires_at) values ($1, 'test', now(), now() + interval '1 d')`, node); err != nil {
		t.Fatal(err)
	}
	return startToHear(t, db, hold, append([]func(*feed.Options){func(o *feed.Options) { o.Node = node }}, change...)...)
}

// byWAL has a feed hear by the WAL when it has a place.
func byWAL(db *pgtest.DB) func(*feed.Options) {
	return func(o *feed.Options) {
		o.Stream = func(ctx context.Context, to wal.Handler, ready func()) error {
			return wal.Stream(ctx, wal.Options{Name: "feed", URL: db.URL, Slot: "feed_" + strings.ToLower(rand.Text()), Publication: "realtime_feed", Logger: o.Logger, Metrics: o.Metrics},
				to, func(wal.LSN) { ready() })
		}
	}
}

// awaitWAL waits until messages go by the WAL alone.
func (b *bundle) awaitWAL(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); b.ByWAL() != nil || b.way(t) != 2; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("messages do not go by the WAL: way %d, %v", b.way(t), b.ByWAL())
		}
	}
}

func (b *bundle) way(t *testing.T) (way int) {
	t.Helper()
	if err := b.db.Admin.QueryRow(t.Context(), `select last_value & 3 from realtime._source`).Scan(&way); err != nil {
		t.Fatal(err)
	}
	return way
}

// onBoth runs a test on each source. What is an alarm is left out of what the WAL is told to say.
func onBoth(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	t.Run("notify", func(t *testing.T) {
		t.Parallel()
		test(t, start(t))
	})
	t.Run("wal", func(t *testing.T) {
		t.Parallel()
		test(t, startByWAL(t, pgtest.New(t), nil))
	})
}

// withoutAlarms leaves out what is said again in its place.
func withoutAlarms(said []string) []string {
	return slices.DeleteFunc(said, func(s string) bool { return strings.HasPrefix(s, "alarm") })
}

// gate is in front of a source that can be had only while it is open.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// shut keeps the next stream from being read, until it is opened.
func (g gate) shut() { g <- struct{}{} }
func (g gate) open() { <-g }

func (g gate) before(o *feed.Options) {
	stream := o.Stream
	o.StreamRetry = 50 * time.Millisecond
	o.Stream = func(ctx context.Context, to wal.Handler, ready func()) error {
		select {
		case g <- struct{}{}:
			<-g
			return stream(ctx, to, ready)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// endWAL ends the stream's connection.
func (b *bundle) endWAL(t *testing.T) {
	t.Helper()
	b.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast wal'`)
}

func (b *bundle) counted(t *testing.T, name, label string) float64 {
	t.Helper()
	return metricstest.Value(t, b.m, name, label)
}

// messagesOf are those among what was said.
func messagesOf(said []string) []string {
	return slices.DeleteFunc(slices.Clone(said), func(s string) bool { return !strings.HasPrefix(s, "message t e ") })
}

// What was running when the stream was lost had said something by it alone. It is told when that ends, once and in its order,
// with what it said by NOTIFY; and marks that came meanwhile are told to be overtaking it.
func TestStragglersOfALostStream(t *testing.T) {
	t.Parallel()
	g := newGate()
	b := startByWAL(t, pgtest.New(t), nil, g.before)
	early, sendEarly := transaction(t, b)
	sendEarly(1)
	gone, sendGone := transaction(t, b)
	sendGone(100)
	b.exec(t, `select realtime.send('2', 'e', 't')`)
	b.await(t, "message t e true 2")
	g.shut()
	b.endWAL(t)
	if said := b.await(t, "caught up"); !slices.Equal(said, []string{"deaf", "catching up", "hearing", "caught up"}) {
		t.Fatalf("said %q", said)
	}
	if b.way(t) != 0 || b.ByWAL() == nil {
		t.Fatalf("way %d", b.way(t))
	}
	sendEarly(3)
	if err := gone.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `select realtime.send('4', 'e', 't'), realtime.invalidate('u')`)
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"message t e true 4", "overtaking mark u ", "catching up", "message t e true 1", "message t e true 3", "caught up"}
	if said := b.await(t, "caught up"); !slices.Equal(said, want) {
		t.Fatalf("said %q\nwant %q", said, want)
	}
	b.exec(t, `select realtime.send('5', 'e', 't')`)
	if said := b.await(t, "message t e true 5"); !slices.Equal(said, sent(5)) {
		t.Fatalf("said %q", said)
	}
	g.open()
	b.awaitWAL(t)
	b.exec(t, `select realtime.send('6', 'e', 't')`)
	if said := b.await(t, "message t e true 6"); !slices.Equal(said, sent(6)) {
		t.Errorf("said %q", said)
	}
}

// A server that dies leaves the WAL as the way behind. The next one has it changed before it hears.
func TestServerThatDiesWhileItHearsByTheWAL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := startByWAL(t, db, nil)
	early, sendEarly := transaction(t, b)
	sendEarly(1)
	next := startWith(t, db, db.URL, nil, func(o *feed.Options) { o.Node = "next" })
	next.exec(t, `select realtime.send('2', 'e', 't')`) // for a server without a place nothing is changed
	b.await(t, "message t e true 2")
	if way := b.way(t); way != 2 {
		t.Fatalf("a server without a place has changed the way: %d", way)
	}
	b.exec(t, `delete from realtime._nodes; insert into realtime._nodes (id, name, started_at, expires_at) values ('next', 'test', now(), now() + interval '1 d')`)
	next.await(t, "deaf")
	next.await(t, "caught up")
	if way := b.way(t); way != 0 {
		t.Fatalf("way %d", way)
	}
	next.exec(t, `select realtime.send('3', 'e', 't')`)
	next.await(t, "message t e true 3")
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := messagesOf(next.await(t, "message t e true 1")); !slices.Equal(said, sent(1)) {
		t.Errorf("said %q", said)
	}
	b.await(t, "deaf") // who has lost its place finds out
}

// Where a server hears by NOTIFY alone, it is said to both.
func TestTwoServersOfTwoSources(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := startByWAL(t, db, nil)
	b.exec(t, `insert into realtime._nodes (id, name, started_at, expires_at) values ('other', 'test', now(), now() + interval '1 d')`)
	other := startWith(t, db, db.URL, nil, func(o *feed.Options) { o.Node = "other" })
	for i := range 20 {
		b.exec(t, fmt.Sprintf(`select realtime.send('%d', 'e', 't')`, i))
		for _, each := range []*bundle{b, other} {
			if said := messagesOf(each.await(t, sent(i)[0])); !slices.Equal(said, sent(i)) {
				t.Fatalf("said %q", said)
			}
		}
	}
	if way := b.way(t); way != 1 || b.ByWAL() != nil {
		t.Errorf("way %d, and %v", way, b.ByWAL())
	}
	b.exec(t, `update realtime._nodes set expires_at = now() - interval '1 s' where id = 'other'`)
	b.awaitWAL(t)
}

// Without its listener nothing is missed, and nobody has to wait; only alarms are.
func TestListenerLostWhileTheWALIsHeard(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil)
	for i := range 3 {
		before := b.counted(t, "realtime_feed_reconnects_total", "")
		b.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast listener'`)
		b.exec(t, fmt.Sprintf(`select realtime.send('%d', 'e', 't'), realtime.invalidate('u')`, i))
		if said := withoutAlarms(b.await(t, "mark u ")); !slices.Equal(said, append(sent(i), "mark u ")) {
			t.Fatalf("said %q", said)
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); b.counted(t, "realtime_feed_reconnects_total", "") == before; <-tick.C {
			if time.Now().After(deadline) {
				t.Fatal("the listener does not come back")
			}
		}
	}
	if b.ByWAL() != nil || !b.Feed.Hearing() {
		t.Error("it is not heard by the WAL any more")
	}
}

// Somebody who takes this server for dead has everything said by NOTIFY.
func TestWayChangedByAnother(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil)
	b.exec(t, `begin; update realtime._nodes set hears_wal = false; insert into realtime._nodes (id, name, started_at, expires_at) values ('other', 'test', now(), now() + interval '1 d');
		select realtime._hear('other', 'notify'); commit`)
	b.exec(t, `select realtime.send('1', 'e', 't')`)
	b.exec(t, `select realtime._hear('other', 'both'), realtime._hear('other', 'wal')`)
	if said := messagesOf(b.await(t, "caught up")); !slices.Equal(said, sent(1)) {
		t.Errorf("said %q", said)
	}
	if b.counted(t, "realtime_feed_switches_total", "source_changed") != 1 {
		t.Error("it was not noticed")
	}
}

// A bulk load delays the stream, and no alarm.
func TestAlarmOvertakesABulkLoad(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil, func(o *feed.Options) { o.DeafAfter = time.Minute })
	b.exec(t, `create table bulk (n int, text text)`)
	b.exec(t, `insert into bulk select i, repeat('x', 50) from generate_series(1, 500000) as i; select realtime.send('1', 'e', 't')`)
	b.exec(t, `select realtime.send('2', 'e', 't'), realtime.invalidate('u')`)
	want := []string{"alarm u ", "message t e true 1", "message t e true 2", "mark u "}
	if said := b.await(t, "mark u "); !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	if n := b.counted(t, "realtime_feed_alarms_total", ""); n != 1 {
		t.Errorf("%v alarms", n)
	}
}

// Anyone can say anything, and nothing that others said waits for it.
func TestForgedMessagesOfTheWAL(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil)
	running, send := transaction(t, b)
	send(0)
	var xid string
	if err := running.QueryRow(t.Context(), `select pg_current_xact_id()::text`).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	forge := func(transactional bool, hint string) {
		b.exec(t, fmt.Sprintf(`select pg_logical_emit_message(%t, 'realtime', '%s')`, transactional, hint))
	}
	token := "01234567-89ab-cdef-0123-456789abcdef"
	for _, hint := range []string{"m " + xid + " 1 " + token, "m 1 1 " + token, "d " + xid + " " + token, `r {"x":"` + xid + `"}`, "r {}", "m 18446744073709551615 1 " + token} {
		forge(true, hint)
		forge(false, hint)
	}
	forge(true, "h "+strings.Repeat("A", 26))
	forge(true, "nonsense")
	b.exec(t, `select pg_logical_emit_message(true, 'realtime', 'r {"s":"u","x":"' || pg_current_xact_id() || '"}'), pg_logical_emit_message(true, 'realtime', format('m %s 1 `+token+`', pg_current_xact_id()))`)
	b.exec(t, `select realtime.send('1', 'e', 't')`)
	if said := b.await(t, "message t e true 1"); !slices.Equal(said, append([]string{"mark u "}, sent(1)...)) {
		t.Errorf("said %q", said)
	}
	for reason, want := range map[string]float64{"not_transactional": 6, "foreign_transaction": 6, "malformed": 1, "unknown_message": 1} {
		if n := b.counted(t, "realtime_feed_ignored_total", reason); n != want {
			t.Errorf("%v ignored as %s, want %v", n, reason, want)
		}
	}
	if err := running.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A slot waits for whoever was there before it. NOTIFY serves meanwhile, and it is said who that is.
func TestSlotThatWaits(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	g := newGate()
	g.shut()
	b := &bundle{db: db}
	open, send := transaction(t, b)
	send(1)
	var pid int
	if err := open.QueryRow(t.Context(), `select pg_backend_pid()`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	b = startTowardsWAL(t, db, nil, g.before)
	g.open()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !strings.Contains(fmt.Sprint(b.ByWAL()), fmt.Sprintf("of backends %d", pid)); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not said what is waited for: %v", b.ByWAL())
		}
	}
	b.exec(t, `select realtime.send('2', 'e', 't')`)
	b.await(t, "message t e true 2")
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.await(t, "message t e true 1")
	b.awaitWAL(t)
}
