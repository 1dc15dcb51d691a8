package changes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// askLimits bound each question, whether it is asked on the pool or in a view. Policies and filters are the users'.
var askLimits = postgres.Limits{Statement: 2 * time.Second, Lock: time.Second}

// asker puts questions to the database: a view in its snapshot, the pool about what is there now.
type asker interface {
	read(ctx context.Context, query string, args []any, each func(pgx.Rows) error) error
}

type poolAsker struct{ pool *postgres.Pool }

func onPool(pool *postgres.Pool) asker { return poolAsker{pool} }

func (p poolAsker) read(ctx context.Context, query string, args []any, each func(pgx.Rows) error) error {
	return postgres.Read(ctx, p.pool, askLimits, query, args, each)
}

// describe says what the catalogs say of tables; of those that are not there, nothing.
func describe(ctx context.Context, a asker, publication string, relations []uint32) ([]*Table, error) {
	var tables []*Table
	err := a.read(ctx, sql.ChangesDescribe, []any{oids(relations), publication}, func(rows pgx.Rows) error {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return err
		}
		var d description
		if err := json.Unmarshal(text, &d); err != nil {
			return err
		}
		tables = append(tables, d.table())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("describe tables: %w", err)
	}
	return tables, nil
}

// description is a Table as sql/changes_describe.sql has it: types by their oids, which may refer to each other.
type description struct {
	OID          uint32
	Schema, Name string
	Key          []string
	Published    bool
	RowSecurity  bool
	Partitioned  bool
	Parents      []Name
	Columns      []struct {
		Name      string
		Type      uint32
		Generated bool
		Exact     bool // its collation takes no different texts for equal
	}
	Types []struct {
		OID, Base     uint32
		Name          string
		Elem          *uint32
		Delimiter     byte
		Exotic, Exact bool
	}
}

func (d *description) table() *Table {
	t := &Table{OID: d.OID, Schema: d.Schema, Name: d.Name, Key: d.Key, Published: d.Published, RowSecurity: d.RowSecurity, Partitioned: d.Partitioned, Parents: d.Parents}
	for _, c := range d.Columns {
		t.Columns = append(t.Columns, Column{Name: c.Name, Type: d.typeOf(c.Type, c.Exact), Generated: c.Generated})
	}
	return t
}

func (d *description) typeOf(oid uint32, exact bool) *Type {
	for _, t := range d.Types {
		if t.OID != oid {
			continue
		}
		made := &Type{OID: t.OID, Name: t.Name, Base: t.Base, Delimiter: t.Delimiter, Exotic: t.Exotic, Exact: t.Exact && exact}
		if t.Elem != nil {
			made.Elem = d.typeOf(*t.Elem, exact)
		}
		return made
	}
	return &Type{OID: oid, Base: oid}
}

// found is what an entry means.
type found struct {
	Tables []uint32 // oids of what is published
	Mend   string   // where there is nothing of that name: why, or the statement that publishes it
}

// find looks for the tables that an entry means; "" is every schema, or every table.
func find(ctx context.Context, a asker, publication, schema, table string) (found, error) {
	var f found
	err := a.read(ctx, sql.ChangesFind, []any{publication, schema, table}, func(rows pgx.Rows) error {
		var tables []int64
		err := rows.Scan(&tables, &f.Mend)
		for _, oid := range tables {
			f.Tables = append(f.Tables, uint32(oid))
		}
		return err
	})
	if err != nil {
		return found{}, fmt.Errorf("find tables of %s: %w", publication, err)
	}
	return f, nil
}

// checked is what is to be said of an entry about one table.
type checked struct {
	Code, Problem string // an SQLSTATE and a sentence, if it makes no sense to Postgres for this role
	Missing       string // the grant without which the role is told of no row
}

// check has Postgres read an entry's filter and selection for a role.
func check(ctx context.Context, a asker, role string, bypassRoles []string, t *Table, e *Entry) (checked, error) {
	conditions, err := json.Marshal(append([]Condition{}, e.Filter...))
	if err != nil {
		return checked{}, fmt.Errorf("check an entry: %w", err)
	}
	var c checked
	err = a.read(ctx, sql.ChangesCheck, []any{role, int64(t.OID), orEmpty(t.Key), string(conditions), orEmpty(e.Select), orEmpty(bypassRoles)}, func(rows pgx.Rows) error {
		return rows.Scan(&c.Code, &c.Problem, &c.Missing)
	})
	if err != nil {
		return checked{}, fmt.Errorf("check an entry: %w", err)
	}
	return c, nil
}

