package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// way is how messages are said. Marks, disconnects and heartbeats are said by NOTIFY in any case.
type way int64

const (
	wayNotify way = iota
	wayBoth
	wayWAL
)

// String is what realtime._hear knows it by.
func (w way) String() string { return [...]string{"notify", "both", "wal"}[w] }

// source is realtime._source: the way, and how often it was changed so that somebody would not hear everything.
type source struct {
	way      way
	wals     int64 // how often it was the WAL alone
	notifies int64 // how often NOTIFY alone
}

func parseSource(value int64) source {
	return source{way: way(value & 3), wals: value >> 2 & (1<<30 - 1), notifies: value >> 32}
}

// sourceLimits bound a change of the way. Two servers that do so wait for each other.
var sourceLimits = postgres.Limits{Statement: 2 * time.Second, Lock: time.Second}

// hearBy has this server hear messages by a way. Where it serves, all that is said is then said by that way, but for what was
// by transactions that have ended or are running in the eyes of the position's snapshot.
func (f *Feed) hearBy(ctx context.Context, by way) (now source, at position, err error) {
	err = postgres.ShortFresh(ctx, f.options.Pool, sourceLimits, func(b *pgx.Batch) { b.Queue(sql.Hear, f.options.Node, by.String()) },
		func(results pgx.BatchResults) (err error) {
			now, _, err = scanSource(results.QueryRow())
			return err
		})
	if err != nil {
		return now, at, fmt.Errorf("hear by %s: %w", by, err)
	}
	// A snapshot lists what runs below the last transaction that has ended: that must be one which began after the change.
	err = postgres.ShortThen(ctx, f.options.Pool, sourceLimits, true, func(b *pgx.Batch) { b.Queue(sql.TransactionID) },
		func(results pgx.BatchResults) error {
			_, err := results.Exec()
			return err
		},
		&postgres.Then{Query: sql.Horizon, Read: func(row pgx.Row) (err error) {
			at, err = scanPosition(row)
			return err
		}})
	if err == nil {
		f.know(at.snapshot)
	}
	return now, at, err
}

// scanSource reads the answer to sql.Hear and sql.Source.
func scanSource(row pgx.Row) (now source, serves bool, err error) {
	var value int64
	if err := row.Scan(&value, &serves); err != nil {
		return now, false, fmt.Errorf("ask by which way messages are said: %w", err)
	}
	return parseSource(value), serves, nil
}

// resume has everything said by NOTIFY from a position on, and catches up with what was said before it. false: what comes has
// no place yet, and resume has to be tried again.
func (f *Feed) resume(ctx context.Context) bool {
	if f.place == nil {
		return false
	}
	var now source
	at := *f.place
	if !f.insist(ctx, at.losses, func() (err error) {
		if now, at.position, err = f.hearBy(ctx, wayNotify); err == nil && at.history != f.place.history {
			err = errElsewhere
		}
		return err
	}) {
		return false
	}
	if now.way == wayWAL && f.served { // this server has lost its place to another, which hears by the WAL
		return false
	}
	if now.wals != f.source.wals || f.source.way == wayWAL {
		f.straggle(at.snapshot)
	}
	f.source = now
	return f.catchUp(ctx, &at)
}

// again gives up what NOTIFY said, and resumes.
func (f *Feed) again(ctx context.Context) {
	f.lose()
	f.behind = true
	f.behind = !f.resume(ctx)
	go f.sendBeat(ctx, f.NewFence())
}

// proven takes a proof of hearing. What was said while nobody was to hear it by the way that leads is not heard, whatever has
// come back; a server without a place has nobody to tell.
func (f *Feed) proven(ctx context.Context, p *proof) {
	if !f.current(p) {
		return
	}
	f.served = f.served || p.serves
	switch {
	case f.flow.leads && (p.source.way == wayNotify || p.source.notifies != f.source.notifies):
		f.turnBack(ctx, "source_changed")
	case !f.flow.leads && f.served && (p.source.way == wayWAL || p.source.wals != f.source.wals):
		f.again(ctx)
	default:
		f.prove(p)
		f.approach(ctx, p)
	}
}

// current tells whether a proof is of the connection in use.
func (f *Feed) current(p *proof) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return p.epoch == f.epoch
}
