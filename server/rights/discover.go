package rights

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

var (
	digestLimits   = postgres.Limits{Statement: time.Second, Lock: 500 * time.Millisecond}
	discoverLimits = postgres.Limits{Statement: 2 * time.Second, Lock: time.Second}
	// installLimits: while we wait for a lock on a table, others wait behind us; and whoever holds it may come to wait for
	// us. Postgres looks for deadlocks after a second and may then end their transaction, so by then we have given up.
	installLimits = postgres.Limits{Statement: 800 * time.Millisecond, Lock: 700 * time.Millisecond}
)

const (
	// firstRetry and maxRetry are how long to wait before a table is tried again that could not be watched.
	firstRetry, maxRetry = 5 * time.Second, 5 * time.Minute
	// installTime is how long tables may be waited for in one discovery: joins wait for it.
	installTime = 2 * time.Second
	// maxLogged bounds the lines about one change.
	maxLogged = 50
)

// dependency is one row of realtime.watched.
type dependency struct{ Object, Kind, NoticedBy, Opaque, Mend string }

func (d dependency) noticed() bool { return d.NoticedBy == "trigger" || d.NoticedBy == "digest" }

// table is one to be watched.
type table struct {
	OID  uint32
	Name string
}

// attempt is what is remembered of a table that could not be watched.
type attempt struct {
	next time.Time
	wait time.Duration
}

// survey is what a discovery finds.
type survey struct {
	found
	dependencies []dependency
	toWatch      []table
}

func readDigest(ctx context.Context, pool *postgres.Pool) (string, error) {
	digests, err := postgres.Ask(ctx, pool, digestLimits, pgx.RowTo[string], sql.Digest)
	if err != nil {
		return "", fmt.Errorf("ask for the digest: %w", err)
	}
	return digests[0], nil
}

// find finds out and installs until there is nothing left that may be installed. What was installed changes the digest, so
// the last look comes after all of it.
func (w *Watcher) find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	first := w.digest() == ""
	s, err := w.survey(ctx, first)
	patience := time.Now().Add(installTime)
	for err == nil && w.options.Install && w.install(ctx, s.toWatch, patience) {
		s, err = w.survey(ctx, false)
	}
	if err != nil {
		w.options.Metrics.Discoveries.WithLabelValues("error").Inc()
		return err
	}
	w.options.Metrics.Discoveries.WithLabelValues("ok").Inc()
	w.keep(s)
	return nil
}

// survey is one discovery, and what came of it, in one transaction.
func (w *Watcher) survey(ctx context.Context, force bool) (s survey, err error) {
	err = postgres.ShortFresh(ctx, w.options.Pool, discoverLimits, func(b *pgx.Batch) {
		b.Queue(sql.Discover, force)
		b.Queue(sql.Watched)
		b.Queue(sql.ToWatch)
	}, func(results pgx.BatchResults) error {
		if err := results.QueryRow().Scan(&s.Digest, &s.XID); err != nil {
			return err
		}
		rows, _ := results.Query() // the error is that of the rows
		if s.dependencies, err = pgx.CollectRows(rows, pgx.RowToStructByPos[dependency]); err != nil {
			return err
		}
		rows, _ = results.Query()
		s.toWatch, err = pgx.CollectRows(rows, pgx.RowToStructByPos[table])
		return err
	})
	if err != nil {
		return s, fmt.Errorf("find out what policies depend on: %w", err)
	}
	s.xid, err = snapshot.ParseXID(s.XID)
	return s, err
}

// install watches tables, each in a transaction of its own: nobody's table is locked while another's lock is waited for.
// It tells whether something was installed.
func (w *Watcher) install(ctx context.Context, tables []table, patience time.Time) (installed bool) {
	for _, t := range tables {
		last := w.failed[t.OID]
		if time.Now().Before(last.next) {
			continue
		}
		if time.Now().After(patience) {
			w.failed[t.OID] = attempt{time.Now(), last.wait}
			continue
		}
		if err := w.do(ctx, sql.WatchFound, t); err != nil {
			wait := min(max(2*last.wait, firstRetry), maxRetry)
			w.failed[t.OID] = attempt{time.Now().Add(wait), wait}
			w.options.Logger.Warn("table not watched yet", "table", t.Name, "again_in", wait, "err", err)
			continue
		}
		delete(w.failed, t.OID)
		installed = true
		w.options.Logger.Info("table watched", "table", t.Name)
	}
	return installed
}

func (w *Watcher) do(ctx context.Context, statement string, t table) error {
	return postgres.ShortFresh(ctx, w.options.Pool, installLimits, func(b *pgx.Batch) { b.Queue(statement, t.OID) },
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
		if err := w.do(ctx, sql.UnwatchFound, t); err == nil {
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

// keep makes a discovery the one that counts. Rights may have changed with what it found, unless it is what was known: no
// verdict counts by it before everybody is to be asked again, so whoever is admitted later has that behind him.
func (w *Watcher) keep(s survey) {
	unseen := slices.ContainsFunc(s.dependencies, func(d dependency) bool { return !d.noticed() })
	hidden := slices.ContainsFunc(s.dependencies, func(d dependency) bool { return d.Kind == "function" && d.Opaque != "" })
	w.mu.Lock()
	if w.state.Digest != s.Digest {
		w.options.Metrics.DigestChanges.Inc()
		w.options.Changed()
	}
	w.state, w.unseen, w.hidden = s.found, unseen, hidden
	clear(w.seen)
	w.mu.Unlock()
	w.report(s.dependencies)
}

// report logs what is new, each thing once, and counts.
func (w *Watcher) report(dependencies []dependency) {
	counts := map[string]int{"trigger": 0, "digest": 0, "timer": 0, "nothing": 0}
	opaque, logged := 0, 0
	known := make(map[string]dependency, len(dependencies))
	for _, d := range dependencies {
		counts[d.NoticedBy]++
		if d.Opaque != "" {
			opaque++
		}
		key := d.Kind + " " + d.Object
		known[key] = d
		if before, old := w.known[key]; old && before == d || d.noticed() && !old {
			continue
		}
		if logged++; logged > maxLogged {
			continue
		}
		switch {
		case d.noticed():
			w.options.Logger.Info("changes are noticed now", "object", d.Object, "by", d.NoticedBy)
		case d.Opaque != "":
			w.options.Logger.Warn("rights depend on what cannot be watched", "object", d.Object, "kind", d.Kind, "because_of", d.Opaque, "noticed_by", d.NoticedBy)
		default:
			w.options.Logger.Warn("rights depend on a table that is not watched", "table", d.Object, "noticed_by", d.NoticedBy, "mend", d.Mend)
		}
	}
	if logged > maxLogged {
		w.options.Logger.Warn("and more", "lines", logged-maxLogged, "see", "realtime.watched")
	}
	w.known = known
	for by, n := range counts {
		w.options.Metrics.Dependencies.WithLabelValues(by).Set(float64(n))
	}
	w.options.Metrics.Opaque.Set(float64(opaque))
}
