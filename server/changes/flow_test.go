package changes

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"rowcast/server/protocol"
)

// Views keep VACUUM from its work, so they follow the WAL, whoever writes it and though nobody wants anything of that.
func TestViewsFollowTheWAL(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "create table noise (body text)")
	ann := th.subscribed(user(annID), all)
	const views = "from pg_stat_activity where datname = current_database() and application_name = 'rowcast changes' and state = 'idle in transaction'"
	var first, oldest *time.Time
	look := func(into **time.Time) {
		t.Helper()
		if err := th.admin.QueryRow(t.Context(), "select min(xact_start) "+views).Scan(into); err != nil {
			t.Fatal(err)
		}
	}
	th.until("select count(*) > 0 " + views)
	for look(&first); oldest == nil || !oldest.After(*first); look(&oldest) {
		th.exec("insert into noise select repeat(md5(random()::text), 30) from generate_series(1, 100)") // 100 KB
		if t.Context().Err() != nil {
			t.Fatal("views are as old as before")
		}
	}
	th.exec("insert into notes values (1, '" + annID + "', 'a')")
	ann.await("INSERT")
	th.exec("delete from notes")
	ann.expect(`[1] DELETE notes was {"id":1}`)
}

// heavy is a row of nearly a megabyte.
func (th *theater) heavy(id int) {
	th.exec(fmt.Sprintf("insert into notes values (%d, '%s', repeat('x', 900000))", id, annID))
}

// What comes while a snapshot is given is kept, but not without end: then it is a gap, and the snapshot begins again.
func TestSnapshotsThatAreOvertaken(t *testing.T) {
	t.Parallel()
	for rounds, last := range map[int]string{1: "+Snapshot complete", maxAnew: "-" + strings.SplitAfter(protocol.TextSnapshotOvertaken, ":")[0]} {
		t.Run(fmt.Sprint(rounds), func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, "insert into notes select n, '"+annID+"', 'x' from generate_series(1, 100) as n")
			ann := &spectator{t: t, more: make(chan struct{}, 1), full: true}
			ann.sub = th.engine.Subscribe(Subscriber{
				Topic: "realtime:room", Role: "authenticated", Claims: user(annID).Claims, Member: ann,
				Entries: entries(t, `{"event":"*","schema":"public","table":"notes","snapshot":true}`),
			})
			other := th.subscribed(user(bobID), all)
			next := 101
			for range rounds {
				ann.await("INSERT") // the first page, which is not read
				for n := 0; n <= heldBytes; n += 900000 {
					th.heavy(next)
					next++
				}
				ann.await("-" + protocol.TextGapExcess)
			}
			ann.read()
			told := ann.await(last)
			if rounds == 1 {
				rows := map[string]bool{} // a machine that is busy may have it begin again once more
				for _, text := range told {
					if strings.Contains(text, "INSERT") {
						rows[text] = true
					}
				}
				if len(rows) != next-1 {
					t.Errorf("%d of %d rows", len(rows), next-1)
				}
			}
			th.exec("insert into notes values (1000, '" + bobID + "', 'b')")
			other.await(`"id":1000`)
		})
	}
}

// queue is a client's: it counts what waits in it, and is read when somebody waits for that.
type queue struct {
	*spectator
	stuck bool // it is never read

	waiting, most, awaited int // for the loop's goroutine
}

func (q *queue) Deliver(f *protocol.Frame) Outlet {
	q.waiting += f.Size()
	q.most = max(q.most, q.waiting)
	q.spectator.Deliver(f)
	return q
}

func (q *queue) Drained(then func()) {
	q.awaited++
	if !q.stuck {
		q.waiting = 0
		then()
	}
}

// Readers who were given much are waited for, so that a long transaction does not fill their queues; those who do not read, once.
func TestReadersAreWaitedFor(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	var queues []*queue
	for _, stuck := range []bool{false, true} {
		q := &queue{spectator: &spectator{t: t, more: make(chan struct{}, 1)}, stuck: stuck}
		q.sub = th.engine.Subscribe(Subscriber{Topic: "realtime:room", Role: service.Role, Claims: service.Claims, Member: q, Entries: entries(t, all)})
		q.await("Subscribed")
		queues = append(queues, q)
	}
	th.exec("insert into notes select n, null, repeat('x', 10000) from generate_series(1, 300) as n", "insert into notes values (301, null, 'end')")
	for _, q := range queues {
		if told := q.await(`"id":301`); len(told) != 301 {
			t.Errorf("told %d", len(told))
		}
	}
	th.stop()
	if q := queues[0]; q.most > fullAt+20000 || q.awaited < 8 {
		t.Errorf("%d bytes waited for who reads, and he was waited for %d times", q.most, q.awaited)
	}
	if q := queues[1]; q.awaited != 1 {
		t.Errorf("who does not read was waited for %d times", q.awaited)
	}
}

// The stream is not read while the loop has as much as it may.
func TestTheInboxIsBounded(t *testing.T) {
	t.Parallel()
	var in inbox
	in.init()
	in.put(t.Context(), item{size: 3 * inboxBytes}) // whatever its size
	put := make(chan struct{})
	go func() {
		in.put(t.Context(), item{size: inboxBytes})
		close(put)
	}()
	if in.tryPut(item{size: 1}) {
		t.Error("a full inbox took more")
	}
	if b := in.take(); len(b.items) != 1 || b.items[0].size != 3*inboxBytes {
		t.Errorf("took %+v", b)
	}
	<-put
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in.put(ctx, item{size: inboxBytes}) // nobody waits for it
	if b := in.take(); len(b.items) != 1 || b.items[0].size != inboxBytes {
		t.Errorf("took %+v", b)
	}
}

// Whoever comes while much is still to be judged does not take the views away by which it will be.
func TestWhoBeginsLeavesTheViews(t *testing.T) {
	t.Parallel()
	var th *theater
	batches := 0 // for the loop's goroutine
	th = newTheater(t, func(o *Options) {
		o.judged = func(l *trial, _ *batch) {
			if batches++; batches > 6 {
				return
			}
			th.seat(user(bobID), all) // one letter; and another when the last one is checked, who begins then
			for limit := time.Now().Add(askPatience); batches > 1 && time.Now().Before(limit); time.Sleep(time.Millisecond) {
				l.mail.mu.Lock()
				letters := len(l.mail.letters)
				l.mail.mu.Unlock()
				if letters > 1 {
					break
				}
			}
		}
	}, notes, "insert into notes select n, '"+annID+"', 'x' from generate_series(1, 2000) as n")
	ann := th.subscribed(user(annID), all)
	th.exec("delete from notes")
	for _, text := range ann.await(`was {"id":2000}`) {
		if text == gapUndecidedTold {
			t.Fatal("a gap, though nothing was lost")
		}
	}
}
