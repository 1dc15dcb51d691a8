package feed_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/feed"
	"rowcast/server/metrics/metricstest"
)

// notifications counts those of a kind that were heard.
func (b *bundle) notifications(t *testing.T, kind string) float64 {
	t.Helper()
	return metricstest.Value(t, b.m, "realtime_feed_hints_total", kind)
}

func TestMarksOfAnOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(t, `create table members (user_id text, room int); create table rooms (name text);
		select realtime.watch('members', 'user_id', 'room:{room}'), realtime.watch('rooms', topic => '{name}');`)
	o.await(t, "mark  ")
	many := func(from, to int) string {
		return fmt.Sprintf(`insert into members select 'u' || i, 1 from generate_series(%d, %d) as i;`, from, to)
	}
	for _, test := range []struct {
		name       string
		statements []string
		want       []string
		most       int
	}{
		{name: "named ones, before messages", statements: []string{`select realtime.send('1', 'e', 't')`, `insert into members values ('a', 1)`, `update members set room = 2`},
			want: []string{"mark a room:1", "mark a room:2", "message t e true 1"}},
		{name: "everyone", statements: []string{`truncate members`, `select realtime.invalidate()`}, want: []string{"mark  "}},
		{name: "lenient ones are not needed", statements: []string{`insert into rooms values ('r')`}, want: nil},
		{name: "rolled back", statements: []string{`begin; insert into members values ('b', 1); rollback; begin; savepoint s; select realtime.invalidate('c'); rollback to s; commit`}},
		{name: "invalidate", statements: []string{`select realtime.invalidate('a'), realtime.invalidate('a'), realtime.invalidate(topic => 't')`},
			want: []string{"mark  t", "mark a "}},
		{name: "more than a transaction names", statements: []string{many(1, 1500)}, most: 1001, want: []string{"mark  "}},
		{name: "more than are told", statements: []string{
			many(1, 900), many(1001, 1900), many(2001, 2900), many(3001, 3900), many(4001, 4900), many(5001, 5900), many(6001, 6900), many(7001, 7900),
			many(8001, 8900), many(9001, 9900), many(10001, 10900), many(11001, 11900)}, most: 1, want: []string{"mark  "}},
		{name: "more than are told, of few", statements: slices.Repeat([]string{many(1, 900)}, 12), most: 900, want: []string{"mark u1 room:1"}},
	} {
		o.begin(t)
		for _, statement := range test.statements {
			o.exec(t, statement)
		}
		said := o.end(t)
		got := slices.Compact(slices.Sorted(slices.Values(said[1 : len(said)-1]))) // marks in any order, one perhaps of several transactions
		if last := said[len(said)-2]; test.name == "named ones, before messages" && !strings.HasPrefix(last, "message") {
			t.Errorf("%s: %q comes last", test.name, last)
		}
		if test.most > 0 {
			if len(got) > test.most || !slices.Contains(got, test.want[0]) {
				t.Errorf("%s: %d marks, want at most %d and %q", test.name, len(got), test.most, test.want)
			}
		} else if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A database that takes longer to give the marks than silence may last is not silent.
func TestMarksThatTakeLong(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil, func(o *feed.Options) { o.DeafAfter = 2 * time.Second })
	o.begin(t)
	o.exec(t, `insert into realtime._marks (xid, aim) select pg_current_xact_id(), json_build_object('s', 'u' || i) from generate_series(1, 8000) as i;
		alter table realtime._marks rename to hidden;
		create view realtime._marks as with page as materialized (select pg_sleep(0.5)) select hidden.* from page, realtime.hidden;
		alter view realtime._marks owner to rowcast`)
	marks := slices.DeleteFunc(o.end(t), func(s string) bool { return !strings.HasPrefix(s, "mark ") })
	if len(marks) != 8000 {
		t.Errorf("%d marks told", len(marks))
	}
}

// What was heard before the connection was lost is no news, though nothing has proven yet that it was heard.
func TestMarksThatWereHeardAreNotToldAgain(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	for range 5 {
		o.exec(t, `select realtime.invalidate('u'), realtime.invalidate('u', 't')`)
		o.await(t, "mark u t")
		o.begin(t)
		o.exec(t, `select realtime.invalidate('v')`)
		if got := o.end(t); !slices.Equal(got, []string{"catching up", "mark v ", "caught up"}) {
			t.Errorf("said %q", got)
		}
	}
}

// What is heard meanwhile is told between pieces of what was missed, unless it is a message.
func TestMarksDoNotWaitForTheBacklog(t *testing.T) {
	t.Parallel()
	const missed = 1500
	in, out := make(chan struct{}), make(chan struct{})
	o := startWithOutages(t, func(m feed.Message) {
		if string(m.Payload) == "1" {
			in <- struct{}{}
			<-out
		}
	}, func(o *feed.Options) { o.DeafAfter = time.Minute })
	o.begin(t)
	o.exec(t, fmt.Sprintf(`select realtime.send(to_jsonb(i), 'e', 't') from generate_series(1, %d) as i`, missed))
	o.exec(t, "alter role "+o.role+" login")
	<-in
	o.exec(t, `select realtime.send('0', 'e', 't'), realtime.invalidate('u')`)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); o.notifications(t, "mark") == 0 && time.Now().Before(deadline); <-tick.C {
	}
	out <- struct{}{}
	if before := o.await(t, "mark u "); slices.Contains(before, sent(missed)[0]) {
		t.Error("the mark came behind all messages")
	}
	if after := o.await(t, "caught up"); !slices.Equal(after[len(after)-3:], append(sent(missed, 0), "caught up")) {
		t.Errorf("at last: %q", after[len(after)-3:])
	}
}
