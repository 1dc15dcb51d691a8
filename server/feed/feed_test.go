package feed_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"rowcast/server/feed"
	"rowcast/server/metrics"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// patience bounds waits for what is certain to come: on a busy machine Postgres prints a gigabyte several times first.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	pgtest.Apart() // replication slots are made
	goleak.VerifyTestMain(m)
}

// recorder is a sink that writes down what it is told.
type recorder struct {
	mu   sync.Mutex // guards said
	said []string
	more chan struct{}
	hold func(feed.Message) // called before a message is written down
}

func (r *recorder) say(format string, args ...any) {
	r.mu.Lock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *recorder) Mark(m feed.Mark) {
	switch {
	case m.Lenient:
		r.say("alarm %s %s", m.Subject, m.Topic)
	case !m.Seen.IsZero():
		r.say("overtaking mark %s %s", m.Subject, m.Topic)
	default:
		r.say("mark %s %s", m.Subject, m.Topic)
	}
}
func (r *recorder) Message(m feed.Message) {
	if r.hold != nil {
		r.hold(m)
	}
	r.say("message %s %s %v %s%s", m.Topic, m.Event, m.Private, m.Payload, m.Binary)
}
func (r *recorder) Disconnect(d feed.Disconnect) { r.say("disconnect %s %s", d.Subject, d.Reason) }
func (r *recorder) Deaf()                        { r.say("deaf") }
func (r *recorder) Hearing()                     { r.say("hearing") }
func (r *recorder) Rewound(snapshot.Snapshot)    { r.say("rewound") }
func (r *recorder) CatchingUp()                  { r.say("catching up") }
func (r *recorder) Settled() bool                { return true }
func (r *recorder) Dropped(m feed.Message)       { r.say("dropped %s", m.Topic) }
func (r *recorder) Missed()                      { r.say("missed") }
func (r *recorder) CaughtUp()                    { r.say("caught up") }

// await waits until the last thing said is this, and gives all that was said since the last await.
func (r *recorder) await(t *testing.T, last string) []string {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		if i := slices.Index(r.said, last); i >= 0 {
			said := r.said[:i+1]
			r.said = slices.Clone(r.said[i+1:])
			r.mu.Unlock()
			return said
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-deadline:
			t.Fatalf("%q was not said, but %q", last, r.said)
		}
	}
}

type bundle struct {
	*feed.Feed
	*recorder
	db *pgtest.DB
	m  *metrics.Metrics
}

func start(t *testing.T) *bundle {
	t.Helper()
	db := pgtest.New(t)
	return startWith(t, db, db.URL, nil)
}

func startWith(t *testing.T, db *pgtest.DB, listenURL string, hold func(feed.Message), change ...func(*feed.Options)) *bundle {
	t.Helper()
	pool, err := postgres.Open(t.Context(), db.PoolURL, 5)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{recorder: &recorder{more: make(chan struct{}, 1), hold: hold}, db: db, m: metrics.New()}
	options := feed.Options{
		Pool: pool, ListenURL: listenURL, Sink: b.recorder, MaxPayload: 1000, Heartbeat: 100 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: b.m,
	}
	for _, c := range change {
		c(&options)
	}
	b.Feed = feed.New(options)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		pool.Close()
	})
	b.await(t, "hearing")
	return b
}

