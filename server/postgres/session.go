package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/sql"
)

// sessionSettings are, with textForm, those of a Session. It is idle by nature, between the questions of a transaction too.
var sessionSettings = map[string]string{
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
}

// Session is a connection of its own, on which one transaction is kept open for several questions, so that all see the same.
// Its methods are for one goroutine at a time. After an error that is no answer of Postgres' it is of no use any more.
type Session struct {
	conn   *pgx.Conn
	limits Limits
}

// Connect opens a session on url, LISTEN_DATABASE_URL. The limits are those of each question. The name is how a DBA finds it
// in pg_stat_activity.
func Connect(ctx context.Context, url, name string, l Limits) (*Session, error) {
	parsed, err := pgxpool.ParseConfig(url) // which knows the pool_… settings that a shared URL may carry
	if err != nil {
		return nil, fmt.Errorf("read LISTEN_DATABASE_URL: %w", err)
	}
	config := parsed.ConnConfig
	prepare(config, url, name)
	maps.Copy(config.RuntimeParams, textForm)
	maps.Copy(config.RuntimeParams, sessionSettings)
	conn, err := pgx.ConnectConfig(ctx, config) // ConnectTimeout bounds it
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &Session{conn, l}, nil
}

// Close ends the session.
func (s *Session) Close() { closeConn(s.conn) }

// Closed tells whether it is of no use any more.
func (s *Session) Closed() bool { return s.conn.IsClosed() }

// PID is that of the process which answers.
func (s *Session) PID() uint32 { return s.conn.PgConn().PID() }

// Begin ends the transaction that there may be, and begins another, in one round trip. It gives the text of the snapshot
// that all its questions will see.
func (s *Session) Begin(ctx context.Context) (snapshot string, err error) { return s.begin(ctx, "") }

// BeginAt is Begin with the snapshot that another session has exported, and still has.
func (s *Session) BeginAt(ctx context.Context, exported string) (snapshot string, err error) {
	return s.begin(ctx, exported)
}

// Export gives a name by which another session can have the same snapshot.
func (s *Session) Export(ctx context.Context) (name string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var batch pgx.Batch
	batch.Queue("release savepoint asked") // within one it cannot be done
	batch.Queue(sql.ChangesExport).QueryRow(func(row pgx.Row) error { return row.Scan(&name) })
	batch.Queue("savepoint asked")
	if err := s.conn.SendBatch(ctx, &batch).Close(); err != nil {
		return "", fmt.Errorf("export a snapshot: %w", s.undone(ctx, "rollback", err))
	}
	return name, nil
}

func (s *Session) begin(ctx context.Context, exported string) (snapshot string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var batch pgx.Batch
	if s.conn.PgConn().TxStatus() != 'I' {
		batch.Queue("rollback")
	}
	batch.Queue("begin isolation level repeatable read")
	if exported != "" { // it takes no parameter
		batch.Queue("set transaction snapshot '" + strings.ReplaceAll(exported, "'", "''") + "'")
	}
	batch.Queue(sql.Limits, milliseconds(s.limits.Statement), milliseconds(s.limits.Lock))
	batch.Queue(sql.Snapshot).QueryRow(func(row pgx.Row) error { return row.Scan(&snapshot) })
	batch.Queue("savepoint asked") // what fails is undone up to here, and the transaction lives on
	if err := s.conn.SendBatch(ctx, &batch).Close(); err != nil {
		return "", fmt.Errorf("begin a transaction: %w", s.undone(ctx, "rollback", err))
	}
	return snapshot, nil
}

// Read puts one question in the transaction, and gives its rows as they come.
func (s *Session) Read(ctx context.Context, query string, args []any, each func(pgx.Rows) error) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.conn.Query(ctx, query, args...)
	if err == nil {
		for err == nil && rows.Next() {
			err = each(rows)
		}
		rows.Close()
		err = errors.Join(err, rows.Err())
	}
	if err != nil {
		return s.undone(ctx, "rollback to asked", err)
	}
	return nil
}

// End ends the transaction, and undoes what it did.
func (s *Session) End(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if _, err := s.conn.Exec(ctx, "rollback"); err != nil {
		return fmt.Errorf("end a transaction: %w", err)
	}
	return nil
}

// bound is the backstop for a server that does not answer at all.
func (s *Session) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.limits.Statement+s.limits.Lock+time.Second)
}

func (s *Session) undone(ctx context.Context, how string, err error) error {
	if s.conn.IsClosed() {
		return err
	}
	_, undone := s.conn.Exec(ctx, how)
	return errors.Join(err, undone)
}
