package changes

import (
	"fmt"
	"testing"

	"rowcast/server/metrics/metricstest"
)

// The database is asked as much for many subscribers as for one, where the policies cannot tell them apart; and for many rows
// of a transaction as for one.
func TestManySubscribersAreOneQuestion(t *testing.T) {
	t.Parallel()
	asked := map[string]float64{}
	for _, tt := range []struct{ subscribers, rows int }{{1, 1}, {40, 1}, {40, 100}} {
		th := newTheater(t, nil, `
			create table plans (id int primary key, plan text);
			alter table plans enable row level security;
			create policy plan on plans for select using (plan = (select auth.jwt() ->> 'plan'));
			grant select on plans to authenticated;
			alter publication supabase_realtime add table plans`)
		var all []*spectator
		for i := range tt.subscribers {
			who := Group{"authenticated", fmt.Appendf(nil, `{"role":"authenticated","sub":"user %d","plan":"gold"}`, i)}
			all = append(all, th.subscribed(who, `{"event":"INSERT","schema":"public","table":"plans"}`))
		}
		th.exec("insert into plans values (0, 'gold')") // the table is described, and its policies are read
		for _, s := range all {
			s.await(`{"id":0,`)
		}
		count := func() float64 {
			return metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", "")
		}
		before := count()
		th.exec(fmt.Sprintf("insert into plans select i, 'gold' from generate_series(1, %d) as i", tt.rows))
		for _, s := range all {
			s.await(fmt.Sprintf(`{"id":%d,`, tt.rows))
		}
		asked[fmt.Sprint(tt)] = count() - before
		th.stop()
	}
	for what, n := range asked {
		if n < 1 || n > 3*asked["{1 1}"] { // a transaction may come in several batches, and what is not visible yet is asked about again
			t.Errorf("%v questions for %s subscribers and rows, of %v", n, what, asked)
		}
	}
	t.Log(asked)
}
