package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rowcast/sql"
)

// OutdatedError says that the database lacks migrations that this program knows.
type OutdatedError struct{ Have, Want int64 } // Have is 0 where nothing was applied

func (e *OutdatedError) Error() string {
	return fmt.Sprintf("the database is at migration %d, this server needs %d", e.Have, e.Want)
}

// Ready asks whether the database has the migrations of this program, and takes what every decision begins with: a row
// that is taken back at once. So it is not ready while it is read-only, its disk is full or realtime.messages is locked.
func Ready(ctx context.Context, pool *Pool, l Limits) error {
	list, err := Migrator{}.list()
	if err != nil {
		return err
	}
	found := OutdatedError{Want: list[len(list)-1].Version}
	err = Short(ctx, pool, l, false, func(b *pgx.Batch) {
		b.Queue(sql.SchemaVersion)
		b.Queue(sql.UsersPath)
		b.Queue(sql.Probe)
	}, func(results pgx.BatchResults) error {
		if err := results.QueryRow().Scan(&found.Have); err != nil && !isUndefinedTable(err) {
			return fmt.Errorf("read schema version: %w", err)
		}
		if found.Have < found.Want {
			return &found
		}
		for range 2 {
			if _, err := results.Exec(); err != nil {
				return fmt.Errorf("try a row: %w", err)
			}
		}
		return nil
	})
	return err
}

func isUndefinedTable(err error) bool { return SQLState(err) == "42P01" }
