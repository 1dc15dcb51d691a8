package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"rowcast/migrations"
	ask "rowcast/sql" // beside database/sql
)

const (
	migrateConnectTimeout = 10 * time.Second
	// cancelDelay is how long Postgres may take to cancel a statement before its connection is given up.
	cancelDelay = time.Second
	// migrateLockTimeout is how long a server waits while another one migrates.
	migrateLockTimeout = 2 * time.Minute
	// migrateLockSlice is how long one transaction waits before it lets its connection go: behind a pooler every waiting
	// transaction holds a server connection, and the one that migrates needs a second one.
	migrateLockSlice = time.Second
	// migrateUnlockTimeout bounds the end of the locking transaction once the work is done.
	migrateUnlockTimeout = 5 * time.Second

	lockNotAvailable = "55P03"
)

// ErrMigrationLocked says that another server was migrating the database for the whole wait.
var ErrMigrationLocked = errors.New("another server is migrating this database")

// MissingRightsError says what a DBA has to grant before the migrations can be applied.
type MissingRightsError struct {
	Role       string
	Statements []string // ready to paste
}

func (e *MissingRightsError) Error() string {
	return fmt.Sprintf("role %q lacks a right; run as a superuser or the owner: %s", e.Role, strings.Join(e.Statements, " "))
}

// Migrator applies the migrations to one database. The zero value of every field but URL is a sensible default.
type Migrator struct {
	URL         string
	Logger      *slog.Logger
	Files       fs.FS         // default: the embedded migrations
	LockTimeout time.Duration // how long to wait for another server that migrates
}

// Migration is one file and whether the database has it.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // in the session's time zone; zero: pending
}

// Up applies what is pending and returns it. Of several servers that start at once, one applies and the others wait.
func (m Migrator) Up(ctx context.Context) ([]Migration, error) {
	return m.run(ctx, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.Up(ctx) })
}

// Down undoes the newest applied migration.
func (m Migrator) Down(ctx context.Context) ([]Migration, error) {
	return m.run(ctx, func(p *goose.Provider) ([]*goose.MigrationResult, error) {
		result, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []*goose.MigrationResult{result}, nil
	})
}

// DownTo undoes every applied migration above version; with 0 the schema goes too, unless something else lives in it.
func (m Migrator) DownTo(ctx context.Context, version int64) ([]Migration, error) {
	return m.run(ctx, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.DownTo(ctx, version) })
}

// Status lists all migrations, oldest first. It changes nothing and waits for nobody.
func (m Migrator) Status(ctx context.Context) ([]Migration, error) {
	list, err := m.list()
	if err != nil {
		return nil, err
	}
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, ask.AppliedVersions)
	if err != nil {
		return nil, fmt.Errorf("read applied migrations: %w", err)
	}
	var version int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
		if i := slices.IndexFunc(list, func(x Migration) bool { return x.Version == version }); i >= 0 {
			list[i].AppliedAt = at
		}
		return nil
	})
	if err != nil && !isUndefinedTable(err) {
		return nil, fmt.Errorf("read applied migrations: %w", err)
	}
	return list, nil
}

// run takes the lock, checks the rights, makes the schema and lets work use goose on it.
func (m Migrator) run(ctx context.Context, work func(*goose.Provider) ([]*goose.MigrationResult, error)) ([]Migration, error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	unlock, err := m.lock(ctx, conn)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := checkRights(ctx, conn); err != nil {
		return nil, err
	}

	// goose works on a second connection: the first one's transaction is the lock and must not see the migrations' errors.
	db := stdlib.OpenDB(*conn.Config())
	defer db.Close()
	if _, err := db.ExecContext(ctx, ask.CreateSchema); err != nil {
		return nil, fmt.Errorf("create schema realtime: %w", err)
	}
	provider, err := m.provider(db)
	if err != nil {
		return nil, err
	}
	results, err := work(provider)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
		err = fmt.Errorf("migrate %s %s: %w", partial.Failed.Direction, path.Base(partial.Failed.Source.Path), partial.Err)
	}
	if SQLState(err) == lockNotAvailable {
		err = fmt.Errorf("somebody else's transaction uses what is to be changed; nothing of this migration is applied, try again: %w", err)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err) // the server only says that it was asked to stop
	}
	if err != nil {
		return m.report(results), err
	}
	if err := m.dropEmpty(ctx, db, provider); err != nil {
		return m.report(results), err
	}
	return m.report(results), nil
}

