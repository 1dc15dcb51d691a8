package feed

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
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

// parseSource reads a value of the sequence. A way that nobody sets is what it does: the WAL alone.
func parseSource(value int64) source {
	return source{way: min(way(value&3), wayWAL), wals: value >> 2 & (1<<30 - 1), notifies: value >> 32}
}

// sourceLimits bound a change of the way. Two servers that do so wait for each other.
var sourceLimits = postgres.Limits{Statement: 2 * time.Second, Lock: time.Second}

// changed is what a change of the way has found, and made of it.
type changed struct {
	before, now source
	serves      bool // this server has a place
	position         // behind the change
	running     []snapshot.XID
}

// hearBy has this server hear messages by a way. Where it serves, all that is said is then said by that way, but for what was
// by transactions that have ended in the eyes of the position's snapshot or are running then.
func (f *Feed) hearBy(ctx context.Context, by way) (c changed, err error) {
	err = postgres.ShortFresh(ctx, f.options.Pool, sourceLimits, func(b *pgx.Batch) { b.Queue(sql.Hear, f.options.Node, by.String()) },
		func(results pgx.BatchResults) (err error) {
			var before, now int64
			err = results.QueryRow().Scan(&before, &now, &c.serves)
			c.before, c.now = parseSource(before), parseSource(now)
			return err
		})
	if err != nil {
		return c, fmt.Errorf("hear by %s: %w", by, err)
	}
	// A snapshot lists what runs below the last transaction that has ended: that must be one which began after the change.
	err = postgres.ShortThen(ctx, f.options.Pool, sourceLimits, true, func(b *pgx.Batch) { b.Queue(sql.TransactionID) },
		func(results pgx.BatchResults) error {
			_, err := results.Exec()
			return err
		},
		&postgres.Then{Query: sql.Horizon, Read: func(row pgx.Row) (err error) {
			c.position, err = scanPosition(row)
			return err
		}})
	if err != nil {
		return c, err
	}
	f.know(c.snapshot)
	c.running, err = f.runningHere(ctx, c.snapshot)
	return c, err
}

// runningHere are the transactions that a snapshot has seen running, without those that others see to be another database's:
// nobody hears these here. An id is one transaction's alone, so one that ran then and is another's now was so then.
func (f *Feed) runningHere(ctx context.Context, s snapshot.Snapshot) ([]snapshot.XID, error) {
	running := s.Running()
	if len(running) == 0 {
		return nil, nil
	}
	texts, err := postgres.Ask(ctx, f.options.Pool, sourceLimits, pgx.RowTo[string], sql.Elsewhere)
	if err != nil {
		return nil, fmt.Errorf("ask whose transactions are running: %w", err)
	}
	elsewhere := map[uint32]bool{}
	for _, text := range texts {
		x, err := snapshot.ParseXID(text)
		if err != nil {
			return nil, err
		}
		elsewhere[uint32(x)] = true
	}
	return slices.DeleteFunc(running, func(x snapshot.XID) bool { return elsewhere[uint32(x)] }), nil
}

// scanSource reads the answer to sql.Source into a proof.
func (p *proof) scanSource(row pgx.Row) error {
	var value int64
	if err := row.Scan(&value, &p.serves, &p.others); err != nil {
		return fmt.Errorf("ask by which way messages are said: %w", err)
	}
	p.source = parseSource(value)
	return nil
}

// resume has everything said by NOTIFY from a position on, and catches up with what was said before it. false: what comes has
// no place yet, and resume has to be tried again.
func (f *Feed) resume(ctx context.Context) bool {
	if f.place == nil {
		return false
	}
	var c changed
	if !f.insist(ctx, f.place.losses, func() (err error) {
		if c, err = f.hearBy(ctx, wayNotify); err == nil && c.history != f.place.history {
			err = errElsewhere
		}
		return err
	}) {
		return false
	}
	now := c.now
	if now.way == wayWAL && f.served { // this server has lost its place to another, which hears by the WAL
		f.tryAgain(ctx)
		return false
	}
	if now.wals != f.source.wals || f.source.way == wayWAL {
		f.straggle(c.snapshot, c.running)
	}
	f.source = now
	return f.catchUp(ctx, &found{c.position, f.place.losses})
}

// again gives up what NOTIFY said, and resumes.
func (f *Feed) again(ctx context.Context) {
	f.lose()
	f.behind = true
	f.behind = !f.resume(ctx)
	go f.sendBeat(ctx, f.NewFence())
}

// tryAgain has again called, if that is still called for then: this server may be given a place.
func (f *Feed) tryAgain(ctx context.Context) {
	if f.trying {
		return
	}
	f.trying = true
	go func() {
		if waitFor(ctx, f.options.Heartbeat) {
			f.put(hint{kind: hintAgain})
		}
	}()
}

// proven takes a proof of hearing. What was said while nobody was to hear it by the way that leads is not heard, whatever has
// come back; a server without a place has nobody to tell.
func (f *Feed) proven(ctx context.Context, p *proof) {
	if !f.current(p) {
		return
	}
	f.served = f.served || p.serves
	switch {
	case f.flow.leads && (p.source.way == wayNotify || p.source.notifies != f.source.notifies || !f.flow.sure && p.source.wals != f.source.wals):
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
