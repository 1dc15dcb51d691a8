package feed_test

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
	"rowcast/server/wal"
)

// awaitWay waits until messages go a way.
func (b *bundle) awaitWay(t *testing.T, want int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); b.way(t) != want; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("messages go the way %d, not %d", b.way(t), want)
		}
	}
}

// whenReady has something done when a stream can be read, before the feed knows.
func whenReady(do func()) func(*feed.Options) {
	return func(o *feed.Options) {
		stream := o.Stream
		o.Stream = func(ctx context.Context, to wal.Handler, ready func()) error {
			return stream(ctx, to, func() { do(); ready() })
		}
	}
}

// A stream that is lost before it leads leaves nobody paying for both.
func TestStreamThatNeverLeads(t *testing.T) {
	t.Parallel()
	lost := make(chan struct{})
	b := startTowardsWAL(t, pgtest.New(t), nil, func(o *feed.Options) {
		o.StreamRetry = time.Hour
		o.LimitWarmUp(300 * time.Millisecond)
		o.Stream = func(ctx context.Context, _ wal.Handler, ready func()) error {
			ready()
			select {
			case <-lost:
			case <-ctx.Done():
			}
			return fmt.Errorf("lost for a test: %w", context.Canceled)
		}
	})
	b.awaitWay(t, 1)
	close(lost)
	b.awaitWay(t, 0)
	b.exec(t, `select realtime.send('1', 'e', 't')`)
	if said := b.await(t, "message t e true 1"); !slices.Equal(said, sent(1)) {
		t.Errorf("said %q", said)
	}
}

// So does one that could lead, but for a transaction that does not end.
func TestStreamThatWaitsForLong(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := &bundle{db: db}
	var open pgx.Tx
	b = startTowardsWAL(t, db, nil, func(o *feed.Options) {
		o.StreamRetry = 20 * time.Millisecond
		o.LimitWarmUp(300 * time.Millisecond)
	}, whenReady(func() {
		if open == nil {
			var send func(int)
			open, send = transaction(t, &bundle{db: db})
			send(1)
		}
	}))
	b.awaitWay(t, 1)
	b.awaitWay(t, 0)
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := messagesOf(b.await(t, "message t e true 1")); !slices.Equal(said, sent(1)) {
		t.Errorf("said %q", said)
	}
	b.awaitWAL(t)
}

// A server that hears by NOTIFY sees to it that nothing is said by the WAL any more when nobody is alive who hears that.
func TestWayAfterTheLastWhoHeardTheWAL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := &bundle{db: db}
	b.exec(t, `insert into realtime._nodes (id, name, started_at, expires_at)
		select id, 'test', now(), now() + interval '1 d' from unnest(array['killed', '`+node+`']) as id where id = 'killed'`)
	b.exec(t, `select realtime._hear('killed', 'both'), realtime._hear('killed', 'wal')`)
	b.exec(t, `insert into realtime._nodes (id, name, started_at, expires_at) values ('`+node+`', 'test', now(), now() + interval '1 d')`)
	b = startWith(t, db, db.URL, nil, func(o *feed.Options) {
		o.Node = node
		o.LimitWarmUp(200 * time.Millisecond)
	})
	b.awaitWay(t, 1)
	time.Sleep(500 * time.Millisecond) // that nothing happens cannot be awaited
	b.proven(t)
	if way := b.way(t); way != 1 {
		t.Fatalf("way %d, though another one hears the WAL", way)
	}
	b.exec(t, `update realtime._nodes set expires_at = now() - interval '1 s' where id = 'killed'`)
	b.awaitWay(t, 0)
	b.exec(t, `select realtime.send('1', 'e', 't')`)
	if said := messagesOf(b.await(t, "message t e true 1")); !slices.Equal(said, sent(1)) {
		t.Errorf("said %q", said)
	}
}

