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
	"rowcast/server/snapshot"
)

// numbered is a message, and the transaction that sent it.
type numbered struct {
	xid  snapshot.XID
	told string // how a recorder says it
}

func sentSoFar(t *testing.T, db *pgtest.DB) []numbered {
	t.Helper()
	rows, err := db.Admin.Query(t.Context(), `select j.xid::text, m.payload::text from realtime._journal j join realtime.messages m on m.id = j.message_id`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n numbered, err error) {
		var xid, payload string
		if err = row.Scan(&xid, &payload); err == nil {
			n.xid, err = snapshot.ParseXID(xid)
		}
		n.told = "message t e true " + payload
		return n, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func now(t *testing.T, db *pgtest.DB) snapshot.Snapshot {
	t.Helper()
	var text string
	if err := db.Admin.QueryRow(t.Context(), `select pg_current_snapshot()::text`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	s, err := snapshot.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// times is how often the recorder has said something.
func (r *recorder) times() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := map[string]int{}
	for _, said := range r.said {
		times[said]++
	}
	return times
}

// Servers of both sources take one another's place, of one that has stopped or of one that was killed, while others send: from
// the moment at which a server has its place it tells everything that is committed, once.
func TestServersThatFollowOneAnother(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const senders, rounds = 3, 12
	var next atomic.Int64
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range senders {
		group.Go(func() {
			rng := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), 0))
			for s := (&sender{}); ; {
				select {
				case <-stop:
					return
				default:
					s.send(t, &bundle{db: db}, rng, &next)
				}
			}
		})
	}
	defer group.Wait()
	defer close(stop)
	rng := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), 0))
	for round := range rounds {
		source := []string{"wal", "notify"}[round%2]
		id := fmt.Sprintf("%s %d", source, round)
		t.Run(id, func(t *testing.T) {
			var b *bundle
			quick := func(o *feed.Options) { o.Node, o.StreamRetry = id, 20*time.Millisecond }
			if source == "wal" {
				b = startToHear(t, db, nil, quick)
			} else {
				b = startWith(t, db, db.URL, nil, quick)
			}
			gone := []string{`delete from realtime._nodes`, `update realtime._nodes set expires_at = now() - interval '1 s'`}[rng.IntN(2)]
			b.exec(t, gone+`; insert into realtime._nodes (id, name, started_at, expires_at) values ('`+id+`', 'test', now(), now() + interval '1 d')`)
			from := now(t, db)
			if rng.IntN(2) == 0 && source == "wal" {
				b.awaitWAL(t)
			}
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // not for anything: what happens meanwhile is what is tested
			to := now(t, db)
			expected := slices.DeleteFunc(sentSoFar(t, db), func(n numbered) bool { return from.Sees(n.xid) || !to.Sees(n.xid) })
			soonest := func(n numbered) bool { return b.times()[n.told] > 0 }
			soon(t, "all to be told", func() bool { return !slices.ContainsFunc(expected, func(n numbered) bool { return !soonest(n) }) })
			b.proven(t)
			for said, n := range b.times() {
				if n > 1 && strings.HasPrefix(said, "message ") {
					t.Errorf("%q was told %d times", said, n)
				}
			}
			t.Logf("%d messages", len(expected))
		})
	}
}

// startToHear is startTowardsWAL without a place.
func startToHear(t *testing.T, db *pgtest.DB, hold func(feed.Message), change ...func(*feed.Options)) *bundle {
	t.Helper()
	return startWith(t, db, db.URL, hold, append([]func(*feed.Options){byWAL(db)}, change...)...)
}
