package feed

import (
	"context"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// Disconnect says that all sessions of a user are to be closed.
type Disconnect struct {
	Subject string
	Reason  string // for the user; may be empty
}

// noPlace is where a disconnect stands in the journal: in none. It is told when its transaction is.
const noPlace = math.MaxInt64

// disconnects reads who is to be disconnected and tells the sink. It does not give up while the database can come back:
// what follows in the feed must not reach these users.
func (f *Feed) disconnects(ctx context.Context, list []wanted) {
	said := ""
	for wait := firstWait; len(list) > 0; wait = min(2*wait, maxWait) {
		err := f.fetchDisconnects(ctx, list)
		if err == nil || ctx.Err() != nil {
			return
		}
		if said != err.Error() { // the same trouble once
			said = err.Error()
			f.options.Logger.Warn("disconnects not read; trying again", "err", err, "disconnects", len(list))
		}
		if !waitFor(ctx, wait) {
			return
		}
	}
}

// fetchDisconnects reads them all or fails.
func (f *Feed) fetchDisconnects(ctx context.Context, list []wanted) error {
	xids, tokens := make([]string, len(list)), make([]string, len(list))
	for i, w := range list {
		xids[i], tokens[i] = strconv.FormatUint(uint64(w.xid), 10), w.token.String()
	}
	type user struct {
		Place           int
		Subject, Reason string
	}
	found, err := postgres.Ask(ctx, f.options.Pool, f.options.fetchLimits, pgx.RowToStructByPos[user], sql.Disconnects, xids, tokens)
	if err != nil {
		return err
	}
	for _, u := range found {
		f.seen.add(list[u.Place-1])
		f.options.Sink.Disconnect(Disconnect{u.Subject, u.Reason})
	}
	f.options.Metrics.FeedIgnored.WithLabelValues("unknown_disconnect").Add(float64(len(list) - len(found))) // forged
	return nil
}

// missedDisconnects tells a page of those that were missed, and returns the last one looked at; after an error the one before
// the page, of which nothing was told.
func (f *Feed) missedDisconnects(ctx context.Context, b *backlog, p part, after wanted) (last wanted, more bool, err error) {
	last = after
	var list []wanted
	var told []Disconnect
	err = f.page(ctx, b, p, sql.MissedDisconnects, []any{strconv.FormatUint(uint64(after.xid), 10), after.token.String(), pageSize}, func(rows pgx.Rows) error {
		var d Disconnect
		var xid, text string
		var missed bool
		_, err := pgx.ForEachRow(rows, []any{&xid, &text, &missed, &d.Subject, &d.Reason}, func() (err error) {
			last.seq = noPlace
			if last.xid, err = snapshot.ParseXID(xid); err != nil {
				return err
			}
			if last.token, err = parseToken(text); err == nil && missed && !f.seen.has(last) {
				list, told = append(list, last), append(told, d)
			}
			return err
		})
		return err
	})
	if err != nil {
		return after, true, err
	}
	for i, d := range told {
		f.seen.add(list[i])
		f.options.Sink.Disconnect(d)
	}
	f.options.Metrics.FeedCaughtUp.WithLabelValues(hintDisconnect.String()).Add(float64(len(told)))
	return last, last != after, nil
}
