package auth

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// Rights tells which verdicts count: package rights.
type Rights interface {
	// Counts tells whether a verdict does, of which digest was read afterwards and which saw so much.
	Counts(digest string, seen snapshot.Snapshot) bool
	// Find makes it likely that the next one will.
	Find(ctx context.Context) error
	// Observes tells whether the next decision is to say what it read, and Observed is told.
	Observes() bool
	Observed(relations []int64)
}

// errVoid is a verdict made while something was not watched that it depends on, or by a plan from before it was.
var errVoid = errors.New("what the policies depend on has changed")

// transact runs a decision's transaction, of which read sets seen, and has its verdict count only if nobody changed
// meanwhile what is watched.
func (d *Decider) transact(ctx context.Context, commit bool, seen *snapshot.Snapshot, fill func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	if d.options.Rights != nil && d.options.Rights.Observes() {
		fill, read = d.observed(fill, read)
	}
	var anew, planned bool
	var digest string
	ask := func(b *pgx.Batch) {
		b.Queue(sql.PlanAnew)
		fill(b)
	}
	answer := func(results pgx.BatchResults) error {
		if err := results.QueryRow().Scan(&anew); err != nil {
			return err
		}
		return read(results)
	}
	if d.options.Rights == nil {
		return postgres.Short(ctx, d.options.Pool, decideLimits, commit, ask, answer)
	}
	err := postgres.ShortThen(ctx, d.options.Pool, decideLimits, commit, ask, answer,
		&postgres.Then{Query: sql.DigestAfter, Read: func(row pgx.Row) error { return row.Scan(&digest, &planned) }})
	if err == nil && !(d.options.Rights.Counts(digest, *seen) && (anew || planned)) {
		return errVoid
	}
	return err
}

// observed is a decision that also says what it read.
func (d *Decider) observed(fill func(*pgx.Batch), read func(pgx.BatchResults) error) (func(*pgx.Batch), func(pgx.BatchResults) error) {
	return func(b *pgx.Batch) {
			fill(b)
			b.Queue(sql.Touched)
		}, func(results pgx.BatchResults) error {
			if err := read(results); err != nil {
				return err
			}
			rows, _ := results.Query() // the error is that of the rows
			relations, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err == nil {
				d.options.Rights.Observed(relations)
			}
			return err
		}
}

// afterTrouble has a batch asked again that was not answered. Of verdicts that do not count nobody in it is the cause; of
// other trouble somebody may be, so each is asked alone.
func (d *Decider) afterTrouble(ctx context.Context, batch []*ask, err error) {
	void := errors.Is(err, errVoid)
	for _, a := range batch {
		a.single, a.trouble = a.single || !void, err
	}
	if void {
		d.options.Metrics.DecisionsVoid.Add(float64(len(batch)))
		if err = d.options.Rights.Find(ctx); err == nil {
			d.putBack(batch)
			return
		}
	}
	for _, a := range batch {
		d.again(ctx, a, err)
	}
}
