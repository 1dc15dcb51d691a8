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
)

// maxLogged bounds the lines about one change.
const maxLogged = 50

// dependency is one row of realtime.watched.
type dependency struct{ Object, Kind, NoticedBy, Opaque, Mend string }

func (d dependency) noticed() bool { return d.NoticedBy == "trigger" || d.NoticedBy == "digest" }

// survey is what a discovery finds.
type survey struct {
	found
	seen         snapshot.Snapshot // taken when the digest had been read
	dependencies []dependency
	candidates   []candidate
}

// digests are what the poll looks at: of all that policies depend on, and of what is published.
type digests struct{ Rights, Published string }

func readDigests(ctx context.Context, pool *postgres.Pool, publication string) (digests, error) {
	read, err := postgres.Ask(ctx, pool, digestLimits, pgx.RowToStructByPos[digests], sql.Digests, publication)
	if err != nil {
		return digests{}, fmt.Errorf("ask for the digest: %w", err)
	}
	return read[0], nil
}

// find finds out and installs until there is nothing left that may be installed. What was installed changes the digest, so
// the last look comes after all of it.
func (w *Watcher) find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	work := newInstallation()
	for first, again := w.digest() == "", true; again; first = false {
		s, err := w.survey(ctx, first)
		if err == nil {
			again, err = w.improve(ctx, work, s)
		}
		if err != nil {
			w.options.Metrics.Discoveries.WithLabelValues("error").Inc()
			return err
		}
		if !again {
			w.options.Metrics.Discoveries.WithLabelValues("ok").Inc()
			w.keep(s)
		}
	}
	return nil
}

// survey is one discovery, and what came of it, in one transaction.
func (w *Watcher) survey(ctx context.Context, force bool) (s survey, err error) {
	var xid string
	err = postgres.ShortFresh(ctx, w.options.Pool, discoverLimits, func(b *pgx.Batch) {
		b.Queue(sql.Discover, force)
		b.Queue(sql.Watched)
		b.Queue(sql.ToWatch)
		b.Queue(sql.Snapshot)
	}, func(results pgx.BatchResults) error {
		if err := results.QueryRow().Scan(&s.Digest, &xid); err != nil {
			return err
		}
		rows, _ := results.Query() // the error is that of the rows
		if s.dependencies, err = pgx.CollectRows(rows, pgx.RowToStructByPos[dependency]); err != nil {
			return err
		}
		rows, _ = results.Query()
		if s.candidates, err = pgx.CollectRows(rows, pgx.RowToStructByPos[candidate]); err != nil {
			return err
		}
		var seen string
		if err := results.QueryRow().Scan(&seen); err != nil {
			return err
		}
		s.seen, err = snapshot.Parse(seen)
		return err
	})
	if err != nil {
		return s, fmt.Errorf("find out what policies depend on: %w", err)
	}
	s.xid, err = snapshot.ParseXID(xid)
	return s, err
}

// keep makes a discovery the one that counts. Rights may have changed with what it found, unless it is what was known: no
// verdict counts by it before everybody is to be asked again, so whoever is admitted later has that behind him.
func (w *Watcher) keep(s survey) {
	unseen := slices.ContainsFunc(s.dependencies, func(d dependency) bool { return !d.noticed() })
	hidden := slices.ContainsFunc(s.dependencies, func(d dependency) bool { return d.Kind == "function" && d.Opaque != "" })
	w.mu.Lock()
	if w.state.Digest != s.Digest {
		w.options.Metrics.DigestChanges.Inc()
		w.options.Changed(s.seen)
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