// A server that is given a place need not wait for its next heartbeat to have messages said so that it hears them.
func TestPlaceAfterOneWhoHeardTheWAL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := &bundle{db: db}
	b.exec(t, `insert into realtime._nodes (id, name, started_at, expires_at) values ('killed', 'test', now(), now() + interval '1 d')`)
	b.exec(t, `select realtime._hear('killed', 'both'), realtime._hear('killed', 'wal')`)
	b = startWith(t, db, db.URL, nil, func(o *feed.Options) {
		o.Node = node
		o.Heartbeat, o.DeafAfter = time.Hour, 5*time.Hour
	})
	b.exec(t, `delete from realtime._nodes; insert into realtime._nodes (id, name, started_at, expires_at) values ('`+node+`', 'test', now(), now() + interval '1 d')`)
	b.exec(t, `select realtime.send('1', 'e', 't')`)
	b.Hurry()
	if said := messagesOf(b.await(t, "message t e true 1")); !slices.Equal(said, sent(1)) || b.way(t) != 0 {
		t.Errorf("said %q; way %d", said, b.way(t))
	}
}

// A way that nobody sets is the WAL.
func TestWaySetByHand(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil)
	b.exec(t, `select setval('realtime._source', last_value | 3) from realtime._source`)
	b.exec(t, `select realtime.send('1', 'e', 't')`)
	if said := b.await(t, "message t e true 1"); !slices.Equal(said, sent(1)) {
		t.Errorf("said %q", said)
	}
	b.endWAL(t)
	b.exec(t, `select realtime.send('2', 'e', 't')`)
	if said := messagesOf(b.await(t, "message t e true 2")); !slices.Equal(said, sent(2)) {
		t.Errorf("said %q", said)
	}
	b.awaitWAL(t)
}

// Another server takes this one's place for a moment and hears by the WAL, again and again, and just when this one comes to hear by
// it too: nothing is missed, and nothing told twice.
func TestPlaceLostAroundTheCut(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil, func(o *feed.Options) {
		o.StreamRetry = time.Millisecond
		o.Heartbeat = 10 * time.Millisecond
	})
	row := func(id string) string {
		return `insert into realtime._nodes (id, name, started_at, expires_at) values ('` + id + `', 'test', now(), now() + interval '1 d');`
	}
	rng := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), 0))
	const rounds = 60
	n := 0
	send := func() {
		b.exec(t, fmt.Sprintf(`select realtime.send('%d', 'e', 't')`, n))
		n++
	}
	for range rounds {
		b.endWAL(t)
		b.awaitNotify(t)
		for b.ByWAL() != nil && b.way(t) != 1 { // the cut is near
		}
		time.Sleep(time.Duration(rng.IntN(15)) * time.Millisecond) // not for anything: when it happens is what is tested
		b.exec(t, `delete from realtime._nodes;`+row("other")+`select realtime._hear('other', 'both'), realtime._hear('other', 'wal')`)
		send()
		b.exec(t, `delete from realtime._nodes;`+row(node))
		send()
		b.awaitWAL(t)
	}
	b.exec(t, `select realtime.send('1', 'end', 't')`)
	got := slices.DeleteFunc(b.await(t, "message t end true 1"), func(s string) bool { return !strings.HasPrefix(s, "message t e ") })
	for i := range n {
		if told := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s != sent(i)[0] })); told != 1 {
			t.Errorf("message %d was told %d times", i, told)
		}
	}
	t.Logf("to the WAL %v times, changed by another %v times", b.counted(t, "realtime_feed_switches_total", "stream_heard"), b.counted(t, "realtime_feed_switches_total", "source_changed"))
}

