package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/server/postgres"
	"rowcast/sql"
)

const (
	// maintainEvery is far below the three days for which partitions are made ahead.
	maintainEvery = time.Hour
	// retryEvery is how soon the database is asked again after it was not as needed.
	retryEvery = time.Second
)

// housekeeper prepares the database for this server and keeps its partitions.
type housekeeper struct {
	config   Config
	pool     *pgxpool.Pool
	logger   *slog.Logger
	prepared atomic.Bool
	warned   string // of grants, last; run's own
}

var errNotPrepared = errors.New("the server has not found the database as it needs it; its log says why")

// ready answers for /readyz: the pool answers, and the migrations are those of this binary.
func (h *housekeeper) ready(ctx context.Context) error {
	if err := h.checkMigrations(ctx); err != nil {
		return err
	}
	if !h.prepared.Load() {
		return errNotPrepared
	}
	return nil
}

// run prepares, as soon as the database allows it, and keeps house until ctx ends.
func (h *housekeeper) run(ctx context.Context) {
	said := ""
	for {
		wait := maintainEvery
		if err := h.keep(ctx); err != nil && ctx.Err() == nil {
			wait = retryEvery
			h.prepared.Store(false)
			if said != err.Error() { // the same trouble once, not every second
				said = err.Error()
				h.logger.Error("database not as needed", "err", err)
			}
		} else {
			said = ""
			h.prepared.Store(ctx.Err() == nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (h *housekeeper) keep(ctx context.Context) error {
	if err := h.checkMigrations(ctx); err != nil {
		return err
	}
	if err := h.checkRoles(ctx); err != nil {
		return err
	}
	if err := h.checkGrants(ctx); err != nil {
		return err
	}
	return h.maintain(ctx)
}

func (h *housekeeper) checkMigrations(ctx context.Context) error {
	have, want, err := postgres.Current(ctx, h.pool)
	switch {
	case isRefused(err):
		return fmt.Errorf("ask for the migrations: %w; the schema realtime and all in it must belong to this role: migrate as it", err)
	case err != nil:
		return fmt.Errorf("ask for the migrations: %w", err)
	case have < want:
		return fmt.Errorf("the database is at migration %d, this server needs %d: run rowcast migrate up", have, want)
	}
	return nil
}

// checkRoles finds roles that this server could never put on.
func (h *housekeeper) checkRoles(ctx context.Context) error {
	mends, err := h.mends(ctx, sql.Roles)
	if err != nil {
		return fmt.Errorf("ask for the roles: %w", err)
	}
	if len(mends) > 0 {
		return fmt.Errorf("roles of ALLOWED_ROLES are missing; as a superuser: %s", strings.Join(mends, " "))
	}
	return nil
}

// checkGrants warns of roles that can use no private channel. Some may be meant to.
func (h *housekeeper) checkGrants(ctx context.Context) error {
	mends, err := h.mends(ctx, sql.Grants)
	if err != nil {
		return fmt.Errorf("ask for the grants: %w", err)
	}
	if said := strings.Join(mends, " "); said != h.warned {
		h.warned = said
		h.logger.Warn("roles that can use no private channel", "mend", said)
	}
	return nil
}

// mends asks a question about the roles that is answered with statements.
func (h *housekeeper) mends(ctx context.Context, question string) ([]string, error) {
	rows, err := h.pool.Query(ctx, question, h.config.AllowedRoles)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// isRefused tells whether Postgres denied a privilege.
func isRefused(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "42501"
}

// maintain records what SQL functions must know, and makes and drops partitions.
func (h *housekeeper) maintain(ctx context.Context) error {
	recorded := map[string][]string{"bypass_roles": h.config.BypassRoles, "max_payload_bytes": nil}
	if h.config.MaxPayloadBytes > 0 {
		recorded["max_payload_bytes"] = []string{strconv.Itoa(h.config.MaxPayloadBytes)}
	}
	for name, values := range recorded {
		if values == nil {
			values = []string{} // the column is not null
		}
		if _, err := h.pool.Exec(ctx, sql.Settings, name, values); err != nil {
			return fmt.Errorf("record the settings: %w", err)
		}
	}
	var retention *string // null keeps everything
	if h.config.MessageRetention > 0 {
		text := h.config.MessageRetention.String()
		retention = &text
	}
	var created, dropped int
	if err := h.pool.QueryRow(ctx, sql.Maintain, retention).Scan(&created, &dropped); err != nil {
		return fmt.Errorf("maintain the partitions of realtime.messages: %w", err)
	}
	if created+dropped > 0 {
		h.logger.Info("partitions", "created", created, "dropped", dropped)
	}
	return nil
}