func (b *bundle) exec(t *testing.T, statements string) {
	t.Helper()
	if _, err := b.db.Admin.Exec(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

func TestOrderIsThatOfCommitsAndStatements(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		ctx := t.Context()
		first, err := b.db.Admin.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		say := func(tx pgx.Tx, n int) {
			t.Helper()
			if _, err := tx.Exec(ctx, `select realtime.send(to_jsonb($1::int), 'e', 't'), realtime.invalidate('s' || $1)`, n); err != nil {
				t.Fatal(err)
			}
		}
		say(first, 1)
		second, err := b.db.Admin.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		say(second, 2)
		savepoint, err := second.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		say(savepoint, 3)
		if err := savepoint.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		say(second, 4)
		if err := second.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		say(first, 5)
		if err := first.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		b.exec(t, `begin; select realtime.send('6', 'e', 't'); rollback; select realtime.send('7', 'end', 't', false)`)
		var want []string
		for _, n := range []int{2, 4, 1, 5} {
			want = append(want, fmt.Sprintf("message t e true %d", n), fmt.Sprintf("mark s%d ", n))
		}
		want = append(want, "message t end false 7")
		if got := withoutAlarms(b.await(t, "message t end false 7")); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

func TestManyMessagesInOneTransaction(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		const n = 1000
		b.exec(t, fmt.Sprintf(`select realtime.send(to_jsonb(i), 'e', 't') from generate_series(1, %d) as i`, n))
		got := b.await(t, fmt.Sprintf("message t e true %d", n))
		if len(got) != n {
			t.Fatalf("%d messages, want %d", len(got), n)
		}
		for i, said := range got {
			if want := fmt.Sprintf("message t e true %d", i+1); said != want {
				t.Fatalf("%d: %q, want %q", i, said, want)
			}
		}
	})
}

func TestWhatCannotBeDeliveredIsCounted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		b.exec(t, `
		select realtime.send(to_jsonb(repeat('x', 2000)), 'large', 't');
		insert into realtime.messages (topic, extension, event, private) values ('t', 'broadcast', 'empty', true);
		insert into realtime.messages (topic, extension, payload) values ('t', 'broadcast', '{}');
		select realtime.send('{}', 'deleted', 't'); `+`delete from realtime.messages where event = 'deleted';
		select realtime.send_binary('\x6869', 'end', 't')`)
		if got := b.await(t, "message t end true hi"); !slices.Equal(got, []string{"dropped t", "dropped t", "dropped t", "message t end true hi"}) {
			t.Errorf("said %q", got)
		}
		for reason, want := range map[string]float64{"too_large": 1, "incomplete": 2} {
			if n := metricstest.Value(t, b.m, "realtime_messages_dropped_total", reason); n != want {
				t.Errorf("dropped as %s: %v, want %v", reason, n, want)
			}
		}
	})
}

// Whoever has reached a fence has been told all that was committed before it was sent.
func TestFenceComesAfterAllThatWasCommitted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		for i := range 100 {
			b.exec(t, fmt.Sprintf(`select realtime.send('%d', 'e', 't'), realtime.invalidate('s%d')`, i, i))
			fence := b.NewFence()
			if _, err := b.db.Admin.Exec(t.Context(), sql.Heartbeat, fence.Payload()); err != nil {
				t.Fatal(err)
			}
			reached := make(chan bool, 1)
			fence.Then(func(ok bool) { b.say("fence %d %v", i, ok); reached <- ok })
			if !<-reached {
				t.Fatal("the fence was lost")
			}
			want := []string{fmt.Sprintf("message t e true %d", i), fmt.Sprintf("mark s%d ", i), fmt.Sprintf("fence %d true", i)}
			if got := withoutAlarms(b.await(t, want[2])); !slices.Equal(got, want) {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	})
}

func TestInterruptionsAreSaid(t *testing.T) {
	t.Parallel()
	b := start(t)
	for range 3 {
		fence := b.NewFence() // never sent: it must not wait for ever
		lost := make(chan bool, 1)
		fence.Then(func(ok bool) { lost <- !ok })
		b.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast listener'`)
		if said := b.await(t, "caught up"); !slices.Equal(said, []string{"deaf", "catching up", "hearing", "caught up"}) {
			t.Fatalf("said %q", said)
		}
		if !<-lost {
			t.Error("the fence was reached")
		}
		heard := make(chan struct{})
		b.WhenHearing(func() { close(heard) })
		<-heard
		b.exec(t, `select realtime.send('1', 'after', 't')`)
		b.await(t, "message t after true 1")
	}
}

