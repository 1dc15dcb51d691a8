package pgtest

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed shadow.sql
var shadow string

// Shadow makes a schema hostile in which everything in pg_catalog has a namesake that raises, and has the server's role find
// names there first, from its next connection on. So what the server says in SQL, and does not mean as it is written for want of a
// schema, fails; Caught tells of it also where that is swallowed. hostile.fill('pg_temp') does it to a session's temporary schema, which
// comes before all others for types and relations.
func (d *DB) Shadow(t TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	for _, statement := range []string{shadow, fmt.Sprintf("alter role %s in database %s set search_path = hostile, pg_catalog, public", ServerRole, d.Name)} {
		if _, err := d.Admin.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("pgtest: shadow pg_catalog: %v", err)
		}
	}
}

// Caught gives what was found in schema hostile since Shadow: how often, and the names of what sessions that still last found.
func (d *DB) Caught(t TB) (times int, names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	err := d.Admin.QueryRow(ctx, `
		select (select case when is_called then last_value else 0 end from hostile.caught), array(
		  select distinct s.what from pg_locks l join pg_database d on d.oid = l.database join hostile.namesakes s on s.n = l.objid::int
		   where l.locktype = 'advisory' and l.classid::int8 = 1465012053 and d.datname = current_database() order by 1)`).Scan(&times, &names)
	if err != nil {
		t.Fatalf("pgtest: read what was caught: %v", err)
	}
	return times, names
}
