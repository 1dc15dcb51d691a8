package postgres

import (
	"context"
	"fmt"

	"github.com/pressly/goose/v3/database"

	ask "rowcast/sql"
)

// versions is the table of applied migrations, for goose, whose own statements find operators and catalogs where the search_path
// leads: whoever migrates may be a superuser, and outside our transactions a pooler's connection keeps no setting of ours.
type versions struct{}

var _ database.StoreExtender = versions{}

func (versions) Tablename() string { return "realtime.schema_version" }

// TableExists holds since create_schema.sql, which comes before goose.
func (versions) TableExists(context.Context, database.DBTxConn) (bool, error) { return true, nil }

func (versions) CreateVersionTable(context.Context, database.DBTxConn) error {
	return database.ErrNotImplemented
}

func (versions) GetMigration(context.Context, database.DBTxConn, int64) (*database.GetMigrationResult, error) {
	return nil, database.ErrNotImplemented
}

func (versions) Insert(ctx context.Context, db database.DBTxConn, made database.InsertRequest) error {
	if _, err := db.ExecContext(ctx, ask.RecordVersion, made.Version); err != nil {
		return fmt.Errorf("record version %d: %w", made.Version, err)
	}
	return nil
}

func (versions) Delete(ctx context.Context, db database.DBTxConn, version int64) error {
	if _, err := db.ExecContext(ctx, ask.ForgetVersion, version); err != nil {
		return fmt.Errorf("forget version %d: %w", version, err)
	}
	return nil
}

func (versions) GetLatestVersion(ctx context.Context, db database.DBTxConn) (latest int64, err error) {
	if err := db.QueryRowContext(ctx, ask.SchemaVersion).Scan(&latest); err != nil {
		return 0, fmt.Errorf("read the newest version: %w", err)
	}
	return latest, nil
}

func (versions) ListMigrations(ctx context.Context, db database.DBTxConn) (list []*database.ListMigrationsResult, err error) {
	rows, err := db.QueryContext(ctx, ask.RecordedVersions)
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var x database.ListMigrationsResult
		if err := rows.Scan(&x.Version, &x.IsApplied); err != nil {
			return nil, fmt.Errorf("read applied versions: %w", err)
		}
		list = append(list, &x)
	}
	return list, rows.Err()
}
