package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// ErrPooled says that nothing will ever be heard.
var ErrPooled = errors.New("LISTEN_DATABASE_URL, or DATABASE_URL in its place, leads through a pooler in transaction mode, where LISTEN hears nothing: " +
	"set LISTEN_DATABASE_URL to an address of Postgres itself")

const (
	// poolerRounds are how often a pooler has to prove itself: one that lends backends out may happen to lend us the right one.
	poolerRounds = 5
	// poolerPause is for a notification to reach the pooler while nobody asks for it.
	poolerPause = 20 * time.Millisecond
)

// isDirect tells whether conn leads to a backend without a pooler, which would give it another process id.
func isDirect(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, sql.BackendPID).Scan(&pid); err != nil {
		return false, fmt.Errorf("ask for the backend: %w", err)
	}
	return pid == conn.PgConn().PID(), nil
}

// checkPooler finds out whether the backend that was told LISTEN is ours alone, as in session mode. A pooler that lends it
// to others between our transactions drops what it has to tell us meanwhile.
//
// No clock says so: a notification committed on another connection must be here with the next answer, however long that
// takes.
func (f *Feed) checkPooler(ctx context.Context, conn *pgx.Conn) error {
	already, cancel := context.WithCancel(ctx)
	cancel()
	for range poolerRounds {
		fence := f.NewFence()
		fence.Drop() // nobody waits for it; what matters is whether it comes
		if _, _, err := f.say(ctx, postgres.Limits{Statement: f.options.DeafAfter}, fence.Payload()); err != nil {
			return fmt.Errorf("notify ourselves: %w", err)
		}
		time.Sleep(poolerPause)
		if _, err := isDirect(ctx, conn); err != nil {
			return err
		}
		came := false
		for { // what came with the answer, in its order
			n, err := conn.WaitForNotification(already)
			if err != nil {
				break
			}
			came = came || n.Payload == fence.Payload()
			f.hear(n.Payload)
		}
		if !came {
			return ErrPooled
		}
	}
	return nil
}
