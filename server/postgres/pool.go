package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/sql"
)

// connectTimeout bounds one attempt to connect; pgx has none of its own.
const connectTimeout = 5 * time.Second

// Pool opens the pool on url. It does not wait for the database: what needs it says so itself.
func Pool(ctx context.Context, url string, maxConns int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	limit(config.ConnConfig, "rowcast")
	config.MaxConns = maxConns
	if !strings.Contains(url, "default_query_exec_mode") {
		// No statements prepared by name: behind PgBouncer in transaction mode they meet on foreign connections.
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	config.MaxConnIdleTime = 5 * time.Minute
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the pool: %w", err)
	}
	return pool, nil
}

// limit sets what the URL leaves open. The name is how a DBA finds the connection in pg_stat_activity.
func limit(config *pgx.ConnConfig, name string) {
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = name
	}
}

// Limits bound one short transaction.
type Limits struct {
	Statement time.Duration // Postgres cancels a statement after this
	Lock      time.Duration // and one that waits for a lock after this
}

// Short runs a transaction of one round trip: begin, limits, what fill queues, and commit (or rollback, where nothing is
// to stay). read is called for the results in the order of the queue. The context is the backstop for a server that
// does not answer at all.
//
// All statements share one snapshot: under read committed a decision would be younger than the snapshot it reports, and
// a message sent just before a grant would pass for one sent after it.
func Short(ctx context.Context, pool *pgxpool.Pool, l Limits, commit bool, fill func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.Statement+l.Lock+time.Second)
	defer cancel()
	var batch pgx.Batch
	batch.Queue("begin isolation level repeatable read")
	batch.Queue(sql.Limits, milliseconds(l.Statement), milliseconds(l.Lock))
	fill(&batch)
	if commit {
		batch.Queue("commit")
	} else {
		batch.Queue("rollback")
	}
	results := pool.SendBatch(ctx, &batch)
	err := func() error {
		for range 2 {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		if err := read(results); err != nil {
			return err
		}
		_, err := results.Exec()
		return err
	}()
	if closed := results.Close(); err == nil {
		err = closed
	}
	return err
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