// lock lets one server migrate at a time. A session's advisory lock would stay behind on whatever connection a transaction
// pooler lent us, and a row with a lease has to be polled and outlives a killed server; an advisory lock of a transaction
// is safe behind a pooler, wakes the next in line at once, and ends with the connection.
func (m Migrator) lock(ctx context.Context, conn *pgx.Conn) (unlock func(), err error) {
	wait := m.LockTimeout
	if wait <= 0 {
		wait = migrateLockTimeout
	}
	for deadline := time.Now().Add(wait); ; {
		slice := min(migrateLockSlice, time.Until(deadline))
		if slice < time.Millisecond {
			return nil, fmt.Errorf("wait %s for the migration lock: %w", wait, ErrMigrationLocked)
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return nil, fmt.Errorf("begin migration lock: %w", err)
		}
		_, err = tx.Exec(ctx, ask.MigrationLockWait, fmt.Sprintf("%dms", slice.Milliseconds()))
		if err == nil {
			_, err = tx.Exec(ctx, ask.MigrationLock)
		}
		if err == nil {
			return func() { endLock(ctx, tx) }, nil
		}
		endLock(ctx, tx)
		if SQLState(err) != lockNotAvailable { // or else the slice is over
			return nil, fmt.Errorf("take migration lock: %w", err)
		}
	}
}

// endLock ends the locking transaction also when ctx is over. An error needs no answer: the connection is closed next.
func endLock(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), migrateUnlockTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

func checkRights(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, ask.MissingRights)
	if err != nil {
		return fmt.Errorf("check rights: %w", err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("check rights: %w", err)
	}
	if len(missing) > 0 {
		return &MissingRightsError{Role: conn.Config().User, Statements: missing}
	}
	return nil
}

// dropEmpty takes the schema away again once no migration is left in it.
func (m Migrator) dropEmpty(ctx context.Context, db *sql.DB, p *goose.Provider) error {
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > 0 {
		return nil
	}
	if _, err := db.ExecContext(ctx, ask.DropSchema); err != nil {
		return fmt.Errorf("drop schema realtime: %w", err)
	}
	return nil
}

// connect opens a direct connection that works behind a transaction pooler too and whose statements stop when ctx does:
// a statement that waits for a lock would otherwise go on waiting in the server, and hold up everybody behind it.
func (m Migrator) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(m.URL)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = migrateConnectTimeout
	}
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelDelay}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	return conn, nil
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), migrateUnlockTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}

func (m Migrator) provider(db *sql.DB) (*goose.Provider, error) {
	p, err := goose.NewProvider(goose.DialectCustom, db, m.files(),
		goose.WithStore(versions{}), goose.WithSlog(m.logger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

func (m Migrator) files() fs.FS {
	if m.Files == nil {
		return migrations.FS
	}
	return m.Files
}

func (m Migrator) logger() *slog.Logger {
	if m.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return m.Logger
}

// report turns goose's results into ours and logs each.
func (m Migrator) report(results []*goose.MigrationResult) []Migration {
	var done []Migration
	for _, r := range results {
		x := Migration{Version: r.Source.Version, Name: path.Base(r.Source.Path)}
		if r.Direction == "up" {
			x.AppliedAt = time.Now()
		}
		m.logger().Info("migrated", "direction", r.Direction, "migration", x.Name, "seconds", r.Duration.Seconds())
		done = append(done, x)
	}
	return done
}

// list returns the migrations in order, none applied.
func (m Migrator) list() ([]Migration, error) {
	names, err := fs.Glob(m.files(), "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	list := make([]Migration, 0, len(names))
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("read version of %s: %w", name, err)
		}
		list = append(list, Migration{Version: version, Name: name})
	}
	if len(list) == 0 {
		return nil, errors.New("list migrations: there are none")
	}
	slices.SortFunc(list, func(a, b Migration) int { return int(a.Version - b.Version) })
	return list, nil
}
