package changes

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Rows are found by the primary key's index before the policies judge them, where its operator tells nothing (is leakproof). For
// enum, numeric, jsonb, ranges and arrays it might, so Postgres judges all rows first; a key of several columns needs one.
func TestPlansUseTheKey(t *testing.T) {
	t.Parallel()
	s := newStage(t, `create type mood as enum ('sad', 'happy')`, `create domain code as text`)
	for _, test := range []struct {
		key, value, typed string // columns of the key, and an expression of each from n
		indexed           bool
	}{
		{"k", "n", "int", true},
		{"k", "n", "bigint", true},
		{"k", "md5(n::text)::uuid", "uuid", true},
		{"k", "n::text", "text", true},
		{"k", "n::text", "varchar(20)", true},
		{"k", "n::text", "code", true},
		{"k", "n::text", "char(9)", true},
		{"k", "now() + n * interval '1 s'", "timestamptz", true},
		{"k", "'2000-01-01'::date + n", "date", true},
		{"k", "n", "numeric", false},
		{"k", "array[n]", "int[]", false},
	} {
		s.exec("drop table if exists big", "create table big (k "+test.typed+" primary key, m mood not null default 'sad', body text)",
			"insert into big select "+test.value+", 'sad', repeat('x', 100) from generate_series(1, 20000) as n", "analyze big",
			"alter table big enable row level security", "create policy p on big using (body is not null and auth.uid() is not null)", "grant select on big to authenticated")
		check := func(key []string, keys ...string) {
			t.Helper()
			plan := s.plan(s.table("big"), key, keys)
			if indexed := strings.Contains(plan, "Index") && !strings.Contains(plan, "Seq Scan on big"); indexed != test.indexed {
				t.Errorf("%s: by the index: %t\n%s", test.typed, indexed, plan)
			}
		}
		var one, two string
		if err := s.admin.QueryRow(t.Context(), "select min(k::text), max(k::text) from big").Scan(&one, &two); err != nil {
			t.Fatal(err)
		}
		check([]string{"k"}, one, two)
		check([]string{"k"}, one)
		if test.indexed { // a column beside it does not matter
			s.exec("alter table big drop constraint big_pkey", "alter table big add primary key (k, m)")
			check([]string{"k", "m"}, one, two, "sad", "sad")
			check([]string{"k", "m"}, one, "sad")
		}
	}
}

// plan is how a user would find rows.
func (s *stage) plan(table *Table, key, keys []string) (plan string) {
	s.Helper()
	err := pgx.BeginFunc(s.Context(), s.admin, func(tx pgx.Tx) error {
		var query string
		if err := tx.QueryRow(s.Context(), "select realtime._lookup(single, matched, types, head, arrays, tail, $3) from realtime._lookup_parts($1::bigint::oid, $2, '{}')", int64(table.OID), key, keys).Scan(&query); err != nil {
			return err
		}
		if _, err := tx.Exec(s.Context(), "set local role authenticated"); err != nil {
			return err
		}
		rows, err := tx.Query(s.Context(), "explain "+query)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan = strings.Join(lines, "\n")
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return plan
}
