package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/sql"
)

const (
	// syncTime is for one answer to realtime.sync(). A join may take nine seconds to be decided.
	syncTime = 10 * time.Second
	// Who has called realtime.sync() calls it again soon, as a suite of tests does: for a while it is not left to the next
	// heartbeat to find that.
	syncAttention, syncLook = 5 * time.Second, 20 * time.Millisecond
)

// syncLimits bound the two questions around an answer.
var syncLimits = postgres.Limits{Statement: time.Second, Lock: time.Second}

// syncer answers realtime.sync(): when all that was committed before its call has been applied here, it says so in
// realtime._nodes.
type syncer struct {
	node    string
	pool    *postgres.Pool
	reach   func(context.Context) error // returns when all has been told that was committed before the call
	barrier func() <-chan struct{}      // … and is closed when all that was told has been applied
	before  func(context.Context) error // what is to be done before that, as what no notification tells of; nil: nothing
	logger  *slog.Logger
	metrics *metrics.Metrics
	wake    chan struct{} // holds one when somebody may be waiting
	said    string        // what trouble was logged last; run's own
}

// awaited tells that somebody may be waiting. It does not block.
func (s *syncer) awaited() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run answers until ctx ends, one call after the other: one answer is for all who called before it.
func (s *syncer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			s.attend(ctx)
		}
	}
}

// attend answers, and looks for others who wait until there have been none for a while. After a failure that is left to
// the heartbeats.
func (s *syncer) attend(ctx context.Context) {
	look := time.NewTicker(syncLook)
	defer look.Stop()
	for until := time.Now().Add(syncAttention); ctx.Err() == nil && time.Now().Before(until); {
		switch answered, err := s.answer(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.metrics.Syncs.WithLabelValues("failed").Inc()
			if s.said != err.Error() { // the same trouble once
				s.said = err.Error()
				s.logger.Warn("realtime.sync() not answered", "err", err)
			}
			return
		case answered:
			s.said = ""
			s.metrics.Syncs.WithLabelValues("answered").Inc()
			until = time.Now().Add(syncAttention)
			continue // others may have called meanwhile
		}
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
}

// answer does what is to be done before one, if it is awaited.
func (s *syncer) answer(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	awaited, err := postgres.Ask(ctx, s.pool, syncLimits, pgx.RowTo[int64], sql.SyncAwaited, s.node)
	if err != nil || len(awaited) == 0 {
		return false, err
	}
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return false, err
		}
	}
	if err := s.reach(ctx); err != nil {
		return false, err
	}
	select {
	case <-s.barrier():
	case <-ctx.Done():
		return false, fmt.Errorf("wait for everyone to be decided: %w", context.Cause(ctx))
	}
	_, err = postgres.Ask(ctx, s.pool, syncLimits, pgx.RowTo[string], sql.SyncAcknowledge, s.node, awaited[0])
	return err == nil, err
}
