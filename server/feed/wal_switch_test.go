package feed_test

import (
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

// sender commits numbered messages in transactions that may last longer than it takes to switch.
type sender struct {
	committed [][]string // of each transaction, in order
}

func (s *sender) send(t *testing.T, b *bundle, rng *mathrand.Rand, next *atomic.Int64) {
	var mine []string
	err := pgx.BeginFunc(t.Context(), b.db.Admin, func(tx pgx.Tx) error {
		for range 1 + rng.IntN(3) {
			if rng.IntN(4) == 0 {
				time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // not for anything: that it lasts is what is tested
			}
			if rng.IntN(6) == 0 { // nothing of it remains
				savepoint, err := tx.Begin(t.Context())
				if err != nil {
					return err
				}
				if _, err := savepoint.Exec(t.Context(), `select realtime.send('-1', 'e', 't')`); err != nil {
					return err
				}
				if err := savepoint.Rollback(t.Context()); err != nil {
					return err
				}
			}
			n := int(next.Add(1))
			mine = append(mine, sent(n)...)
			if _, err := tx.Exec(t.Context(), `select realtime.send(to_jsonb($1::int), 'e', 't')`, n); err != nil {
				return err
			}
		}
		if rng.IntN(4) == 0 {
			if _, err := tx.Exec(t.Context(), `select realtime.invalidate('u')`); err != nil {
				return err
			}
		}
		if rng.IntN(3) == 0 {
			if _, err := tx.Exec(t.Context(), asynchronous); err != nil {
				return err
			}
		}
		if rng.IntN(6) == 0 {
			return errRollback
		}
		return nil
	})
	switch err {
	case nil:
		s.committed = append(s.committed, mine)
	case errRollback:
	default:
		t.Error(err)
	}
}

// freezeWAL has the stream's walsender stand still; nil: it runs elsewhere.
func (b *bundle) freezeWAL(t *testing.T) (thaw func()) {
	t.Helper()
	pid := pidOf(t, b.db, `select coalesce((select pid from pg_stat_activity where datname = current_database() and application_name = 'rowcast wal' order by backend_start desc limit 1), 0)`)
	if pid == 0 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return nil
	}
	return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
}

// awaitNotify waits until messages are heard by NOTIFY.
func (b *bundle) awaitNotify(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); b.ByWAL() == nil; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("messages are still heard by the WAL")
		}
	}
}

// A stream that stands still, as in a load that takes it long, is given up while NOTIFY says that all is well.
func TestStreamThatStandsStill(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil, func(o *feed.Options) { o.StreamRetry = 20 * time.Millisecond })
	thaw := b.freezeWAL(t)
	if thaw == nil {
		t.Skip("NOT TESTED: the processes of this Postgres cannot be stopped")
	}
	defer thaw()
	b.exec(t, `select realtime.send('1', 'e', 't')`)
	if said := b.await(t, "caught up"); !slices.Equal(said, append([]string{"deaf", "catching up", "hearing"}, append(sent(1), "caught up")...)) {
		t.Errorf("said %q", said)
	}
	if b.counted(t, "realtime_feed_switches_total", "behind") != 1 {
		t.Error("for another reason")
	}
	thaw()
	b.awaitWAL(t)
}

