package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/feed"
	"rowcast/server/lint"
	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// databaseChecks begin with whether there is a database to ask.
var databaseChecks = []check{
	{title{"database_unreachable", "The database cannot be reached.", lint.Error,
		"Nothing else about it can be checked then."},
		func(ctx context.Context, p *patient) []lint.Finding {
			if err := p.reach(ctx); err != nil {
				return p.finding(redactDatabase(p.DatabaseURL), oneSpace(err), mendConnection("DATABASE_URL", err))
			}
			return nil
		}},
	{title{"migrations_missing", "The database does not have the migrations of this program.", lint.Error,
		"A server is not ready until they are applied."}, checkMigrations},
	{title{"database_unready", "The database is there, and cannot be used as a server uses it.", lint.Error,
		"A server asks for the same before it is ready: a row that it may insert, and take back, at once."},
		func(ctx context.Context, p *patient) []lint.Finding {
			if p.reach(ctx) != nil || p.unready == nil {
				return nil
			}
			return p.finding("table realtime.messages", oneSpace(advise(p.unready)), mendUnready(p.unready))
		}},
	{title{"listen_unheard", "What the database notifies is not heard.", lint.Error,
		"LISTEN needs a connection of its own to the same database, as one pooler in transaction mode does not give. A server that hears nothing delivers nothing that is private."},
		checkListen},
	{title{"listen_role", "LISTEN_DATABASE_URL is of another role, which may not read the WAL.", lint.Warning,
		"The WAL is read by the role that listens, so it is that one which needs the attribute REPLICATION. Without it messages are heard by NOTIFY, and nobody's subscription to changes begins."},
		checkListenRole},
}

// reach connects, and asks what all else depends on, once.
func (p *patient) reach(ctx context.Context) error {
	if p.asked {
		return p.away
	}
	p.asked = true
	p.away = postgres.Inspect(ctx, p.DatabaseURL, inspectLimits, func(context.Context, pgx.Tx) error { return nil })
	if p.away != nil {
		return p.away
	}
	if p.pool, p.away = postgres.Open(ctx, p.DatabaseURL, minPoolSize); p.away != nil {
		return p.away
	}
	var old *postgres.OutdatedError
	p.unready = postgres.Ready(ctx, p.pool, prepareLimits)
	if p.migrated = !errors.As(p.unready, &old); !p.migrated {
		p.unready = nil
	}
	return nil
}

func (p *patient) close() {
	if p.pool != nil {
		p.pool.Close()
	}
}

// apply applies rules to the database.
func (p *patient) apply(ctx context.Context, rules []lint.Rule) (found []lint.Finding, err error) {
	s := p.lintSettings()
	s.Partial = !p.migrated
	err = postgres.Inspect(ctx, p.DatabaseURL, inspectLimits, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = lint.Run(ctx, tx, rules, s)
		return err
	})
	return found, err
}

func checkMigrations(ctx context.Context, p *patient) []lint.Finding {
	if p.reach(ctx) != nil || p.migrated {
		return nil
	}
	mend := "rowcast migrate up"
	missing, err := postgres.Ask(ctx, p.pool, prepareLimits, pgx.RowTo[string], sql.MissingRights)
	if err == nil && len(missing) > 0 {
		mend = "as a superuser or the owner: " + strings.Join(missing, " ") + " then: " + mend
	}
	return p.finding("schema realtime", "lacks migrations that this program needs", mend)
}

// checkListen listens as a server does, until its own heartbeats are heard.
func checkListen(ctx context.Context, p *patient) []lint.Finding {
	if p.reach(ctx) != nil || !p.migrated || p.unready != nil {
		return nil
	}
	object := redactDatabase(p.ListenDatabaseURL)
	err := postgres.Inspect(ctx, p.ListenDatabaseURL, inspectLimits, func(context.Context, pgx.Tx) error { return nil })
	if err != nil {
		return p.finding(object, oneSpace(err), mendConnection("LISTEN_DATABASE_URL", err))
	}
	ctx, cancel := context.WithTimeout(ctx, p.DeafAfter+listenPatience)
	defer cancel()
	heard := &ear{hears: cancel}
	err = feed.New(feed.Options{
		Pool: p.pool, ListenURL: p.ListenDatabaseURL, Sink: heard, DeafAfter: p.DeafAfter, Heartbeat: p.DeafAfter / heartbeats,
		Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New(),
	}).Run(ctx)
	switch {
	case errors.Is(err, feed.ErrPooled):
		return p.finding(object, "leads through a pooler in transaction mode, where LISTEN hears nothing", "set LISTEN_DATABASE_URL to an address of Postgres itself")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return p.finding(object, fmt.Sprintf("hears nothing of what is notified through DATABASE_URL, for %s", p.DeafAfter+listenPatience),
			"see to it that both addresses lead to the same database of the same primary, and that COMMIT does not hang, as behind a synchronous standby that is gone")
	case err != nil && ctx.Err() == nil:
		return p.finding(object, oneSpace(err), "set LISTEN_DATABASE_URL to an address of Postgres itself")
	}
	return nil
}

