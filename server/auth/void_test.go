package auth_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"rowcast/server/auth"
	"rowcast/server/metrics"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
)

// unsettled has the first verdicts not count, as while somebody changes roles again and again.
type unsettled struct{ void atomic.Int32 }

func (u *unsettled) Counts(string, snapshot.Snapshot) bool { return u.void.Add(-1) < 0 }
func (u *unsettled) Find(context.Context) error            { return nil }
func (u *unsettled) Observes() bool                        { return false }
func (u *unsettled) Observed([]int64)                      {}

// Verdicts that do not count tell all the same whose policies take too long: without that, neighbours in the batch were
// asked together with them until their time was up.
func TestWhoIsSlowIsKnownFromVoidVerdicts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	pool, err := postgres.Open(t.Context(), db.PoolURL, 5)
	if err != nil {
		t.Fatal(err)
	}
	rights := &unsettled{}
	rights.void.Store(2)
	d := auth.NewDecider(auth.DeciderOptions{Pool: pool, Rights: rights, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: metrics.New()})
	good := make(chan auth.Answer, 1)
	d.Ask(request("sleep", "1"), func(auth.Answer) {}) // both are there when the first batch is taken
	d.Ask(request("t-2", "2"), func(a auth.Answer) { good <- a })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; pool.Close() })
	if a := <-good; a.Err != nil || !a.Broadcast.Receive {
		t.Errorf("the neighbour of a slow policy: %+v", a)
	}
}
