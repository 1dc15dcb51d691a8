package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/changes"
	"rowcast/server/postgres"
	"rowcast/sql"
)

// changesOptions is what the settings say about Postgres Changes. The stream goes where LISTEN goes: neither passes through a
// pooler.
func (in *instance) changesOptions() changes.Options {
	c := in.config
	return changes.Options{
		Pool: in.pool, URL: c.ListenDatabaseURL, Publication: c.Publication, Slot: c.ChangesSlot,
		MaxRow: c.MaxChangeBytes, MaxSnapshotRows: c.MaxSnapshotRows, BypassRoles: c.BypassRoles,
		Logger: in.component("changes"), Metrics: in.metrics,
	}
}

// keptSlot is what keeps the durable slot small.
func (in *instance) keptSlot() *slotKeeper {
	return &slotKeeper{
		name: in.config.ChangesSlot, most: in.config.MaxSlotWALBytes, pool: in.pool, serves: in.lease.holds,
		logger: in.component("changes"), metrics: in.metrics,
	}
}

// watchPublication notices that something else is published than before. It is for a server that does not look at policies:
// otherwise one statement asks for both.
func (in *instance) watchPublication(ctx context.Context) {
	every := in.config.RightsPollInterval
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := ""; ; {
		if in.lease.holds() && in.house.prepared.Load() {
			digests, err := postgres.Ask(ctx, in.pool, slotLimits, pgx.RowTo[string], sql.PublicationDigest, in.config.Publication)
			if err == nil && digests[0] != last { // an error is one of the database, of which others speak
				last = digests[0]
				in.changes.Publications()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
