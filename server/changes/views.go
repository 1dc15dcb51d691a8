package changes

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/snapshot"
	"rowcast/server/wal"
	"rowcast/sql"
)

const (
	// maxViews are kept at most. Two are needed as a rule: what a row looks like since it was changed, and before.
	maxViews = 4
	// idleViews are connections that are kept for the next view, while there is a stream.
	idleViews = 2
	// renewAfter is how much WAL may be written until the views are renewed: they keep Postgres from removing dead rows.
	renewAfter = 1 << 20
)

// views are the transactions in which changes are judged, the oldest first. An INSERT or UPDATE is judged in one that sees
// it; a DELETE in one that does not see it yet, the newest: there the row still is.
//
// The rule by which an old one is given up: nothing that is still to be judged may be seen by the next. What the next sees had
// been committed before its place in the WAL, so it is when all before this place has been judged. So a row that was shown in
// the eyes of a view is there in that view when its DELETE is judged.
type views struct {
	loop *loop
	open []*epoch
	idle []*view       // connections without a transaction
	next atomic.Uint64 // the place in the WAL from which on they are to be renewed; for the stream's goroutine
}

// epoch is a view, and what is known of it.
type epoch struct {
	*view
	snapshot snapshot.Snapshot
	opened   time.Time
	at       wal.LSN // all that it sees was committed before
	holds    int     // who needs it, beside the changes to come
	whole    bool    // as of it, the publication tells of every new version of a row
	since    since
}

func (v *views) init(l *loop) {
	v.loop = l
	v.next.Store(^uint64(0))
}

func (v *views) renewAt() wal.LSN { return wal.LSN(v.next.Load()) }

// newest is the last that was opened; nil: there is none.
func (v *views) newest() *epoch {
	if len(v.open) == 0 {
		return nil
	}
	return v.open[len(v.open)-1]
}

// before is the newest that does not see a transaction; nil: there is none.
func (v *views) before(x snapshot.XID) *epoch {
	for i := len(v.open) - 1; i >= 0; i-- {
		if !v.open[i].snapshot.Sees(x) {
			return v.open[i]
		}
	}
	return nil
}

// add opens a view.
func (v *views) add(ctx context.Context) (*epoch, error) {
	if len(v.open) == maxViews { // what it alone could decide is declared a gap
		v.drop(v.open[0])
	}
	connection, err := v.connection(ctx)
	if err != nil {
		return nil, err
	}
	e := &epoch{view: connection, opened: time.Now(), since: since{}}
	if e.snapshot, err = e.begin(ctx); err == nil {
		err = e.position(ctx, v.loop.Publication)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	v.loop.asked("begin")
	v.open = append(v.open, e)
	v.next.Store(uint64(e.at) + renewAfter)
	return e, nil
}

// connection takes one that is idle, or makes one.
func (v *views) connection(ctx context.Context) (*view, error) {
	for len(v.idle) > 0 {
		last := v.idle[len(v.idle)-1]
		v.idle = v.idle[:len(v.idle)-1]
		if !last.closed() {
			return last, nil
		}
	}
	return openView(ctx, v.loop.URL, v.loop.BypassRoles)
}

// position finds out how far the WAL has been written by now.
func (e *epoch) position(ctx context.Context, publication string) error {
	err := e.read(ctx, sql.ChangesPosition, []any{publication}, func(rows pgx.Rows) error {
		var bytes int64
		err := rows.Scan(&bytes, &e.whole)
		e.at = wal.LSN(bytes)
		return err
	})
	if err != nil {
		return fmt.Errorf("ask how far the WAL has been written: %w", err)
	}
	return nil
}

// settle gives up those that nothing needs any more that is still to be judged: all before this place has been.
func (v *views) settle(judged wal.LSN, keep bool) {
	for len(v.open) > 0 && v.open[0].holds == 0 && (!keep || len(v.open) > 1 && v.open[1].at <= judged) {
		v.drop(v.open[0])
	}
}

// drop gives one up.
func (v *views) drop(e *epoch) {
	for i, o := range v.open {
		if o == e {
			v.open = append(v.open[:i:i], v.open[i+1:]...)
			break
		}
	}
	if len(v.open) == 0 {
		v.next.Store(^uint64(0))
	}
	if !e.closed() && len(v.idle) < idleViews && e.end(v.loop.ctx) == nil {
		v.idle = append(v.idle, e.view)
		return
	}
	e.close()
}

// dropClosed gives up those whose connections are lost; false: there was none.
func (v *views) dropClosed() (found bool) {
	for _, e := range slices.Clone(v.open) {
		if e.closed() {
			v.drop(e)
			found = true
		}
	}
	return found
}

// closeAll lets go of the database.
func (v *views) closeAll() {
	for len(v.open) > 0 {
		v.drop(v.open[0])
	}
	for _, c := range v.idle {
		c.close()
	}
	v.idle = nil
}

// seesAll tells whether a view sees transactions.
func (e *epoch) seesAll(xids []uint32) bool {
	for _, low := range xids {
		if !e.snapshot.Sees(snapshot.Widen(low, e.snapshot)) {
			return false
		}
	}
	return true
}

// front gives a view that sees these transactions: the newest, or another. false: there is none yet, and it is tried again.
func (l *loop) front(xids []uint32) (*epoch, bool) {
	if e := l.views.newest(); e != nil && e.seesAll(xids) {
		l.tries.seen()
		return e, true
	}
	e, err := l.views.add(l.ctx)
	if err != nil {
		l.retry(l.tries.failed(l, "open a view", err))
		return nil, false
	}
	if !e.seesAll(xids) {
		l.views.drop(e)
		l.retry(l.tries.invisible(l))
		return nil, false
	}
	l.tries.seen()
	return e, true
}

// renewViews has the views follow the WAL.
func (l *loop) renewViews() {
	at, idle := l.inbox.position()
	if newest := l.views.newest(); newest == nil || l.batch != nil || !idle || at < newest.at+renewAfter {
		return // the next batch opens one
	}
	l.renew(at)
}

// renew opens another view, and gives up those that nothing needs any more.
func (l *loop) renew(at wal.LSN) {
	if _, err := l.views.add(l.ctx); err != nil {
		l.Logger.Warn("views not renewed", "err", err)
	}
	l.views.settle(at, l.keepsViews())
}
