package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"rowcast/sql"
)

// ErrStuck is a question that was not answered in time and not cancelled either, though others are answered: while Postgres
// prints a value, it looks up from it for nobody.
var ErrStuck = errors.New("not done in time and not to be cancelled, though the database answers")

// Read puts one question and gives its rows as they come. It sees all that was committed before it began to read: what it
// had to wait for may have moved what it looks for.
func Read(ctx context.Context, pool *Pool, l Limits, query string, args []any, each func(pgx.Rows) error) error {
	asked := false
	err := ShortFresh(ctx, pool, l,
		func(b *pgx.Batch) {
			asked = true // so no longer waiting for a connection
			b.Queue(query, args...)
		},
		func(results pgx.BatchResults) error {
			rows, err := results.Query()
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				if err := each(rows); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	if asked && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && Answers(ctx, pool, l) {
		return ErrStuck
	}
	return err
}

// Answers tells a database that is busy with a question from one that is away.
func Answers(ctx context.Context, pool *Pool, l Limits) bool {
	_, err := Ask(ctx, pool, l, func(pgx.CollectableRow) (struct{}, error) { return struct{}{}, nil }, sql.Horizon)
	return err == nil
}

// IsUnprintable tells whether it is a value itself that Postgres cannot give, now or ever: too large for a text.
func IsUnprintable(err error) bool {
	state := SQLState(err)
	return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "54")
}

// IsSlow tells whether it took too long or too much memory, which fewer values may not.
func IsSlow(err error) bool {
	state := SQLState(err)
	return errors.Is(err, ErrStuck) || state == "57014" || state == "53200"
}
