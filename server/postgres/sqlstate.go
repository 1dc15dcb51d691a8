package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLState is the code with which Postgres refused; "" if the error is none of its answers.
func SQLState(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}
