package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/sql"
)

// trialEnd bounds the rollback of a trial.
const trialEnd = 5 * time.Second

// Trial is a transaction in which somebody's SQL is tried out. It is never committed.
type Trial struct {
	conn   *pgx.Conn
	limits Limits
	name   string // of the transaction
}

// Try runs work in a transaction on a connection of its own, and undoes everything. The limits are those of each statement,
// and of each script.
func Try(ctx context.Context, url string, l Limits, work func(context.Context, *Trial) error) (err error) {
	conn, err := connectApart(ctx, url, "rowcast trial")
	if err != nil {
		return err
	}
	defer closeConn(conn) // which undoes everything too
	t := &Trial{conn: conn, limits: l}
	if _, err := conn.Exec(ctx, "begin isolation level read committed"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trialEnd)
		defer cancel()
		if _, undone := conn.Exec(ctx, "rollback"); err == nil && undone != nil {
			err = fmt.Errorf("roll back: %w", undone)
		}
	}()
	if err := t.limit(ctx); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, sql.ScriptTransaction).Scan(&t.name); err != nil {
		return fmt.Errorf("name the transaction: %w", err)
	}
	return work(ctx, t)
}

func (t *Trial) limit(ctx context.Context) error {
	if _, err := t.conn.Exec(ctx, sql.Limits, milliseconds(t.limits.Statement), milliseconds(t.limits.Lock)); err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	return nil
}

// Query asks within the trial.
func (t *Trial) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	return t.conn.Query(ctx, query, args...)
}

// Script runs any number of statements, which cannot end the transaction. What they set for their session is undone.
func (t *Trial) Script(ctx context.Context, text string) error {
	if _, err := t.conn.Exec(ctx, sql.ScriptText, text); err != nil {
		return fmt.Errorf("pass the script: %w", err)
	}
	if _, err := t.conn.Exec(ctx, sql.ScriptRun); err != nil {
		return scriptError(text, err)
	}
	if _, err := t.conn.Exec(ctx, sql.ScriptEnd, pgx.QueryExecModeSimpleProtocol); err != nil {
		return scriptError(text, err)
	}
	if err := t.limit(ctx); err != nil {
		return err
	}
	var name string
	if err := t.conn.QueryRow(ctx, sql.ScriptTransaction).Scan(&name); err != nil {
		return fmt.Errorf("name the transaction: %w", err)
	}
	if name != t.name { // nothing is known that gets here
		return errors.New("the script has ended its transaction: what it did may have been committed")
	}
	return nil
}

// scriptError says on which line of a script Postgres found fault, where it says so.
func scriptError(text string, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	said := pg.Message
	if pg.Detail != "" {
		said += " (" + pg.Detail + ")"
	}
	if strings.HasPrefix(said, "EXECUTE of transaction commands") || pg.Code == "2D000" {
		said = "no statement may begin or end a transaction: everything is undone at the end"
	}
	if at := int(pg.InternalPosition); at > 0 && pg.InternalQuery == text {
		before := []rune(text)[:min(at-1, len([]rune(text)))]
		return fmt.Errorf("line %d: %s: %w", 1+strings.Count(string(before), "\n"), said, sqlState(pg.Code))
	}
	return fmt.Errorf("%s: %w", said, sqlState(pg.Code))
}

// sqlState is an error of which only the code is still to be told.
type sqlState string

func (s sqlState) Error() string { return "SQLSTATE " + string(s) }
