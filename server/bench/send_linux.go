package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

const (
	// sendTopic is a channel that nobody is on: the server reads what is sent to it all the same.
	sendTopic = "bench:send"
	// sendLeast is how many times the transactions there are to be by the WAL, from sendFrom writers on.
	sendLeast, sendFrom = 2, 16
)

// sendWriters are how many transactions are under way.
var sendWriters = []int{1, 16, 64}

// sendRates are transactions a second.
type sendRates struct{ plain, sent, ratios []float64 }

// send has applications write a row, and write one and send a message about it, with a server attached that hears messages by
// NOTIFY, and by the WAL. The database is on a disk, and flushes: that is what NOTIFY costs.
func (b *bench) send() (section, error) {
	s := section{
		title: "Transactions a second that write a row and send(), beside those that only write it; all cores, fsync on, a server that hears them",
		rows:  [][]string{{"writers", "row", "row and send() by NOTIFY", "ratio", "from", "to", "by the WAL", "ratio", "from", "to", "WAL / NOTIFY"}},
	}
	usual := b.database
	disk, err := b.startPostgres(pgtest.Options{Settings: map[string]string{"fsync": "on", "full_page_writes": "on"}})
	if err != nil {
		return s, err
	}
	b.database = disk
	defer func() {
		b.database = usual
		if err := disk.stop(); err != nil {
			b.say("%v", err)
		}
	}()
	if err := b.ask("plain_table"); err != nil {
		return s, err
	}
	bySource := map[string][]sendRates{}
	for _, source := range []string{"notify", "wal"} {
		if bySource[source], err = b.sendRates(source); err != nil {
			return s, err
		}
	}
	for i, writers := range sendWriters {
		notify, wal := bySource["notify"][i], bySource["wal"][i]
		gain := median(wal.ratios) / median(notify.ratios)
		s.rows = append(s.rows, []string{
			strconv.Itoa(writers), figure(median(append(notify.plain, wal.plain...))),
			figure(median(notify.sent)), figure(median(notify.ratios)), figure(slices.Min(notify.ratios)), figure(slices.Max(notify.ratios)),
			figure(median(wal.sent)), figure(median(wal.ratios)), figure(slices.Min(wal.ratios)), figure(slices.Max(wal.ratios)), figure(gain),
		})
		if writers >= sendFrom {
			s.bars = append(s.bars, bar{what: fmt.Sprintf("%d writers: by the WAL beside NOTIFY", writers), figure: gain, limit: sendLeast})
		}
	}
	return s, nil
}

// sendRates measures with a server that hears by one source.
func (b *bench) sendRates(source string) (rates []sendRates, err error) {
	server, err := b.rowcast(anyCore, "FEED_SOURCE="+source)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	window, rounds := b.pick(3*time.Second, 500*time.Millisecond), 3
	if b.options.quick {
		rounds = 1
	}
	if _, err := b.transactions("plain_send", 1, b.pick(3*time.Second, 2*time.Second)); err != nil { // and the way is set
		return nil, err
	}
	for _, writers := range sendWriters {
		b.say("%d writers that send by %s", writers, source)
		b.awaitQuiet()
		var r sendRates
		before, err := b.transactions("plain", writers, window)
		if err != nil {
			return nil, err
		}
		for range rounds {
			sent, err := b.transactions("plain_send", writers, window)
			if err != nil {
				return nil, err
			}
			after, err := b.transactions("plain", writers, window)
			if err != nil {
				return nil, err
			}
			r.sent, r.plain = append(r.sent, sent), append(r.plain, before, after)
			r.ratios = append(r.ratios, 2*sent/(before+after))
			before = after
		}
		rates = append(rates, r)
	}
	said, err := server.ask(b.ctx, "/metrics")
	if err == nil && !bytes.Contains(said, []byte("realtime_feed_source{source=\""+source+"\"} 1")) {
		err = fmt.Errorf("the server does not hear by %s any more: %s", source, server.errors)
	}
	return rates, err
}

// transactions has so many connections do one thing each, again and again, and gives how often they did in a second.
func (b *bench) transactions(name string, writers int, window time.Duration) (float64, error) {
	conns, done, err := dial(b.ctx, b.database.admin, writers)
	if err != nil {
		return 0, err
	}
	defer done()
	var args []any
	if name == "plain_send" {
		args = append(args, sendTopic)
	}
	var count atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, writers)
	began := time.Now()
	for _, conn := range conns {
		group.Go(func() {
			if err := repeat(b.ctx, conn, question(name), args, began.Add(window), &count); err != nil {
				failed <- err
			}
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		return 0, fmt.Errorf("write: %w", err)
	default:
		return float64(count.Load()) / time.Since(began).Seconds(), nil
	}
}

func repeat(ctx context.Context, conn *pgx.Conn, query string, args []any, until time.Time, count *atomic.Int64) error {
	for time.Now().Before(until) {
		if _, err := conn.Exec(ctx, query, args...); err != nil {
			return err
		}
		count.Add(1)
	}
	return nil
}
