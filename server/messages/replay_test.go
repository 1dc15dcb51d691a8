package messages

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// A page is measured by what goes over the wire: messages that consist of their names do not overflow a small queue.
func TestPagesAreMeasuredByTheirFrames(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool, err := postgres.Open(t.Context(), db.PoolURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	const queue, count = 16 << 10, 50
	var seen string
	_, err = db.Admin.Exec(t.Context(), `select realtime.send('1', repeat('e', 250), 'a') from generate_series(1, $1)`, count)
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
	pool, err := postgres.Open(t.Context(), pgtest.New(t).PoolURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
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
