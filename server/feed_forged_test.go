package main

import (
	"testing"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// In the WAL anybody may say a gigabyte, as a mark of his own transaction too. It is not taken in.
func TestHugeHintIsNotHeard(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewQuiet(t), func(c *Config) { c.FeedSource = "wal" })
	ignored := metricstest.Value(t, r.metrics, "realtime_feed_ignored_total", "malformed")
	r.exec(`select pg_logical_emit_message(true, 'realtime', 'r ' || json_build_object('x', pg_current_xact_id()::text, 's', repeat('u', 20000000)))`)
	r.await("the hint to be ignored", func() bool {
		return metricstest.Value(t, r.metrics, "realtime_feed_ignored_total", "malformed") == ignored+1
	})
	if n := metricstest.Value(t, r.metrics, "realtime_wal_received_bytes_total", "feed"); n < 2e7 {
		t.Errorf("%v bytes were received", n)
	}
}
