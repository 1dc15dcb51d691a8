package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/server/socket"
	"rowcast/sql"
)

const (
	// leaseLife is how long a server that was killed keeps its successor waiting.
	leaseLife = 10 * time.Second
	// leaseRenewEvery leaves a renewal that fails a few more within leaseLife, and bounds how long a server that was frozen
	// serves beside its successor.
	leaseRenewEvery = 2 * time.Second
	// leaseRetryEvery is how long nobody serves after a server has stopped for another to go on.
	leaseRetryEvery = 500 * time.Millisecond
	// releaseAttempts pass over connections of the pool that have died. A database that does not answer gets one, and
	// releaseTimeout: whoever ends us allows 30 s for everything.
	releaseAttempts, releaseTimeout = 3, 3 * time.Second
)

// leaseLimits let several questions fail within leaseLife.
var leaseLimits = postgres.Limits{Statement: time.Second, Lock: time.Second}

// What a handshake is told by a server without the lease.
var (
	refusedWaiting    = &socket.Refusal{Status: 503, Message: "This server waits for its database", Reason: refusedNoLease}
	refusedSecondNode = &socket.Refusal{Status: 503, Message: "Another server serves this database", Reason: refusedOtherNode}
)

// lease is this server's place among the nodes of its database. Rooms live in a server's memory: two servers that both
// served would split them, and nobody would notice. So there is one place, unless the operator allows more; who has it is
// a row of realtime._nodes, and when it is free is for the database's clock alone to say.
//
// A server that loses its place learns so at its next renewal. One that cannot ask keeps it: while the database is away
// nobody else can have taken it, and public channels go on.
type lease struct {
	id      string
	name    string // for people
	beside  bool   // others may have a place too
	life    time.Duration
	pool    *postgres.Pool
	logger  *slog.Logger
	metrics *metrics.Metrics
	serve   func()                                        // the lease was taken
	stop    func(ctx context.Context, why socket.Refusal) // it was lost, or is out of reach for another reason than before

	wrote func(snapshot.XID) // told of its own transactions; nil: nobody cares

	mu     sync.Mutex // guards all below
	held   bool
	others []node // that have a place, as of the last answer
	err    error  // instead of the last answer
}

// node is a server with a place, as the lease_ questions return it.
type node struct {
	ID, Name, Since string
	Mend            string // "" for a row that can be a living server's
	XID             string // of the transaction that said so
}

func (n node) String() string { return n.Name + " since " + n.Since }

var (
	errLeaseNotAsked = errors.New("the database has not been asked for the lease yet")
	errLeaseGone     = errors.New("the row of this server in realtime._nodes was removed; it asks for another")
)

func newLease(beside bool, pool *postgres.Pool, logger *slog.Logger, m *metrics.Metrics) *lease {
	return &lease{id: rand.Text(), beside: beside, life: leaseLife, pool: pool, logger: logger, metrics: m, err: errLeaseNotAsked}
}

// nodeName tells people where a server runs.
func nodeName(listening net.Addr) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	_, port, _ := net.SplitHostPort(listening.String())
	return net.JoinHostPort(host, port)
}

// run takes the lease whenever it is free and keeps it, until ctx ends; then it gives it up.
func (l *lease) run(ctx context.Context) {
	defer l.release()
	last, said := l.refusal(), ""
	for ctx.Err() == nil {
		l.ask(ctx)
		if what, detail := l.news(); detail != said { // the same once, not every second
			said = detail
			if detail != "" {
				l.logger.Warn(what, "detail", detail)
			}
		}
		if now := l.refusal(); now != last {
			last = now
			l.turn(ctx, now)
		}
		select {
		case <-ctx.Done():
		case <-time.After(l.pause()):
		}
	}
}

