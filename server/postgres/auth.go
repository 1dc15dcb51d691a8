package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	ask "rowcast/sql"
)

// ApplyAuth creates the schema auth with its helper functions; false if there is one already, whoever made it.
func ApplyAuth(ctx context.Context, url string) (applied bool, err error) {
	conn, err := Migrator{URL: url}.connect(ctx)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, ask.SchemaExists, "auth").Scan(&exists); err != nil || exists {
			return err
		}
		applied = true
		_, err := tx.Exec(ctx, ask.Auth)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("apply sql/auth.sql: %w", err)
	}
	return applied, nil
}
