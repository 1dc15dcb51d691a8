package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/server/metrics"
	"rowcast/sql"
)

const (
	// connectTimeout bounds one attempt to connect to one host; pgx has none of its own.
	connectTimeout = 5 * time.Second
	// pingTimeout is how long a connection that has been idle may take to prove that it lives before another is tried.
	pingTimeout = 2 * time.Second
	// maxIdle gives connections back to a quiet database.
	maxIdle = 5 * time.Minute
	// minConns and maxLifetime keep us alive when others have taken all connections of the database: what is given up then
	// cannot be had again.
	minConns, maxLifetime = 2, 24 * time.Hour
	// closeTimeout leaves an orchestrator's 30 s to the clients.
	closeTimeout = 5 * time.Second
	// freeWait is between attempts to get one of our own connections while no new one can be made.
	freeWait = 50 * time.Millisecond
)

// Pool is connections to the database. It can be asked through the functions of this package alone, so that nothing waits
// without a bound.
type Pool struct{ conns *pgxpool.Pool }

// Open opens the pool on url. It does not wait for the database: what needs it says so itself.
func Open(ctx context.Context, url string, maxConns int32) (*Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	prepare(config.ConnConfig, url, "rowcast")
	config.MaxConns, config.MinConns = maxConns, min(minConns, maxConns)
	config.MaxConnIdleTime, config.MaxConnLifetime, config.PingTimeout = maxIdle, maxLifetime, pingTimeout
	conns, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the pool: %w", err)
	}
	return &Pool{conns}, nil
}

// Close waits for what is under way, which is bounded, and closes all connections. It does not wait for a database that
// does not take its leave.
func (p *Pool) Close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.conns.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

// Stats is for the metrics.
func (p *Pool) Stats() metrics.PoolStats {
	s := p.conns.Stat()
	return metrics.PoolStats{
		Busy: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Max: int(s.MaxConns()),
		Waits: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime(),
	}
}

// prepare sets what the URL leaves open. The name is how a DBA finds the connection in pg_stat_activity.
func prepare(config *pgx.ConnConfig, url, name string) {
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = name
	}
	if !strings.Contains(url, "default_query_exec_mode") {
		// No statements prepared by name: behind PgBouncer in transaction mode they meet on foreign connections.
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	config.DialFunc = dialer().DialContext
}

// acquire gives a connection. When no new one can be made, as when others have taken all, those there are have to do.
func (p *Pool) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	for {
		conn, err := p.conns.Acquire(ctx)
		if err == nil {
			return conn, nil
		}
		stat := p.conns.Stat()
		if ctx.Err() != nil && stat.AcquiredConns() == stat.MaxConns() {
			return nil, fmt.Errorf("wait for a connection: all %d of the pool are busy: %w", stat.MaxConns(), err)
		}
		if ctx.Err() != nil || stat.TotalConns() == 0 {
			return nil, fmt.Errorf("get a connection: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("get a connection: %w", err)
		case <-time.After(freeWait):
		}
	}
}

// Limits bound one short transaction.
type Limits struct {
	Statement time.Duration // Postgres cancels a statement after this
	Lock      time.Duration // and one that waits for a lock after this
}

// Short runs a transaction of one round trip: begin, limits, what fill queues, and commit (or rollback, where nothing is
// to stay). read is called for the results in the order of the queue. The context is the backstop for a server that
// does not answer at all.
//
// All statements share one snapshot: under read committed a decision would be younger than the snapshot it reports, and
// a message sent just before a grant would pass for one sent after it.
func Short(ctx context.Context, pool *Pool, l Limits, commit bool, fill func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	return ShortThen(ctx, pool, l, commit, fill, read, nil)
}

// Then is a statement that follows the end of a transaction in the same round trip: it sees all that was committed by then.
type Then struct {
	Query string
	Read  func(pgx.Row) error
}

// ShortThen is Short and what follows it, which no limits of the database's bind; nil: nothing does.
func ShortThen(ctx context.Context, pool *Pool, l Limits, commit bool, fill func(*pgx.Batch), read func(pgx.BatchResults) error, then *Then) error {
	end := "rollback"
	if commit {
		end = "commit"
	}
	return pool.short(ctx, l, transaction{"begin isolation level repeatable read", fill, read, end, then})
}

// ShortFresh is Short with commit, but each statement sees what was committed before it: after a lock, what the lock
// waited for.
func ShortFresh(ctx context.Context, pool *Pool, l Limits, fill func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	return pool.short(ctx, l, transaction{"begin isolation level read committed", fill, read, "commit", nil})
}

// Ask is ShortFresh for one statement, and gives its rows.
func Ask[T any](ctx context.Context, pool *Pool, l Limits, to pgx.RowToFunc[T], query string, args ...any) (list []T, err error) {
	err = ShortFresh(ctx, pool, l, func(b *pgx.Batch) { b.Queue(query, args...) }, func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, to)
		return err
	})
	return list, err
}

// transaction is what goes to the database in one round trip.
type transaction struct {
	begin string
	fill  func(*pgx.Batch)
	read  func(pgx.BatchResults) error
	end   string
	then  *Then
}

func (p *Pool) short(ctx context.Context, l Limits, t transaction) error {
	ctx, cancel := context.WithTimeout(ctx, l.Statement+l.Lock+time.Second)
	defer cancel()
	conn, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var batch pgx.Batch
	batch.Queue(t.begin)
	batch.Queue(sql.Limits, milliseconds(l.Statement), milliseconds(l.Lock))
	t.fill(&batch)
	batch.Queue(t.end)
	if t.then != nil {
		batch.Queue(t.then.Query)
	}
	results := conn.SendBatch(ctx, &batch)
	err = func() error {
		for range 2 {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		if err := t.read(results); err != nil {
			return err
		}
		if _, err := results.Exec(); err != nil || t.then == nil {
			return err
		}
		return t.then.Read(results.QueryRow())
	}()
	if closed := results.Close(); err == nil {
		err = closed
	}
	if err != nil && !conn.Conn().IsClosed() {
		// A connection in a failed transaction would be thrown away, and it may be the last that the database gives us.
		_, rolledBack := conn.Exec(ctx, "rollback")
		err = errors.Join(err, rolledBack)
	}
	return err
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
