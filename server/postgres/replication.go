package postgres

import (
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// textForm gives every value one text, whatever the role's own settings are: rows are compared with what the WAL says of them.
var textForm = map[string]string{
	"client_encoding":    "UTF8",
	"TimeZone":           "UTC",
	"DateStyle":          "ISO",
	"IntervalStyle":      "postgres",
	"bytea_output":       "hex",
	"extra_float_digits": "1",
}

// replicationSettings are, with these, those of a connection that reads the WAL. A timeout of the role's would end what may
// well take long: making a slot waits for every open transaction that writes.
var replicationSettings = map[string]string{
	"replication":       "database",
	"statement_timeout": "0",
	"lock_timeout":      "0",
}

// Replication is how to connect for reading the WAL. The name is how a DBA finds the connection in pg_stat_replication.
func Replication(url, name string) (*pgconn.Config, error) {
	parsed, err := pgxpool.ParseConfig(url) // which knows the pool_… settings that a shared URL may carry
	if err != nil {
		return nil, fmt.Errorf("read LISTEN_DATABASE_URL: %w", err)
	}
	prepare(parsed.ConnConfig, url, name)
	maps.Copy(parsed.ConnConfig.RuntimeParams, textForm)
	maps.Copy(parsed.ConnConfig.RuntimeParams, replicationSettings)
	return &parsed.ConnConfig.Config, nil
}
