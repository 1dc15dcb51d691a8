package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/sql"
)

// Inspect runs work in one read-only transaction on a connection of its own. The limits are those of each statement. Names
// in the catalogs come with their schemas.
func Inspect(ctx context.Context, url string, l Limits, work func(context.Context, pgx.Tx) error) error {
	conn, err := connectApart(ctx, url, "rowcast inspection")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if _, err := tx.Exec(ctx, sql.Limits, milliseconds(l.Statement), milliseconds(l.Lock)); err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	err = work(ctx, tx)
	if rolledBack := tx.Rollback(ctx); err == nil && rolledBack != nil && !errors.Is(rolledBack, pgx.ErrTxClosed) {
		err = fmt.Errorf("end the inspection: %w", rolledBack)
	}
	return err
}

// connectApart opens a connection beside any pool, for one piece of work that the context may end.
func connectApart(ctx context.Context, url, name string) (*pgx.Conn, error) {
	parsed, err := pgxpool.ParseConfig(url) // which knows the pool_… settings that a shared URL may carry
	if err != nil {
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	config := parsed.ConnConfig
	prepare(config, url, name)
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelDelay}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}
