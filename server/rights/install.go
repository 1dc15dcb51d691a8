package rights

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/rights/aim"
	"rowcast/sql"
)

// installLimits: while we wait for a lock on a table, others wait behind us; and whoever holds it may come to wait for
// us. Postgres looks for deadlocks after a second and may then end their transaction, so by then we have given up.
var installLimits = postgres.Limits{Statement: 800 * time.Millisecond, Lock: 700 * time.Millisecond}

const (
	// firstRetry and maxRetry are how long to wait before a table is tried again that could not be watched.
	firstRetry, maxRetry = 5 * time.Second, 5 * time.Minute
	// installTime is how long tables may be waited for in one discovery: joins wait for it.
	installTime = 2 * time.Second
	// maxTried is how often one table may be watched anew in one discovery: policies may change meanwhile, but not for ever.
	maxTried = 3
	// noTable stands among those that failed for the question whom changes concern.
	noTable = 0
)

// table is one of the database's.
type table struct {
	OID  uint32
	Name string
}

// candidate is a table that nobody watches, or that this server watches by itself, and how.
type candidate struct {
	table
	Schema, Relation string
	Own              bool
	Current          bool // what the database has noted of its own watch is true
	watch
}

// watch is how a table is watched, or is to be.
type watch struct {
	Subject, Topic string
	Columns        []string // nil: all
	Reason         string   // why there is neither subject nor topic
}

func (a watch) equal(b watch) bool {
	return a.Subject == b.Subject && a.Topic == b.Topic && a.Reason == b.Reason && slices.Equal(a.Columns, b.Columns)
}

// attempt is what is remembered of a table that could not be watched.
type attempt struct {
	next time.Time
	wait time.Duration
}

// covers tells whether everybody whom a change concerns by b is also meant by a.
func (a watch) covers(b watch) bool {
	within := func(a, b string) bool { return a == "" || a == b }
	extra := func(c string) bool { return !slices.Contains(a.Columns, c) }
	return within(a.Subject, b.Subject) && within(a.Topic, b.Topic) && (a.Columns == nil || b.Columns != nil && !slices.ContainsFunc(b.Columns, extra))
}

// installation is the part of a discovery that changes how tables are watched.
type installation struct {
	patience time.Time      // when no other table is to be waited for
	tried    map[uint32]int // how often, by oid
}

func newInstallation() installation {
	return installation{time.Now().Add(installTime), map[uint32]int{}}
}

// improve has tables watched as is proposed for the policies of a survey. It tells whether there has to be another survey:
// after whatever was changed, and where the proposals are of other policies than the survey.
func (w *Watcher) improve(ctx context.Context, work installation, s survey) (again bool, err error) {
	if len(s.candidates) == 0 {
		return false, nil
	}
	proposals, digest, err := w.propose(ctx)
	switch {
	case err != nil: // then whatever the server watches concerns everybody, which is always right
		w.fail(noTable)
		if why := err.Error(); w.unaimed != why {
			w.unaimed = why
			w.options.Logger.Warn("not found out whom changes of tables concern", "err", err)
		}
	case digest != s.Digest:
		return true, ctx.Err()
	default:
		w.unaimed = ""
		delete(w.failed, noTable)
	}
	for _, c := range s.candidates {
		due := proposed(proposals[aim.Name{Schema: c.Schema, Name: c.Relation}])
		if c.Own && c.Current && c.equal(due) {
			continue
		}
		installed := false
		if w.options.Install {
			if installed, err = w.install(ctx, work, c.table, due); err != nil {
				return false, err
			}
		}
		if installed {
			again = true
		} else if c.Own && c.Current && !c.covers(due) {
			if err := w.do(ctx, sql.Outgrown, c.OID); err != nil {
				return false, fmt.Errorf("say that the watch of %s does not count: %w", c.Name, err)
			}
			again = true
		}
	}
	return again, nil
}

// propose finds out whom changes of the tables concern, and then the digest: if it is that of a survey before, the
// proposals are of the policies that the survey is about. A transaction of its own, so that nothing else fails with it.
func (w *Watcher) propose(ctx context.Context) (proposals map[aim.Name]aim.Proposal, digest string, err error) {
	var answer []byte
	err = postgres.ShortFresh(ctx, w.options.Pool, discoverLimits, func(b *pgx.Batch) {
		b.Queue(sql.Aim)
		b.Queue(sql.Digest)
	}, func(results pgx.BatchResults) error {
		if err := results.QueryRow().Scan(&answer); err != nil {
			return err
		}
		return results.QueryRow().Scan(&digest)
	})
	if err != nil {
		return nil, "", fmt.Errorf("ask whom changes concern: %w", err)
	}
	facts, err := aim.Read(answer)
	if err != nil {
		return nil, "", err
	}
	return aim.Propose(facts), digest, nil
}

