package feed_test

import (
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

// outages is a feed whose listener logs in as a role of its own, and so can be kept out.
type outages struct {
	*bundle
	role string
}

func startWithOutages(t *testing.T, hold func(feed.Message), change ...func(*feed.Options)) *outages {
	t.Helper()
	return startWithOutagesOf(t, pgtest.New(t), hold, change...)
}

func startWithOutagesOf(t *testing.T, db *pgtest.DB, hold func(feed.Message), change ...func(*feed.Options)) *outages {
	t.Helper()
	role := db.NewRole(t, "login")
	return &outages{startWith(t, db, db.As(role), hold, change...), role}
}

// begin ends the listener's connection and lets it make no other.
func (o *outages) begin(t *testing.T) {
	t.Helper()
	o.exec(t, "alter role "+o.role+" nologin")
	o.kill(t)
	o.await(t, "deaf")
}

func (o *outages) kill(t *testing.T) {
	t.Helper()
	o.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = '`+o.role+`'`)
}

// end lets the listener in, and gives what was said until all was caught up.
func (o *outages) end(t *testing.T) []string {
	t.Helper()
	o.exec(t, "alter role "+o.role+" login")
	return slices.DeleteFunc(o.await(t, "caught up"), func(s string) bool { return s == "hearing" })
}

func (o *outages) hears() {
	heard := make(chan struct{})
	o.WhenHearing(func() { close(heard) })
	<-heard
}

// sent is what a recorder says of messages that send() sent.
func sent(numbers ...int) (said []string) {
	for _, n := range numbers {
		said = append(said, fmt.Sprintf("message t e true %d", n))
	}
	return said
}

func transaction(t *testing.T, b *bundle) (tx pgx.Tx, send func(int)) {
	t.Helper()
	tx, err := b.db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx, func(n int) {
		t.Helper()
		if _, err := tx.Exec(t.Context(), `select realtime.send(to_jsonb($1::int), 'e', 't')`, n); err != nil {
			t.Fatal(err)
		}
	}
}

// In the order of sending, also what is of transactions that began before the outage.
func TestWhatWasCommittedMeanwhileIsTold(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	early, sendEarly := transaction(t, o.bundle)
	sendEarly(1)
	still, sendStill := transaction(t, o.bundle)
	sendStill(2)
	o.exec(t, `select realtime.send('3', 'e', 't')`)
	o.await(t, "message t e true 3")
	o.begin(t)
	o.exec(t, `select realtime.send('4', 'e', 't', false)`)
	sendEarly(5)
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.exec(t, `begin; select realtime.send('6', 'e', 't'); rollback; select realtime.send('7', 'e', 't'), realtime.send_binary('8', 'e', 't')`)
	want := append([]string{"catching up"}, sent(1)...)
	want = append(want, "message t e false 4")
	want = append(want, sent(5, 7, 8)...)
	want = append(want, "caught up")
	if got := o.end(t); !slices.Equal(got, want) {
		t.Errorf("said %q\nwant %q", got, want)
	}
	sendStill(9) // begun before the outage, committed after it
	if err := still.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := o.await(t, "message t e true 9"); !slices.Equal(got, sent(2, 9)) {
		t.Errorf("afterwards: %q", got)
	}
}

// What a sender could see was there before what he sent, whichever transaction began first.
func TestWhatASenderSawIsToldBeforeWhatHeSent(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	early, sendEarly := transaction(t, o.bundle)
	o.begin(t)
	sendEarly(1)
	o.exec(t, `select realtime.send('2', 'e', 't')`)
	sendEarly(3)
	o.exec(t, `select realtime.send('4', 'e', 't')`)
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.saidMessages(t, o.end(t), sent(1, 2, 3, 4))
}

// The oldest transaction of all, which where other tests run is one of theirs.
func TestOldestTransactionOfAnOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutagesOf(t, pgtest.NewCluster(t, pgtest.Options{}).DB(t), nil)
	oldest, send := transaction(t, o.bundle)
	if _, err := oldest.Exec(t.Context(), `select realtime.invalidate('a')`); err != nil {
		t.Fatal(err)
	}
	send(1)
	o.proven(t)
	o.begin(t)
	if err := oldest.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := append([]string{"catching up", "mark a "}, append(sent(1), "caught up")...)
	if got := o.end(t); !slices.Equal(got, want) {
		t.Errorf("said %q\nwant %q", got, want)
	}
}

// What the new connection says as well as the journal is told once, though it had to wait behind what was missed.
func TestRepeatedWhileCatchingUp(t *testing.T) {
	t.Parallel()
	telling, repeated := make(chan struct{}), make(chan struct{})
	wait := sync.OnceFunc(func() { close(telling); <-repeated })
	o := startWithOutages(t, func(feed.Message) { wait() })
	o.begin(t)
	o.exec(t, `select realtime.send('1', 'e', 't'), realtime.send('2', 'e', 't')`)
	before := o.notifications(t, "message")
	o.exec(t, "alter role "+o.role+" login")
	<-telling
	o.exec(t, `select pg_notify('realtime', format('m %s %s %s', xid, seq, token)) from realtime._journal`)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); o.notifications(t, "message") < before+2; <-tick.C {
		if time.Now().After(deadline) {
			close(repeated)
			t.Fatal("the repeated notifications are not heard")
		}
	}
	close(repeated)
	o.saidMessages(t, o.await(t, "caught up"), sent(1, 2))
}

// A transaction that lasts makes pages of what was told long ago.
func TestMissedBehindPagesThatWereTold(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	still, sendStill := transaction(t, o.bundle)
	sendStill(0)
	const told = 4500
	o.exec(t, fmt.Sprintf(`select realtime.send(to_jsonb(i), 'e', 't') from generate_series(1, %d) as i`, told))
	o.exec(t, fmt.Sprintf(`insert into realtime._marks (xid, aim) select pg_current_xact_id(), json_build_object('s', i) from generate_series(1, %d) as i`, told))
	o.await(t, sent(told)[0])
	o.proven(t)
	o.begin(t)
	o.exec(t, `select realtime.send('5000', 'e', 't'), realtime.invalidate('u')`)
	if got, want := o.end(t), append([]string{"catching up", "mark u "}, append(sent(5000), "caught up")...); !slices.Equal(got, want) {
		t.Errorf("said %.300q, want %q", got, want)
	}
	if err := still.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.await(t, sent(0)[0])
}

// Several pages, several transactions, one of them larger than a page; then again with little.
func TestLargeOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	for _, sizes := range [][]int{{1500, 2500, 1, 1300}, {3}, {}} {
		o.begin(t)
		var want []string
		n := 0
		for _, size := range sizes {
			o.exec(t, fmt.Sprintf(`select realtime.send(to_jsonb(i), 'e', 't') from generate_series(%d, %d) as i`, n+1, n+size))
			n += size
		}
		for i := range n {
			want = append(want, sent(i+1)...)
		}
		want = slices.Concat([]string{"catching up"}, want, []string{"caught up"})
		if got := o.end(t); !slices.Equal(got, want) {
			t.Fatalf("said %d things, want %d; the first %q", len(got), len(want), got[:min(len(got), 10)])
		}
	}
}

// The connection is lost again while what was missed is told: it goes on where it was.
func TestInterruptedCatchUp(t *testing.T) {
	t.Parallel()
	in, out := make(chan struct{}), make(chan struct{})
	o := startWithOutages(t, func(m feed.Message) {
		if string(m.Payload) == "2500" {
			in <- struct{}{}
			<-out
		}
	})
	o.begin(t)
	for i := range 4 {
		o.exec(t, fmt.Sprintf(`select realtime.send(to_jsonb(i), 'e', 't') from generate_series(%d, %d) as i`, 1000*i+1, 1000*i+1000))
	}
	o.exec(t, "alter role "+o.role+" login")
	<-in
	o.exec(t, `select realtime.send('4001', 'e', 't')`) // heard, and waiting behind the rest
	o.exec(t, "alter role "+o.role+" nologin")
	o.kill(t)
	o.exec(t, `select realtime.send('4002', 'e', 't')`)
	out <- struct{}{}
	o.exec(t, "alter role "+o.role+" login")
	o.exec(t, `select realtime.send('1', 'end', 't')`)
	got := slices.DeleteFunc(o.await(t, "message t end true 1"), func(s string) bool { return !strings.HasPrefix(s, "message t e ") })
	var want []string
	for i := range 4002 {
		want = append(want, sent(i+1)...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
}

// What was caught up cannot be had again: not by its own notification, spelled in any way, nor by another outage in which
// all connections are lost.
func TestCaughtUpOnce(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(t, `select realtime.send('1', 'e', 't')`)
	o.await(t, "message t e true 1")
	o.begin(t)
	o.exec(t, `select realtime.send('2', 'e', 't')`)
	o.saidMessages(t, o.end(t), sent(2))
	for range 3 {
		o.exec(t, `select pg_notify('realtime', format('m %s %s %s', xid, seq, token)), pg_notify('realtime', upper(format('m %s %s %s', xid, seq, token))),
			pg_notify('realtime', format('m %s %s %s', xid, seq, regexp_replace(token::text, '^(....)(....)-(....)-(....)', '\1-\2-\3\4'))) from realtime._journal`)
		o.begin(t)
		o.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast'`)
		o.exec(t, `select realtime.send(to_jsonb((select count(*) + 1 from realtime._journal)), 'e', 't')`)
		var n int
		if err := o.db.Admin.QueryRow(t.Context(), `select count(*) from realtime._journal`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		said := o.end(t)
		if slices.Contains(said, "rewound") {
			t.Errorf("taken for a crash: %q", said)
		}
		o.saidMessages(t, said, sent(n))
	}
}