// ask renews the lease or tries to take it. A question on its way is not called back: it could take the lease after
// release has given it up.
func (l *lease) ask(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	var nodes []node
	var err error
	if l.holds() {
		nodes, err = postgres.Ask(ctx, l.pool, leaseLimits, pgx.RowToStructByPos[node], sql.LeaseRenew, l.id, l.life.Milliseconds())
	} else {
		nodes, err = l.acquire(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err = err; err != nil {
		return
	}
	l.held, l.others = false, nil
	for _, n := range nodes {
		if x, err := snapshot.ParseXID(n.XID); err == nil && l.wrote != nil {
			l.wrote(x)
		}
		if n.ID == l.id {
			l.held = true
		} else {
			l.others = append(l.others, n)
		}
	}
}

// acquire tries to take the lease, one server at a time.
func (l *lease) acquire(ctx context.Context) (nodes []node, err error) {
	err = postgres.ShortFresh(ctx, l.pool, leaseLimits, func(b *pgx.Batch) {
		b.Queue(sql.LeaseLock)
		b.Queue(sql.LeaseAcquire, l.id, l.name, l.life.Milliseconds(), l.beside)
	}, func(results pgx.BatchResults) error {
		if _, err := results.Exec(); err != nil {
			return err
		}
		rows, err := results.Query()
		if err != nil {
			return err
		}
		nodes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[node])
		return err
	})
	return nodes, err
}

// turn begins to serve, or ends it.
func (l *lease) turn(ctx context.Context, why *socket.Refusal) {
	if why == nil {
		l.logger.Info("the lease is taken", "name", l.name)
		l.metrics.LeaseHeld.Set(1)
		l.serve()
		return
	}
	l.metrics.LeaseHeld.Set(0)
	l.stop(ctx, *why)
}

// release gives the lease up, so that another server need not wait until it expires.
func (l *lease) release() {
	l.mu.Lock()
	lost := l.err != nil && !errors.Is(l.err, errLeaseNotAsked) && postgres.SQLState(l.err) == "" // that answer may have been a yes
	mayHold := l.held || lost
	l.held = false
	l.mu.Unlock()
	l.metrics.LeaseHeld.Set(0)
	if !mayHold {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	var err error
	for range releaseAttempts {
		if _, err = postgres.Ask(ctx, l.pool, leaseLimits, pgx.RowTo[string], sql.LeaseRelease, l.id); err == nil {
			return
		}
	}
	l.logger.Warn("the lease is not given up; it expires by itself", "after", l.life, "err", err)
}

func (l *lease) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// refusal is what clients are told; nil while this server serves.
func (l *lease) refusal() *socket.Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.held:
		return nil
	case len(l.others) > 0:
		return refusedSecondNode
	}
	return refusedWaiting
}

// pause is how long to wait before the next question.
func (l *lease) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held && l.err == nil {
		return min(leaseRenewEvery, l.life/4)
	}
	return leaseRetryEvery
}

// ready answers for /readyz: this server has the lease.
func (l *lease) ready(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.readyLocked()
}

func (l *lease) readyLocked() error {
	switch {
	case errors.Is(l.err, errLeaseNotAsked):
		return l.err
	case l.err != nil:
		return fmt.Errorf("ask for the lease: %w", l.err)
	case l.held:
		return nil
	case len(l.others) == 0:
		return errLeaseGone
	}
	names, mends := describe(l.others)
	return fmt.Errorf("one server at a time serves this database, and it is %s: stop that one and this one takes over, or set ALLOW_SECOND_NODE=true"+
		" to serve beside it, where clients of one do not hear clients of the other%s", names, mends)
}

// news is what the log should say, and "" when there is nothing to say.
func (l *lease) news() (what, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.readyLocked()
	switch {
	case err != nil && l.held:
		return "the lease is not renewed", err.Error()
	case err != nil:
		return "not serving", err.Error()
	case len(l.others) > 0:
		names, mends := describe(l.others)
		return "another server serves this database too: clients of one do not hear clients of the other", names + mends
	}
	return "", ""
}

// describe names nodes, and what to do about those that cannot be what their row says.
func describe(nodes []node) (names, mends string) {
	var all []string
	for _, n := range nodes {
		all = append(all, n.String())
		if n.Mend != "" {
			mends += fmt.Sprintf("; no server writes an expires_at so late as that of %s: if it does not run, %s", n.Name, n.Mend)
		}
	}
	return strings.Join(all, " and "), mends
}
