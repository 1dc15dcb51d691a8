package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

// sandboxTimeout bounds each step on a database that is nobody's but ours.
const sandboxTimeout = 30 * time.Second

// sandbox is the database of one run of dev.
type sandbox struct {
	source  string          // which Postgres, for people
	cluster *pgtest.Cluster // nil on somebody's server
	server  string          // a superuser's address, outside the database
	admin   string          // the same, of the database
	url     string          // what the server connects with: an ordinary role
	psql    string          // a command line
	name    string          // of the database
	role    string          // of the server
}

// openSandbox starts a Postgres, or takes the one at address, and makes database and role.
func openSandbox(ctx context.Context, address string, progress io.Writer) (*sandbox, error) {
	box := &sandbox{name: "app", role: "rowcast"}
	if address != "" {
		if err := box.onServer(address); err != nil {
			return nil, err
		}
	} else {
		cluster, err := pgtest.Start(ctx, pgtest.Options{Progress: progress})
		if err != nil {
			return nil, err
		}
		const superuser = "postgres"
		box.cluster, box.source, box.psql = cluster, cluster.Source, cluster.Psql(box.name, superuser)
		box.server, box.admin = cluster.URL(superuser, superuser), cluster.URL(box.name, superuser)
		box.url = cluster.URL(box.name, box.role)
	}
	at, err := url.Parse(box.url)
	if err != nil {
		return nil, errors.Join(errors.New("read the address of the sandbox"), box.close())
	}
	password, _ := at.User.Password()
	if err := box.onAdmin(ctx, sql.DevCreate, box.name, box.role, password); err != nil {
		if box.cluster == nil {
			err = fmt.Errorf("DATABASE_URL has to be a superuser's: %w", err)
		}
		return nil, errors.Join(err, box.close())
	}
	return box, nil
}

// onServer plans a sandbox on somebody's server, under names that nobody else has.
func (b *sandbox) onServer(address string) error {
	at, err := url.Parse(address)
	if err != nil || !isDatabaseURL(address) {
		return usagef("DATABASE_URL: dev wants the form postgres://user:password@host:5432/database")
	}
	b.name = "rowcast_dev_" + randomHex(4)
	b.role = b.name
	b.source, b.server = "the server of DATABASE_URL", address
	query := at.Query()
	query.Del("dbname")
	at.Path, at.RawQuery = "/"+b.name, query.Encode()
	b.admin = at.String()

	own := *at
	own.User = url.UserPassword(b.role, randomHex(16))
	query.Del("user")
	query.Del("password")
	own.RawQuery = query.Encode()
	b.url = own.String()

	// The superuser's password is not ours to print: psql asks for it, or finds it where it finds it.
	shown, query := *at, at.Query()
	query.Del("password")
	shown.RawQuery = query.Encode()
	if at.User != nil {
		shown.User = url.User(at.User.Username())
	}
	b.psql = "psql '" + strings.ReplaceAll(shown.String(), "'", "%27") + "'"
	return nil
}

// close removes everything that the sandbox made.
func (b *sandbox) close() error {
	if b.cluster != nil {
		return b.cluster.Stop()
	}
	if err := b.onAdmin(context.Background(), sql.DevRemove, b.name, b.role); err != nil {
		return fmt.Errorf("remove database and role %s: %w", b.name, err)
	}
	return nil
}

// onAdmin asks for statements and executes them one by one, outside a transaction.
func (b *sandbox) onAdmin(ctx context.Context, question string, args ...any) error {
	return connected(ctx, b.server, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, question, args...)
		if err != nil {
			return err
		}
		statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				what, _, _ := strings.Cut(statement, " password ")
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		return nil
	})
}

// connected bounds some work on a connection of its own.
func connected(ctx context.Context, address string, work func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, sandboxTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err // pgx leaves passwords out
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return work(ctx, conn)
}

// person is somebody of the chat sample.
type person struct{ ID, Name string }

// fill migrates as the server's role, and adds the sample as a superuser, who stands for the application's owner.
func (b *sandbox) fill(ctx context.Context, logger *slog.Logger) (people []person, err error) {
	if _, err := (postgres.Migrator{URL: b.url, Logger: logger}).Up(ctx); err != nil {
		return nil, err
	}
	if _, err := postgres.ApplyAuth(ctx, b.url); err != nil {
		return nil, err
	}
	err = connected(ctx, b.admin, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, sql.Limits, "0", "0"); err != nil { // for its search_path
				return fmt.Errorf("set limits: %w", err)
			}
			if _, err := tx.Exec(ctx, sql.Chat); err != nil {
				return fmt.Errorf("apply chat.sql: %w", err)
			}
			if err := applyPolicies(ctx, tx); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, sql.ChatPeople)
			if err != nil {
				return err
			}
			people, err = pgx.CollectRows(rows, pgx.RowToStructByPos[person])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("seed the sample: %w", err)
	}
	return people, nil
}

// applyPolicies applies every sample.
func applyPolicies(ctx context.Context, on interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}) error {
	files, err := fs.Glob(sql.Policies, "policies/*.sql")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := fs.ReadFile(sql.Policies, file)
		if err != nil {
			return err
		}
		if _, err := on.Exec(ctx, string(text)); err != nil {
			return fmt.Errorf("apply %s: %w", file, err)
		}
	}
	return nil
}