// errUndecided: a condition took too long, or Postgres cannot compare this value. What it was about does not match.
var errUndecided = errors.New("condition not decided")

// errSlow: it took too long, and the next time it may, too.
var errSlow = errors.New("out of time")

// matches has Postgres decide a condition that Go cannot, of several values of its column; nil is NULL. With an error that is
// errUndecided there are answers: no for what could not be told.
func matches(ctx context.Context, a asker, t *Table, c Condition, values []*string) ([]bool, error) {
	answers := make([]bool, len(values))
	var truths []*bool
	var code, reason string
	err := a.read(ctx, sql.ChangesMatches, []any{int64(t.OID), c.Column, string(c.Op), orEmpty(c.operands()), values}, func(rows pgx.Rows) error {
		return rows.Scan(&truths, &code, &reason)
	})
	if err == nil && len(truths) != len(values) {
		err = fmt.Errorf("%d answers to %d values", len(truths), len(values))
	}
	if err != nil {
		return nil, fmt.Errorf("ask which values of %s match: %w", c.Column, err)
	}
	for i, truth := range truths {
		answers[i] = truth != nil && *truth != c.Not
	}
	if code == "57014" {
		return answers, fmt.Errorf("%w: %w: %s", errUndecided, errSlow, reason)
	}
	if code != "" {
		return answers, fmt.Errorf("%w: %s (%s)", errUndecided, reason, code)
	}
	return answers, nil
}

// render has Postgres make JSON of values whose types only it knows; nil is NULL.
func render(ctx context.Context, a asker, types []uint32, values []*string) ([]string, error) {
	var rendered []string
	err := a.read(ctx, sql.ChangesRender, []any{oids(types), values}, func(rows pgx.Rows) error { return rows.Scan(&rendered) })
	if err == nil && len(rendered) != len(values) {
		err = fmt.Errorf("%d for %d values", len(rendered), len(values))
	}
	if err != nil {
		return nil, fmt.Errorf("render values: %w", err)
	}
	return rendered, nil
}

// published is what a publication says of itself.
type published struct {
	Insert, Update, Delete, Truncate bool
	ViaRoot                          bool   // changes of partitions go by the name of the topmost
	WALLevel                         string // must be logical
	Digest                           string // another one: tables, columns or row filters may have changed
}

// readPublication returns nil where there is none.
func readPublication(ctx context.Context, a asker, name string) (*published, error) {
	var p *published
	err := a.read(ctx, sql.ChangesPublication, []any{name}, func(rows pgx.Rows) error {
		p = &published{}
		return rows.Scan(&p.Insert, &p.Update, &p.Delete, &p.Truncate, &p.ViaRoot, &p.WALLevel, &p.Digest)
	})
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	return p, nil
}

// told is what a publication lets of a table into the stream.
type told struct {
	columns []string
	sieve   string // a condition on its rows; "": all
}

func readTold(ctx context.Context, a asker, publication string, table uint32) (is told, err error) {
	err = a.read(ctx, sql.ChangesPublished, []any{publication, int64(table)}, func(rows pgx.Rows) error { return rows.Scan(&is.columns, &is.sieve) })
	if err != nil {
		return told{}, fmt.Errorf("read what is published of a table: %w", err)
	}
	return is, nil
}

// makePublication makes it if it is missing.
func makePublication(ctx context.Context, pool *postgres.Pool, name string) error {
	err := onPool(pool).read(ctx, sql.ChangesCreatePublication, []any{name}, func(pgx.Rows) error { return nil })
	switch {
	case err == nil:
		return nil
	case postgres.SQLState(err) == "42501":
		return fmt.Errorf("there is no publication %s, and this role may not make it: create publication %s with (publish_via_partition_root = true);",
			name, pgx.Identifier{name}.Sanitize())
	}
	return fmt.Errorf("create publication %s: %w", name, err)
}

// oids are sent as numbers that pgx knows without asking.
func oids(of []uint32) []int64 {
	all := make([]int64, len(of))
	for i, oid := range of {
		all[i] = int64(oid)
	}
	return all
}

// orEmpty is because nil is NULL.
func orEmpty(list []string) []string { return append([]string{}, list...) }
