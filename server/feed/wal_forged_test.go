package feed_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

// Everybody can listen, and so knows the heartbeat behind which the stream leads. To say it once more means nothing: what waits
// there stays.
func TestForgedCut(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	listener, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close(context.Background()) })
	if _, err := listener.Exec(t.Context(), `listen realtime`); err != nil {
		t.Fatal(err)
	}
	holding, release := make(chan struct{}), make(chan struct{})
	b := startByWAL(t, db, func(m feed.Message) {
		if string(m.Payload) == "0" {
			close(holding)
			<-release
		}
	})
	b.exec(t, `select realtime.send('0', 'e', 't')`)
	<-holding
	b.exec(t, `select realtime.send('1', 'e', 't'), realtime.disconnect('u'), realtime.invalidate('u')`)
	b.exec(t, `notify realtime, 'that is all'`)
	heard := b.counted(t, "realtime_wal_changes_total", "message")
	forged := 0
	for {
		n, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload == "that is all" {
			break
		}
		if strings.HasPrefix(n.Payload, "h ") {
			forged++
			b.exec(t, fmt.Sprintf(`select pg_logical_emit_message(true, 'realtime', '%s')`, n.Payload))
		}
	}
	if forged == 0 {
		t.Fatal("no heartbeat was overheard")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); b.counted(t, "realtime_wal_changes_total", "message") < heard+float64(forged); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the stream does not say what was forged")
		}
	}
	close(release)
	b.exec(t, `select realtime.send('2', 'e', 't')`)
	if said := messagesOf(b.await(t, "message t e true 2")); !slices.Equal(said, append(append(sent(0), sent(1)...), sent(2)...)) {
		t.Errorf("said %q", said)
	}
}

// Whoever sets the way back by hand, or by a restore, has not undone that it is counted how often it was: nothing proves that the
// stream is heard while nothing is said by it.
func TestWaySetBackByHand(t *testing.T) {
	t.Parallel()
	b := startByWAL(t, pgtest.New(t), nil)
	b.exec(t, `select setval('realtime._source', last_value & ~3) from realtime._source`)
	b.exec(t, `select realtime.send('1', 'e', 't'), realtime.invalidate('u')`)
	if said := messagesOf(b.await(t, "message t e true 1")); !slices.Equal(said, sent(1)) {
		t.Errorf("said %q", said)
	}
	if b.counted(t, "realtime_feed_switches_total", "source_changed") != 1 {
		t.Error("it was not noticed")
	}
}