// checkListenRole asks for what the rules about the server's role cannot see: they are asked through DATABASE_URL.
func checkListenRole(ctx context.Context, p *patient) []lint.Finding {
	if p.ListenDatabaseURL == p.DatabaseURL || p.reach(ctx) != nil {
		return nil
	}
	role := func(url string) (role string, replicates, wanted bool, mend string, err error) {
		err = postgres.Inspect(ctx, url, inspectLimits, func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql.ReplicationRole, p.Publication, p.FeedSource).Scan(&role, &replicates, &wanted, &mend)
		})
		return role, replicates, wanted, mend, err
	}
	own, _, _, _, err := role(p.DatabaseURL)
	if err != nil {
		return nil
	}
	listens, replicates, wanted, mend, err := role(p.ListenDatabaseURL)
	if err != nil || listens == own || replicates || !wanted { // listen_unheard says why it does not answer
		return nil
	}
	return p.finding(listens, "listens, is not the role of DATABASE_URL, and has not the attribute REPLICATION", mend+"; or name the same role in both addresses")
}

// listenPatience is for connecting, before DEAF_AFTER begins to count.
const listenPatience = 10 * time.Second

// ear is a sink that is there to hear at all.
type ear struct{ hears func() }

func (e *ear) Hearing()                   { e.hears() }
func (e *ear) Settled() bool              { return true }
func (e *ear) Mark(feed.Mark)             {}
func (e *ear) Message(feed.Message)       {}
func (e *ear) Dropped(feed.Message)       {}
func (e *ear) Rewound(snapshot.Snapshot)  {}
func (e *ear) Disconnect(feed.Disconnect) {}
func (e *ear) Deaf()                      {}
func (e *ear) CatchingUp()                {}
func (e *ear) Missed()                    {}
func (e *ear) CaughtUp()                  {}

// mendConnection says what to do about a connection that there is not.
func mendConnection(setting string, err error) string {
	if malformed := new(pgconn.ParseConfigError); errors.As(err, &malformed) {
		return "write " + setting + " as postgres://USER:PASSWORD@HOST:5432/DATABASE, and what a password has of : / ? # @ % in hexadecimal: %40 for @"
	}
	switch postgres.SQLState(err) {
	case "28P01":
		return "correct the password in " + setting + ", or set it: alter role … password '…';"
	case "28000":
		return "let this role from this machine into this database in pg_hba.conf, and reload; or correct the role in " + setting
	case "3D000":
		return "create the database, or correct its name in " + setting
	case "42501":
		return "let this role connect: grant connect on database … to …;"
	case "53300":
		return "end connections that nobody needs, or raise max_connections and restart Postgres"
	case "57P03":
		return "wait until Postgres has started; its log says what it is doing"
	}
	return "see to it that Postgres listens at the host and port of " + setting + ", that no firewall is between, and that sslmode is as it should be: psql with the same address says the same"
}

// mendUnready says what to do about a database that takes no row.
func mendUnready(err error) string {
	switch postgres.SQLState(err) {
	case "42501":
		return "migrate as the role of the server: the schema realtime and all in it must belong to it"
	case "25006":
		return "set DATABASE_URL to the primary, or default_transaction_read_only to off"
	case "55P03":
		return "end who holds realtime.messages: select pid, mode from pg_locks where relation = 'realtime.messages'::regclass;"
	case "53100":
		return "make space on the disk of Postgres"
	}
	return "the log of Postgres says more"
}

// oneSpace is an error in one line. What it says twice, as of an address that is tried with and without TLS, it says once.
func oneSpace(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.Join(strings.Fields(line), " "); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, " "))
}
