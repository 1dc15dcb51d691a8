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

// slotEvery is how often the durable slot is looked at: WAL is written at some hundred megabytes a second at most.
const slotEvery = 5 * time.Second

var (
	slotLimits = postgres.Limits{Statement: time.Second, Lock: time.Second}
	// dropLimits leave time for the session that reads the slot to end.
	dropLimits = postgres.Limits{Statement: 7 * time.Second, Lock: time.Second}
)

// slotKeeper keeps the durable slot of Postgres Changes from filling the disk of Postgres: one that holds back too much is
// dropped, and so is one that Postgres itself has invalidated. Whoever reads it then begins with another, and says that there is a gap.
type slotKeeper struct {
	name    string
	most    int // bytes of WAL
	pool    *postgres.Pool
	serves  func() bool
	logger  *slog.Logger
	metrics *metrics.Metrics
	said    string // what trouble was logged last; run's own
}

// run looks until ctx ends.
func (k *slotKeeper) run(ctx context.Context) {
	tick := time.NewTicker(slotEvery)
	defer tick.Stop()
	for {
		if k.serves() {
			k.keep(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keep logs the same trouble once.
func (k *slotKeeper) keep(ctx context.Context) {
	switch err := k.look(ctx); {
	case ctx.Err() != nil:
	case err == nil:
		k.said = ""
	case k.said != err.Error():
		k.said = err.Error()
		k.logger.Warn("slot not kept small", "slot", k.name, "err", err)
	}
}

func (k *slotKeeper) look(ctx context.Context) error {
	type slot struct {
		Held int64
		Lost bool
	}
	there, err := postgres.Ask(ctx, k.pool, slotLimits, pgx.RowToStructByPos[slot], sql.Slot, k.name)
	if err != nil {
		return fmt.Errorf("ask for slot %s: %w", k.name, err)
	}
	if len(there) == 0 {
		k.metrics.SlotWAL.Set(0)
		return nil
	}
	held := there[0].Held
	k.metrics.SlotWAL.Set(float64(held))
	if !there[0].Lost && (k.most == 0 || held <= int64(k.most)) {
		return nil
	}
	dropped, err := postgres.Ask(ctx, k.pool, dropLimits, pgx.RowTo[bool], sql.SlotDrop, k.name)
	switch {
	case err != nil:
		return fmt.Errorf("remove slot %s: %w", k.name, err)
	case len(dropped) == 0:
		return fmt.Errorf("remove slot %s: the session that reads it does not end", k.name)
	}
	k.metrics.SlotDrops.Inc()
	k.metrics.SlotWAL.Set(0)
	k.logger.Warn("slot dropped: it held back too much WAL, or Postgres took that from it", "slot", k.name, "wal_bytes", held, "max_slot_wal_bytes", k.most)
	return nil
}
