package feed

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"

	"rowcast/server/snapshot"
	"rowcast/sql"
)

// Stragglers are transactions that may have said messages by the WAL, and were running when that was given up. When they have
// ended, these are found in the journal. That is late: marks may have been told that were committed after them.

// straggle notes those that run in the eyes of a snapshot, since which everybody says everything by NOTIFY.
func (f *Feed) straggle(at snapshot.Snapshot, running []snapshot.XID) {
	if f.stragglers == nil {
		f.stragglers = map[snapshot.XID]struct{}{}
	}
	for x := range f.stragglers {
		if at.Sees(x) { // in the backlog
			delete(f.stragglers, x)
		}
	}
	for _, x := range running {
		f.stragglers[x] = struct{}{}
	}
}

// overtaken is what a mark may overtake: what has been committed by now, and every straggler.
// false: the connection was lost, so that the mark is caught up.
func (f *Feed) overtaken(ctx context.Context) (seen snapshot.Snapshot, ok bool) {
	ok = f.insist(ctx, f.place.losses, func() (err error) {
		seen, err = f.lookNow(ctx)
		return err
	})
	return seen.Without(func(x snapshot.XID) bool { _, straggles := f.stragglers[x]; return straggles }), ok
}

// withoutStragglers leaves out what is told with the rest of its transaction.
func (f *Feed) withoutStragglers(heard []wanted) (list []wanted, some bool) {
	if len(f.stragglers) == 0 {
		return heard, false
	}
	for _, w := range heard {
		if _, straggles := f.stragglers[w.xid]; !straggles {
			list = append(list, w)
		}
	}
	return list, len(list) < len(heard)
}

// tellStragglers tells what those sent that have ended, and forgets them. false: that cannot be found out.
func (f *Feed) tellStragglers(ctx context.Context) bool {
	if len(f.stragglers) == 0 {
		return true
	}
	var seen snapshot.Snapshot
	if !f.insist(ctx, f.place.losses, func() (err error) {
		seen, err = f.lookNow(ctx)
		return err
	}) {
		return false
	}
	var ended []string
	for x := range f.stragglers {
		if seen.Sees(x) {
			ended = append(ended, strconv.FormatUint(uint64(x), 10))
		}
	}
	if len(ended) == 0 {
		return true
	}
	if !f.tellAllOf(ctx, ended) {
		return false
	}
	for x := range f.stragglers {
		if seen.Sees(x) {
			delete(f.stragglers, x)
		}
	}
	return true
}

// tellAllOf tells every message of some transactions that was not told, in the order of sending. Most sent none.
func (f *Feed) tellAllOf(ctx context.Context, xids []string) bool {
	late := f.backlog != nil
	defer func() {
		if late && f.backlog == nil {
			f.options.Sink.CaughtUp()
		}
	}()
	for after, more := int64(0), true; more; {
		var page []wanted
		if !f.insist(ctx, f.place.losses, func() error {
			page = nil
			return f.ask(ctx, f.place.history, f.options.fetchLimits, func(b *pgx.Batch) { b.Queue(sql.StragglerMessages, xids, after, pageSize) },
				func(results pgx.BatchResults) error {
					rows, err := results.Query()
					if err != nil {
						return err
					}
					page, err = pgx.CollectRows(rows, scanWanted)
					return err
				})
		}) {
			return false
		}
		if more = len(page) > 0; more {
			after = page[len(page)-1].seq
			list := f.news(page)
			if len(list) > 0 && !late {
				late = true
				f.options.Sink.CatchingUp()
			}
			f.messages(ctx, list)
			f.options.Metrics.FeedCaughtUp.WithLabelValues(hintMessage.String()).Add(float64(len(list)))
		}
	}
	return true
}

// scanWanted reads an entry of the journal.
func scanWanted(row pgx.CollectableRow) (w wanted, err error) {
	var xid, text string
	if err = row.Scan(&xid, &w.seq, &text); err != nil {
		return w, err
	}
	if w.xid, err = snapshot.ParseXID(xid); err != nil {
		return w, err
	}
	w.token, err = parseToken(text)
	return w, err
}
