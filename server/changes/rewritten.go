package changes

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rowcast/sql"
)

// A table that is written anew, as by many an ALTER TABLE and by TRUNCATE, is empty to whoever looks at it in an older snapshot. What
// is not seen there may have been there: nobody can tell any more.

// errRewritten: what was asked about is empty in the view, or what its policies read.
var errRewritten = errors.New("a table has been written anew since")

// behind are the relations that it depends on who sees the table's rows.
func (t *Table) behind() []int64 { return append([]int64{int64(t.OID)}, t.reads...) }

// rewritten tells whether a table, or what its policies read, was written anew since the view began.
func (v *view) rewritten(ctx context.Context, t *Table) (yes bool, err error) {
	err = v.read(ctx, sql.ChangesRewritten, []any{t.behind()}, func(rows pgx.Rows) error { return rows.Scan(&yes) })
	if err != nil {
		return false, fmt.Errorf("ask whether %s.%s was written anew: %w", t.Schema, t.Name, err)
	}
	return yes, nil
}

func anyRewritten(seen []Seen) bool {
	for i := range seen {
		if seen[i].Rewritten {
			return true
		}
	}
	return false
}