// The source is changed again and again, by losses of the stream, of the listener and of both, and by a stream that falls behind,
// while others send: every message that was committed is told once, and those of a transaction in their order.
func TestSwitchingLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil, func(o *feed.Options) {
		o.DeafAfter = 2 * time.Second
		o.StreamRetry = 20 * time.Millisecond
	})
	const senders, rounds = 6, 15
	var next atomic.Int64
	var group sync.WaitGroup
	stop := make(chan struct{})
	all := make([]sender, senders)
	for i := range all {
		group.Go(func() {
			rng := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), 0))
			for {
				select {
				case <-stop:
					return
				default:
					all[i].send(t, b, rng, &next)
				}
			}
		})
	}
	listener := func() {
		b.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowcast listener'`)
	}
	frozen := 0
	freeze := func() {
		if thaw := b.freezeWAL(t); thaw != nil {
			frozen++
			b.awaitNotify(t)
			thaw()
		}
	}
	rng := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), 0))
	for range rounds {
		if rng.IntN(3) > 0 { // else in the middle of a change
			b.awaitWAL(t)
		}
		switch rng.IntN(8) {
		case 0, 1, 2:
			b.endWAL(t)
		case 3, 4:
			listener()
		case 5:
			b.endWAL(t)
			listener()
		case 6:
			listener()
			b.endWAL(t)
		case 7:
			b.awaitWAL(t)
			freeze()
		}
	}
	close(stop)
	group.Wait()
	b.awaitWAL(t)
	b.exec(t, `select realtime.send('1', 'end', 't')`)
	got := slices.DeleteFunc(b.await(t, "message t end true 1"), func(s string) bool { return !strings.HasPrefix(s, "message t e ") })
	place := map[string]int{}
	for i, m := range got {
		if _, twice := place[m]; twice {
			t.Errorf("%q was told twice", m)
		}
		place[m] = i
	}
	messages := 0
	for _, s := range all {
		for _, transaction := range s.committed {
			last := -1
			for _, m := range transaction {
				messages++
				at, told := place[m]
				switch {
				case !told:
					t.Errorf("%q was not told", m)
				case at < last:
					t.Errorf("%q was told too early", m)
				}
				last = at
			}
		}
	}
	if len(got) != messages {
		t.Errorf("%d messages committed, %d told", messages, len(got))
	}
	count := func(reason string) float64 { return b.counted(t, "realtime_feed_switches_total", reason) }
	t.Logf("%d messages; to the WAL %v times, from it: lost %v, behind %v (frozen %d times), silent %v, changed %v; %v caught up, %v alarms",
		messages, count("stream_heard"), count("stream_lost"), count("behind"), frozen, count("silent"), count("source_changed"),
		b.counted(t, "realtime_feed_caught_up_total", "message"), b.counted(t, "realtime_feed_alarms_total", ""))
}

// What waits for a standby that is away is not visible, though the stream has said it. It is not told; and what others say is
// heard by NOTIFY, as nothing that they wrote may wait.
func TestSynchronousStandbyThatIsAway(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{})
	b := startByWAL(t, c.DB(t), nil, func(o *feed.Options) {
		o.DeafAfter = 2 * time.Second
		o.StreamRetry = 20 * time.Millisecond
	})
	configure := func(standbys string) {
		b.exec(t, `alter system set synchronous_standby_names = '`+standbys+`'`)
		b.exec(t, `select pg_reload_conf()`)
	}
	configure("nobody")
	until(t, "the setting", b.db, `select current_setting('synchronous_standby_names') = 'nobody'`)
	done := make(chan error, 1)
	go func() {
		_, err := b.db.Admin.Exec(t.Context(), `select realtime.send('1', 'e', 't')`)
		done <- err
	}()
	until(t, "the message to wait", b.db, `select exists (select from pg_stat_activity where wait_event = 'SyncRep')`)
	said := b.await(t, "caught up") // after "behind"
	b.exec(t, `begin; set local synchronous_commit = local; select realtime.send('2', 'e', 't'); commit`)
	said = append(said, b.await(t, "message t e true 2")...)
	if got := messagesOf(said); !slices.Equal(got, sent(2)) {
		t.Errorf("said %q while the other one waits", got)
	}
	configure("")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := messagesOf(b.await(t, "message t e true 1")); !slices.Equal(got, sent(1)) {
		t.Errorf("said %q", got)
	}
	b.awaitWAL(t)
	b.exec(t, `select realtime.send('3', 'e', 't')`)
	if got := messagesOf(b.await(t, "message t e true 3")); !slices.Equal(got, sent(3)) {
		t.Errorf("said %q", got)
	}
}