// One message that Postgres cannot print stops nobody else's.
func TestUnreadableMessageIsDropped(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		b.exec(t, `select realtime.send('1', 'before', 't');
		insert into realtime.messages (topic, extension, event, private, payload)
			select 't', 'broadcast', 'poison', true, jsonb_build_object('x', jsonb_agg(1e131071::numeric)) from generate_series(1, 10000);
		select realtime.send('2', 'after', 't')`)
		want := []string{"message t before true 1", "message t after true 2"}
		got := slices.DeleteFunc(b.await(t, want[1]), func(said string) bool { return !strings.HasPrefix(said, "message") })
		if !slices.Equal(got, want) {
			t.Errorf("said %q", got)
		}
	})
}

// While Postgres prints, it does not look up to be cancelled. A message that takes for ever must not hold up what follows.
func TestMessageThatIsNeverReadIsDropped(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := startWith(t, db, db.URL, nil, func(o *feed.Options) {
		o.LimitFetches(postgres.Limits{Statement: 100 * time.Millisecond, Lock: 100 * time.Millisecond})
		o.DeafAfter = time.Hour // the connection stays
	})
	b.exec(t, `
		create function never(uuid) returns boolean language plpgsql security definer as $$ begin
			if not exists (select from realtime.messages where id = $1 and event = 'poison') then return true; end if;
			loop
				begin perform pg_sleep(60); exception when query_canceled then null; end;
			end loop;
		end $$;
		alter table realtime._journal rename to hidden;
		create view realtime._journal as select * from realtime.hidden where never(message_id);
		alter view realtime._journal owner to rowcast`)
	b.exec(t, `select realtime.send('1', 'poison', 't'); select realtime.send('2', 'after', 't')`)
	b.await(t, "message t after true 2")
	b.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`)
}

// Anyone may repeat a notification, at once or afterwards.
func TestRepeatedNotifications(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		const repeat = `select pg_notify('realtime', format('m %s %s %s', xid, seq, token)), pg_notify('realtime', format('m %s 0%s %s', xid, seq, token)) from realtime._journal;`
		b.exec(t, `select realtime.send('1', 'e', 't');`+repeat+`select realtime.send('2', 'e', 't')`)
		got := b.await(t, "message t e true 2")
		b.exec(t, repeat+`select realtime.send('3', 'e', 't')`)
		if got = append(got, b.await(t, "message t e true 3")...); !slices.Equal(got, sent(1, 2, 3)) {
			t.Errorf("said %q", got)
		}
	})
}

// Nobody waits for the next heartbeat when there is a connection again.
func TestHeardAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := startWith(t, db, db.URL, nil, func(o *feed.Options) { o.Heartbeat = time.Hour })
	b.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast listener'`)
	b.await(t, "deaf")
	b.await(t, "hearing")
}

// A frozen listener looks like a quiet one. Only the heartbeats tell.
func TestSilenceIsNoticed(t *testing.T) {
	t.Parallel()
	b := start(t)
	// The heartbeats of a database that takes nothing from rowcast any more are not heard either.
	b.exec(t, `alter table realtime._journal rename to hidden`) // messages cannot be read: the feed stands still behind them
	if _, err := b.db.Admin.Exec(t.Context(), `select pg_notify('realtime', 'm 99999999999 1 ' || gen_random_uuid())`); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `select pg_notify('realtime', 'r {}')`)
	b.await(t, "deaf")
	b.exec(t, `alter table realtime.hidden rename to _journal`)
	b.await(t, "hearing")
}

func FuzzNotifications(f *testing.F) {
	for _, seed := range []string{"m 1 2", "m 1", "m 1 2 01234567-89ab-cdef-0123-456789abcdef", `r {"x":"1","s":"a","t":"b"}`, "r {}", "r null", "h " + strings.Repeat("a", 26), "", " "} {
		f.Add(seed)
	}
	b := feed.New(feed.Options{Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(_ *testing.T, payload string) { b.HearForTest(payload) })
}