// saidMessages checks which messages were said.
func (o *outages) saidMessages(t *testing.T, said, want []string) {
	t.Helper()
	if got := slices.DeleteFunc(said, func(s string) bool { return !strings.HasPrefix(s, "message") }); !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

// Nothing is silently left out when the journal does not reach back any more.
func TestOutageBeyondTheRetention(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	for _, test := range []struct {
		retention string
		missed    bool
	}{{"1 hour", false}, {"0", true}, {"1 hour", false}, {"0", true}} {
		o.begin(t)
		o.exec(t, `select realtime.send('1', 'e', 't'), realtime.invalidate('u')`)
		o.exec(t, `select realtime._maintain('`+test.retention+`')`)
		said := o.end(t)
		if slices.Contains(said, "missed") != test.missed {
			t.Errorf("retention %s: %q", test.retention, said)
		}
	}
}

// Random commits, random losses of the listener: every message once.
func TestRandomOutages(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	const writers, rounds = 6, 150
	var next atomic.Int64
	var group sync.WaitGroup
	committed := make([][]string, writers)
	for w := range writers {
		group.Go(func() {
			rng := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), 0))
			for range rounds {
				var mine []string
				err := pgx.BeginFunc(t.Context(), o.db.Admin, func(tx pgx.Tx) error {
					for range 1 + rng.IntN(3) {
						n := int(next.Add(1))
						mine = append(mine, sent(n)...)
						if _, err := tx.Exec(t.Context(), `select realtime.send(to_jsonb($1::int), 'e', 't')`, n); err != nil {
							return err
						}
					}
					if rng.IntN(5) == 0 {
						return errRollback
					}
					return nil
				})
				switch err {
				case nil:
					committed[w] = append(committed[w], mine...)
				case errRollback:
				default:
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	kills := 0
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			heard := make(chan struct{})
			o.WhenHearing(func() { close(heard) })
			select {
			case <-heard:
			case <-stop:
				return
			}
			o.kill(t)
			kills++
		}
	})
	group.Wait()
	close(stop)
	killer.Wait()
	o.hears()
	o.exec(t, `select realtime.send('1', 'end', 't')`)
	got := slices.DeleteFunc(o.await(t, "message t end true 1"), func(s string) bool { return !strings.HasPrefix(s, "message t e ") })
	all := slices.Concat(committed...)
	t.Logf("%d messages committed, the listener lost %d times", len(all), kills)
	slices.Sort(got)
	slices.Sort(all)
	if !slices.Equal(got, all) {
		t.Errorf("%d messages committed, %d told", len(all), len(got))
	}
}

var errRollback = fmt.Errorf("rolled back on purpose")
