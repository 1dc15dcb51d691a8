package migrations_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

// Who reads a message while it is moved from the default partition into that of its day finds it in one or the other. A
// query that had to wait for the move was planned without the new partition, or looked for what was committed before it, and
// found it in neither: it was lost.
func TestMessagesAreFoundWhileTheyAreMoved(t *testing.T) {
	t.Parallel()
	for name, day := range map[string]int{"today": 0, "yesterday": -1, "a day to come": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sameDay(t, func(t *testing.T) {
				db := pgtest.New(t)
				keeper := server(t, db)
				pool, err := postgres.Open(t.Context(), db.PoolURL, 1)
				if err != nil {
					t.Fatal(err)
				}
				defer pool.Close()
				if _, err := keeper.Exec(within(t), `insert into realtime.messages (topic, extension, event, payload, inserted_at)
					values ('a', 'broadcast', 'e', '{}', timezone('utc', now())::date + $1::int)`, day); err != nil {
					t.Fatal(err)
				}
				entry := values[string](t, keeper, `select unnest(array[xid::text, seq::text, token::text]) from realtime._journal`)
				tx, err := keeper.Begin(within(t))
				if err != nil {
					t.Fatal(err)
				}
				defer tx.Rollback(context.Background())
				if _, err := tx.Exec(within(t), `select realtime._create_partition(timezone('utc', now())::date + $1::int)`, day); err != nil {
					t.Fatal(err)
				}
				found := make(chan int, 1)
				go func() {
					n := 0
					args := []any{entry[:1], entry[1:2], entry[2:], 0}
					err := postgres.Read(within(t), pool, postgres.Limits{Statement: patience, Lock: patience}, sql.Messages, args, func(pgx.Rows) error {
						n++
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					found <- n
				}()
				awaitWaiters(t, db, 1)
				if err := tx.Commit(within(t)); err != nil {
					t.Fatal(err)
				}
				if n := <-found; n != 1 {
					t.Errorf("found %d times", n)
				}
			})
		})
	}
}
