package migrations_test

import (
	"strings"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// A replay looks at what its own room sent, however much others have.
func TestReplayReadsItsRoomAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "select realtime.send('{}', 'e', 'other:' || i % 50) from generate_series(1, 20000) as i", "select realtime.send('{}', 'e', 'mine') from generate_series(1, 5)",
		"select realtime.send('{}', 'e', 'other:' || i % 50) from generate_series(1, 2000) as i", "analyze realtime._journal", "analyze realtime.messages")
	id := value[string](t, conn, "select id::text from realtime.messages where topic = 'mine' limit 1")
	seen := value[string](t, conn, "select pg_current_snapshot()::text")
	for _, query := range []string{
		fill(sql.ReplaySince, "'mine'", "'"+seen+"'", "0", "25", "false"),
		fill(sql.ReplayAfter, "'mine'", "'"+seen+"'", "array['"+id+"']", "1000"),
		fill(sql.ReplayMessages, "'mine'", "(select array_agg(seq) from realtime._journal where topic = 'mine' and private)", "1000", "0"),
	} {
		plan := strings.Join(values[string](t, conn, "explain (analyze, costs off, timing off, summary off) "+query), "\n")
		if strings.Contains(plan, "Seq Scan on _journal") || strings.Contains(plan, "Seq Scan on messages_") && !strings.Contains(plan, "never executed") {
			t.Errorf("reads everything:\n%s\n%s", query, plan)
		}
		for _, line := range strings.Split(plan, "\n") {
			if strings.Contains(line, "Rows Removed by Filter: ") && len(strings.TrimSpace(line)) > len("Rows Removed by Filter: ")+2 {
				t.Errorf("reads much in vain:\n%s\n%s", query, plan)
			}
		}
	}
}

// fill puts values where a query has parameters.
func fill(query string, values ...string) string {
	for i, v := range values {
		query = strings.ReplaceAll(query, "$"+string(rune('1'+i)), v)
	}
	return query
}
