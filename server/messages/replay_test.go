package messages

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// open gives a pool of one connection.
func open(t *testing.T, db *pgtest.DB) *postgres.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), db.PoolURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// A page is measured by what goes over the wire: messages that consist of their names do not overflow a small queue.
func TestPagesAreMeasuredByTheirFrames(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := open(t, db)
	const queue, count = 16 << 10, 50
	var seen string
	_, err := db.Admin.Exec(t.Context(), `select realtime.send('1', repeat('e', 250), 'a') from generate_series(1, $1)`, count)
	if err == nil {
		err = db.Admin.QueryRow(t.Context(), `select pg_current_snapshot()::text`).Scan(&seen)
	}
	if err != nil {
		t.Fatal(err)
	}
	admission, err := snapshot.Parse(seen)
	if err != nil {
		t.Fatal(err)
	}
	r := NewReplayer(ReplayOptions{Pool: pool, MaxQueue: queue, Logger: slog.New(slog.DiscardHandler)})
	past, err := r.Find(t.Context(), "realtime:a", "", protocol.Replay{Limit: count, HasSince: true}, admission)
	if err != nil || past.Left() != count {
		t.Fatalf("%d messages, %v", past.Left(), err)
	}
	for past.Left() > 0 {
		page, err := r.Next(t.Context(), past)
		if err != nil || len(page.Frames) == 0 {
			t.Fatalf("%d frames, %v", len(page.Frames), err)
		}
		bytes := 0
		for _, f := range page.Frames {
			bytes += f.Size()
		}
		if bytes > queue/4 {
			t.Errorf("a page of %d frames has %d bytes", len(page.Frames), bytes)
		}
		past.Given(page)
	}
}

// A database that does not answer in time says nothing about a message: what could not be asked is not taken for unreadable,
// but is an error, after which the client comes back for it.
func TestNothingIsUnreadableWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	pool := open(t, pgtest.New(t))
	r := NewReplayer(ReplayOptions{Pool: pool, Logger: slog.New(slog.DiscardHandler)})
	r.limits = postgres.Limits{Statement: 10 * time.Millisecond, Lock: 10 * time.Millisecond}

	ctx, release := context.WithCancel(t.Context())
	busy, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = postgres.Short(ctx, pool, postgres.Limits{Statement: time.Minute, Lock: time.Minute}, false,
			func(b *pgx.Batch) {
				b.Queue(`select pg_sleep(60)`)
				close(busy)
			},
			func(results pgx.BatchResults) error { _, err := results.Exec(); return err })
	}()
	<-busy
	page, err := r.Next(t.Context(), &Past{room: "a", topic: "realtime:a", page: maxPage, places: []int64{1, 2}})
	if err == nil {
		t.Errorf("a page of %d places, gap %q", page.places, page.Gap)
	}
	release()
	<-ended
}

// What was dropped is said to be missing: before the replay where it may be among what is lacking, and while it goes on.
func TestWhatWasDroppedIsAGap(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := open(t, db)
	exec := func(statement string) {
		t.Helper()
		if _, err := db.Admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec(`select realtime.send('1', 'first', 'a')`)
	exec(`select realtime.send('1', 'then', 'a')`)
	var id, seen string
	if err := db.Admin.QueryRow(t.Context(), `select id::text, pg_current_snapshot()::text from realtime.messages where event = 'first'`).Scan(&id, &seen); err != nil {
		t.Fatal(err)
	}
	admission, err := snapshot.Parse(seen)
	if err != nil {
		t.Fatal(err)
	}
	r := NewReplayer(ReplayOptions{Pool: pool, Logger: slog.New(slog.DiscardHandler)})
	find := func(want Gap) *Past {
		t.Helper()
		past, err := r.Find(t.Context(), "realtime:a", "", protocol.Replay{After: []string{id}, HasAfter: true, Limit: 10}, admission)
		if err != nil || past.Gap != want || past.Left() != 1 {
			t.Errorf("gap %q, %d messages, %v; want the gap %q", past.Gap, past.Left(), err, want)
		}
		return past
	}
	past := find(GapNone)
	// The oldest transaction that the sender of the first could not see is the first that may be lacking.
	oldest := `(select (pg_snapshot_xmin(seen)::text::bigint %s)::text::xid8 from realtime._journal order by seq limit 1)`
	exec(`insert into realtime._dropped (xid, upto) select x, x from ` + fmt.Sprintf(oldest, "- 1") + ` as of (x)`)
	find(GapNone)
	exec(`update realtime._dropped set upto = ` + fmt.Sprintf(oldest, ""))
	find(GapDropped)
	exec(`delete from realtime._journal`)
	if page, err := r.Next(t.Context(), past); err != nil || page.Gap != GapDropped || len(page.Frames) > 0 {
		t.Errorf("a page of %d frames, gap %q, %v", len(page.Frames), page.Gap, err)
	}
}