// What runs in another database says nothing here, and holds up nothing.
func TestTransactionsOfOtherDatabases(t *testing.T) {
	t.Parallel()
	db, elsewhere := pgtest.NewQuiet(t), pgtest.NewQuiet(t)
	g := newGate()
	b := startByWAL(t, db, nil, g.before)
	other, err := elsewhere.Admin.Begin(t.Context())
	if err == nil {
		_, err = other.Exec(t.Context(), `select pg_current_xact_id()`)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.shut()
	b.endWAL(t)
	b.await(t, "caught up")
	b.exec(t, `select realtime.invalidate('u')`)
	if said := b.await(t, "mark u "); !slices.Equal(said, []string{"mark u "}) {
		t.Errorf("said %q", said) // and not that it overtakes something
	}
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.open()
	b.awaitWAL(t)
}

// What is prepared is told when it has been committed, once, whoever hears by then, and by which way. By NOTIFY Postgres refuses it.
func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "5"}})
	db, g := c.DB(t), newGate()
	b := startByWAL(t, db, nil, g.before)
	prepare := func(n int) error {
		tx, send := transaction(t, b)
		defer tx.Rollback(context.Background()) // its connection is given back
		send(n)
		_, err := tx.Exec(t.Context(), fmt.Sprintf(`prepare transaction 'p%d'`, n))
		return err
	}
	commit := func(n int) { b.exec(t, fmt.Sprintf(`commit prepared 'p%d'`, n)) }
	for n := range 3 {
		if err := prepare(n); err != nil {
			t.Fatal(err)
		}
	}
	b.exec(t, `select realtime.send('3', 'e', 't')`)
	commit(0)
	if said := b.await(t, "message t e true 0"); !slices.Equal(said, append(sent(3), sent(0)...)) {
		t.Errorf("said %q", said)
	}
	g.shut()
	b.endWAL(t)
	b.await(t, "caught up")
	err := prepare(4)
	if refused := (*pgconn.PgError)(nil); !errors.As(err, &refused) || refused.Code != "0A000" || !strings.Contains(refused.Message, "NOTIFY") {
		t.Errorf("a transaction that notifies was prepared: %v", err)
	}
	b.exec(t, `select realtime.send('5', 'e', 't')`)
	commit(1)
	if said := messagesOf(b.await(t, "message t e true 1")); !slices.Equal(said, append(sent(5), sent(1)...)) {
		t.Errorf("said %q", said)
	}
	next := startWith(t, db, db.URL, nil, func(o *feed.Options) { o.Node = node }) // in the place of the first
	commit(2)
	for _, each := range []*bundle{b, next} {
		if said := messagesOf(each.await(t, "message t e true 2")); !slices.Equal(said, sent(2)) {
			t.Errorf("said %q", said)
		}
	}
	g.open()
	b.awaitWAL(t)
}

// A mark that may overtake what is still to come, and of which that cannot be said because the connection is lost, is told when
// that is caught up: as one that overtook nothing it would let through what it should not.
func TestOvertakingMarkOfALostConnection(t *testing.T) {
	t.Parallel()
	held, release := make(chan struct{}), make(chan struct{})
	g := newGate()
	b := startByWAL(t, pgtest.New(t), func(m feed.Message) {
		if m.Event == "held" {
			close(held)
			<-release
		}
	}, g.before)
	early, sendEarly := transaction(t, b)
	sendEarly(1)
	g.shut()
	b.endWAL(t)
	b.await(t, "caught up")
	b.exec(t, `select realtime.send('0', 'held', 't')`)
	<-held
	marks := b.counted(t, "realtime_feed_hints_total", "mark")
	b.exec(t, `select realtime.invalidate('u')`)
	soon(t, "the mark", func() bool { return b.counted(t, "realtime_feed_hints_total", "mark") > marks })
	before := b.counted(t, "realtime_feed_reconnects_total", "")
	b.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast listener'`)
	soon(t, "the listener", func() bool { return b.counted(t, "realtime_feed_reconnects_total", "") > before })
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(release)
	said := b.await(t, "caught up")
	if mark, late := slices.Index(said, "mark u "), slices.Index(said, "catching up"); late < 0 || mark < late || !slices.Contains(said, sent(1)[0]) {
		t.Errorf("said %q", said)
	}
	g.open()
	b.awaitWAL(t)
}

// soon waits until something is so.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}
