package feed_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/feed"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// Disconnects have their place among messages and marks, and those that are rolled back have none.
func TestDisconnectsAreTold(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.exec(t, `begin; select realtime.disconnect('x'); rollback;
		begin; select realtime.send('1', 'e', 't'), realtime.disconnect('a'), realtime.disconnect('b', 'because'), realtime.invalidate('a'), realtime.send('2', 'e', 't'), realtime.disconnect('a'); commit`)
	want := []string{"message t e true 1", "disconnect a ", "disconnect b because", "mark a ", "message t e true 2", "disconnect a "}
	b.await(t, want[0])
	got := append(want[:1:1], b.await(t, "message t e true 2")...)
	if got = append(got, b.await(t, "disconnect a ")...); !slices.Equal(got, want) {
		t.Errorf("said %q\nwant %q", got, want)
	}
}

// What was said in an outage is told once, before the server hears again; what was told before it is not told again.
func TestDisconnectsOfAnOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	const many = 4500 // more than two pages
	for round := range 3 {
		o.exec(t, `select realtime.disconnect('told')`)
		o.await(t, "disconnect told ")
		o.begin(t)
		o.exec(t, fmt.Sprintf(`begin; select realtime.disconnect('x'); rollback; select realtime.send('1', 'e', 't');
			select realtime.disconnect('u' || i, 'r') from generate_series(1, %d) as i`, many))
		said := o.end(t)
		cut := slices.DeleteFunc(slices.Clone(said), func(s string) bool { return !strings.HasPrefix(s, "disconnect ") })
		slices.Sort(cut)
		if n := len(slices.Compact(cut)); n != many || len(said) != many+3 || said[len(said)-2] != "message t e true 1" {
			t.Fatalf("round %d: %d said, of them %d disconnects, at last %q", round, len(said), n, said[max(0, len(said)-3):])
		}
	}
	if n := metricstest.Value(t, o.m, "realtime_feed_caught_up_total", "disconnect"); n != 3*many {
		t.Errorf("%v counted, want %d", n, 3*many)
	}
}

// What is heard while messages are still told that were missed does not wait for them.
func TestDisconnectsDoNotWaitForTheBacklog(t *testing.T) {
	t.Parallel()
	in, out := make(chan struct{}), make(chan struct{})
	o := startWithOutages(t, func(m feed.Message) {
		if string(m.Payload) == "1" {
			in <- struct{}{}
			<-out
		}
	}, func(o *feed.Options) { o.DeafAfter = time.Minute })
	o.begin(t)
	o.exec(t, `select realtime.send(to_jsonb(i), 'e', 't') from generate_series(1, 1500) as i`)
	o.exec(t, "alter role "+o.role+" login")
	<-in
	heard := o.notifications(t, "disconnect")
	o.exec(t, `select realtime.disconnect('u')`)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); o.notifications(t, "disconnect") == heard && time.Now().Before(deadline); <-tick.C {
	}
	out <- struct{}{}
	if before := o.await(t, "disconnect u "); slices.Contains(before, sent(1500)[0]) {
		t.Error("it came behind all messages")
	}
	o.await(t, "caught up")
}

// A disconnect that cannot be read holds up what follows: it may be for the same user.
func TestDisconnectsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b := startWith(t, db, db.URL, nil, func(o *feed.Options) {
		o.DeafAfter = time.Minute
		o.LimitFetches(postgres.Limits{Statement: time.Second, Lock: 200 * time.Millisecond})
	})
	tx, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select realtime.disconnect('u'), realtime.send('1', 'e', 't')`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `alter table realtime._disconnects rename to hidden`); err != nil { // committed with it
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); metricstest.Value(t, b.m, "realtime_feed_hints_total", "message") == 0 && time.Now().Before(deadline); <-tick.C {
	}
	b.exec(t, `alter table realtime.hidden rename to _disconnects`)
	if got, want := b.await(t, "message t e true 1"), []string{"disconnect u ", "message t e true 1"}; !slices.Equal(got[len(got)-2:], want) {
		t.Errorf("said %q", got)
	}
}

// Reach returns when the sink knows all that was committed before, and not where the database is not heard.
func TestReach(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	for i := range 20 {
		o.exec(t, fmt.Sprintf(`select realtime.send('%d', 'e', 't')`, i))
		if err := o.Reach(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.mu.Lock()
		told := slices.Contains(o.said, sent(i)[0])
		o.mu.Unlock()
		if !told {
			t.Fatalf("message %d not told", i)
		}
	}
	o.begin(t)
	if err := o.Reach(t.Context()); err == nil {
		t.Error("reached, and the database is not heard")
	}
}