func proposed(p aim.Proposal) watch {
	due := watch{p.Subject, p.Topic, p.Columns, p.Reason}
	if len(due.Columns) == 0 {
		due.Columns = nil
	}
	return due
}

// install watches a table, in a transaction of its own: nobody's table is locked while another's lock is waited for. It
// tells whether that was done. An error is trouble of the database's, and says nothing about the table: no verdict counts by
// what is found meanwhile.
func (w *Watcher) install(ctx context.Context, work installation, t table, due watch) (installed bool, err error) {
	last := w.failed[t.OID]
	if time.Now().Before(last.next) {
		return false, nil
	}
	if time.Now().After(work.patience) {
		w.failed[t.OID] = attempt{time.Now(), last.wait}
		return false, nil
	}
	if work.tried[t.OID]++; work.tried[t.OID] > maxTried {
		w.fail(t.OID)
		return false, nil
	}
	made, err := postgres.Ask(ctx, w.options.Pool, installLimits, pgx.RowTo[bool], sql.WatchFound, t.OID, due.Subject, due.Topic, due.Columns, due.Reason)
	if isTrouble(err) {
		return false, fmt.Errorf("watch table %s: %w", t.Name, err)
	}
	if err != nil {
		w.options.Logger.Warn("table not watched yet", "table", t.Name, "again_in", w.fail(t.OID), "err", err)
		return false, nil
	}
	delete(w.failed, t.OID)
	switch {
	case !made[0]:
		w.options.Logger.Info("table watched", "table", t.Name, "by", "its owner")
	case due.Subject != "" || due.Topic != "":
		w.options.Logger.Info("table watched", "table", t.Name, "subject", due.Subject, "topic", due.Topic)
	default:
		w.options.Logger.Info("table watched", "table", t.Name, "reason", due.Reason)
	}
	return true, nil
}

// isTrouble tells a lost connection, or a database that can do nothing, from a table that cannot be watched.
func isTrouble(err error) bool {
	state := postgres.SQLState(err)
	return err != nil && (state == "" || slices.ContainsFunc([]string{"08", "53", "57P", "58"}, func(class string) bool { return strings.HasPrefix(state, class) }))
}

// fail has it tried again later, and later each time.
func (w *Watcher) fail(oid uint32) (wait time.Duration) {
	wait = min(max(2*w.failed[oid].wait, firstRetry), maxRetry)
	w.failed[oid] = attempt{time.Now().Add(wait), wait}
	return wait
}

func (w *Watcher) do(ctx context.Context, statement string, args ...any) error {
	return postgres.ShortFresh(ctx, w.options.Pool, installLimits, func(b *pgx.Batch) { b.Queue(statement, args...) },
		func(results pgx.BatchResults) error {
			_, err := results.Exec()
			return err
		})
}

// nextAttempt is when a table that could not be watched is to be tried again.
func (w *Watcher) nextAttempt() (wait time.Duration, ok bool) {
	for _, a := range w.failed {
		if left := time.Until(a.next); !ok || left < wait {
			wait, ok = left, true
		}
	}
	return wait, ok
}

// putOff waits longer for all of them: the database could not be asked.
func (w *Watcher) putOff() {
	for oid, a := range w.failed {
		w.failed[oid] = attempt{time.Now().Add(max(a.wait, firstRetry)), a.wait}
	}
}

// tidy ends watching what it began to watch and no right depends on any more.
func (w *Watcher) tidy(ctx context.Context) {
	if !w.options.Install || !w.options.Active() {
		return
	}
	tables, err := postgres.Ask(ctx, w.options.Pool, discoverLimits, pgx.RowToStructByPos[table], sql.ToUnwatch)
	for _, t := range tables {
		if err := w.do(ctx, sql.UnwatchFound, t.OID); err == nil {
			w.options.Logger.Info("table not watched any more: no right depends on it", "table", t.Name)
		} else if !w.left[t.OID] {
			w.left[t.OID] = true
			w.options.Logger.Warn("table still watched, and no right depends on it", "table", t.Name,
				"mend", fmt.Sprintf("select realtime.unwatch('%s');", t.Name), "err", err)
		}
	}
	if err != nil {
		w.options.Logger.Debug("not looked for tables that need not be watched", "err", err)
	}
}
