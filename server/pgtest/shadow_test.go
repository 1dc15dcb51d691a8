package pgtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// Who finds a namesake is caught, whatever becomes of the error; who writes schemas out is not.
func TestShadow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Shadow(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "select pg_catalog.lower('X') operator(pg_catalog.=) 'x'::pg_catalog.text, 1::int"); err != nil {
		t.Errorf("with schemas: %v", err)
	}
	if times, names := db.Caught(t); times != 0 || len(names) != 0 {
		t.Errorf("caught %d times, %v", times, names)
	}
	asked := 0
	for statement, want := range map[string]string{
		"select lower('X')":                   "function lower(",
		"select 1 = 2":                        "function int4eq(",
		"select 'x' like 'y'":                 "function textlike(",
		"select 1 in (2)":                     "function int4eq(",
		"select concat(1, 2)":                 "function concat(",
		"select cardinality('{1}'::int[])":    "function cardinality(",
		"select 'x'::text":                    "type text",
		"select from pg_class":                "relation pg_class",
		"do 'declare x text; begin end'":      "type text",
		"begin; select lower('Y'); rollback;": "function lower(",
	} {
		_, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
		if err == nil || !strings.Contains(err.Error(), "RB666") {
			t.Errorf("%s: %v", statement, err)
		}
		_, _ = conn.Exec(ctx, "rollback")
		asked++
		times, names := db.Caught(t)
		if times != asked || !strings.Contains(strings.Join(names, "\n"), want) {
			t.Errorf("%s: %d times, %v; want %d times, %s", statement, times, names, asked, want)
		}
	}
	if _, err := conn.Exec(ctx, "set search_path = ''; select hostile.fill('pg_temp'); select pg_catalog.count(*) from pg_class", pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "RB666") {
		t.Errorf("a temporary namesake: %v", err)
	}
}
