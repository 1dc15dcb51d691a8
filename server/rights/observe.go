package rights

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// observeEvery spares decisions: what a transaction has read is looked up among all tables of the database.
const observeEvery = time.Second

// Observes tells whether the next decision is to say what it read: what functions read cannot always be found out without
// running them.
func (w *Watcher) Observes() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.hidden || time.Since(w.looked) < observeEvery {
		return false
	}
	w.looked = time.Now()
	return true
}

// Observed takes what a decision has read. It does not wait: what finds no room will be read again.
func (w *Watcher) Observed(relations []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := false
	for _, r := range relations {
		news = news || !w.seen[r]
	}
	if !news {
		return
	}
	select {
	case w.read <- relations:
		for _, r := range relations {
			w.seen[r] = true
		}
	default:
	}
}

// note keeps what was read in the database, and has it watched if it was not known.
func (w *Watcher) note(ctx context.Context, relations []int64) {
	news, err := postgres.Ask(ctx, w.options.Pool, discoverLimits, pgx.RowTo[bool], sql.Observed, relations)
	if err == nil && news[0] {
		err = w.find(ctx)
	}
	if err != nil && ctx.Err() == nil {
		w.options.Logger.Debug("observed relations not noted", "err", err)
		w.mu.Lock()
		clear(w.seen) // they will be observed again
		w.mu.Unlock()
	}
}
