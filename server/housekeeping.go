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

	"rowcast/server/postgres"
	"rowcast/sql"
)

const (
	// maintainEvery is far below the three days for which partitions are made ahead.
	maintainEvery = time.Hour
	// retryEvery is how soon the database is asked again after it was not as needed.
	retryEvery = time.Second
	// maintainAgain is how soon maintenance that failed is tried again. It keeps others waiting while it waits for a lock,
	// and there is time: a message without a partition of its day goes into the default one.
	maintainAgain = time.Minute
)

var (
	prepareLimits = postgres.Limits{Statement: 5 * time.Second, Lock: 2 * time.Second}
	// readyLimits are inside what a health check waits.
	readyLimits = postgres.Limits{Statement: 600 * time.Millisecond, Lock: 400 * time.Millisecond}
	// maintainLimits leave time for the journal of a busy day and for a default partition that has filled up.
	maintainLimits = postgres.Limits{Statement: 15 * time.Minute, Lock: 2 * time.Second}
)

// housekeeper prepares the database for this server and keeps its partitions. It writes only while this server serves.
type housekeeper struct {
	config   Config
	pool     *postgres.Pool
	serves   func() bool
	logger   *slog.Logger
	prepared atomic.Bool
	wake     chan struct{} // holds one when there is something to do at once
	said     string        // what trouble was logged last; run's own
	warned   string        // of grants, last; run's own
}

func newHousekeeper(c Config, pool *postgres.Pool, serves func() bool, logger *slog.Logger) *housekeeper {
	return &housekeeper{config: c, pool: pool, serves: serves, logger: logger, wake: make(chan struct{}, 1)}
}

// hurry has everything done now: this server begins to serve.
func (h *housekeeper) hurry() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

var errNotPrepared = errors.New("the server has not found the database as it needs it; its log says why")

// ready answers for /readyz: the pool answers, the migrations are those of this binary, and decisions can be made.
func (h *housekeeper) ready(ctx context.Context) error {
	err := postgres.Ready(ctx, h.pool, readyLimits)
	if err := advise(err); err != nil {
		return err
	}
	if h.serves() && !h.prepared.Load() {
		return errNotPrepared
	}
	return nil
}

// run prepares, as soon as the database allows it, and keeps house until ctx ends.
func (h *housekeeper) run(ctx context.Context) {
	for {
		wait := h.keep(ctx)
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-time.After(wait):
		}
	}
}

// keep does all there is to do, and says when to come back.
func (h *housekeeper) keep(ctx context.Context) time.Duration {
	serving := h.serves()
	if err := h.prepare(ctx, serving); err != nil {
		h.prepared.Store(false)
		h.complain(ctx, "database not as needed", err)
		return retryEvery
	}
	h.prepared.Store(serving)
	if !serving {
		h.said = ""
		return maintainEvery
	}
	if err := h.maintain(ctx); err != nil {
		h.complain(ctx, "maintenance put off", err)
		return maintainAgain
	}
	h.said = ""
	return maintainEvery
}

// complain logs the same trouble once, not at every attempt.
func (h *housekeeper) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil && h.said != err.Error() {
		h.said = err.Error()
		h.logger.Error(what, "err", err)
	}
}

// prepare checks that the database is as this server needs it, and records what SQL functions must know of the one that
// serves.
func (h *housekeeper) prepare(ctx context.Context, serving bool) error {
	if err := advise(postgres.Ready(ctx, h.pool, prepareLimits)); err != nil {
		return err
	}
	if err := h.checkRoles(ctx); err != nil {
		return err
	}
	if err := h.checkGrants(ctx); err != nil {
		return err
	}
	if !serving {
		return nil
	}
	return h.record(ctx)
}

// advise says what to do about what Ready found.
func advise(err error) error {
	var old *postgres.OutdatedError
	switch {
	case errors.As(err, &old):
		return fmt.Errorf("%w: run rowcast migrate up", err)
	case isRefused(err):
		return fmt.Errorf("ask the database: %w; the schema realtime and all in it must belong to this role: migrate as it", err)
	case err != nil:
		return fmt.Errorf("ask the database: %w", err)
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
	return postgres.Ask(ctx, h.pool, prepareLimits, pgx.RowTo[string], question, h.config.AllowedRoles)
}

// isRefused tells whether Postgres denied a privilege.
func isRefused(err error) bool {
	return postgres.SQLState(err) == "42501"
}

// record tells SQL functions what they must know of this server.
func (h *housekeeper) record(ctx context.Context) error {
	payload := []string{} // no limit; the column is not null
	if h.config.MaxPayloadBytes > 0 {
		payload = []string{strconv.Itoa(h.config.MaxPayloadBytes)}
	}
	recheck := []string{} // never
	if h.config.RecheckInterval > 0 {
		recheck = []string{h.config.RecheckInterval.String()}
	}
	recorded := []struct {
		name   string
		values []string
	}{
		{"bypass_roles", append([]string{}, h.config.BypassRoles...)},
		{"allowed_roles", h.config.AllowedRoles},
		{"max_payload_bytes", payload},
		{"watch", []string{h.config.Watch}},
		{"recheck_interval", recheck},
	}
	err := postgres.ShortFresh(ctx, h.pool, prepareLimits, func(b *pgx.Batch) {
		for _, r := range recorded {
			b.Queue(sql.Settings, r.name, r.values)
		}
	}, func(results pgx.BatchResults) error {
		for range recorded {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the settings: %w", err)
	}
	return nil
}

// maintain makes and drops partitions.
func (h *housekeeper) maintain(ctx context.Context) error {
	if err := h.partitions(ctx, "messages", sql.Maintain, h.config.MessageRetention); err != nil {
		return err
	}
	if !h.config.recordsDecisions() {
		return nil
	}
	return h.partitions(ctx, "decisions", sql.MaintainDecisions, h.config.DecisionRetention)
}

// partitions has those of one table made and dropped.
func (h *housekeeper) partitions(ctx context.Context, table, maintain string, keep time.Duration) error {
	var retention *string // null keeps everything
	if keep > 0 {
		text := keep.String()
		retention = &text
	}
	type partitions struct{ Created, Dropped int }
	done, err := postgres.Ask(ctx, h.pool, maintainLimits, pgx.RowToStructByPos[partitions], maintain, retention)
	if err != nil {
		return fmt.Errorf("maintain the partitions of realtime.%s: %w", table, err)
	}
	for _, p := range done {
		if p.Created+p.Dropped > 0 {
			h.logger.Info("partitions", "table", table, "created", p.Created, "dropped", p.Dropped)
		}
	}
	return nil
}
