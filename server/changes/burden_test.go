package changes

import (
	"fmt"
	"testing"

	"rowcast/server/metrics/metricstest"
)

// A durable slot that somebody has dropped is made anew, and what was committed in between is a gap.
func TestADroppedSlotIsAGap(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	th.stop()
	o := th.engine.options
	o.Slot = "dropped_" + th.db.Name[max(0, len(th.db.Name)-20):]
	th2 := startTheater(th.stage, o)
	s := th2.subscribed(service, all)
	th.exec("select pg_terminate_backend(active_pid, 5000), pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '" + o.Slot + "'")
	th.exec("insert into notes values (1, null, 'missed')")
	s.expect("-Changes may have been missed while the database was not heard")
	s.await("+Subscribed to PostgreSQL")
	th.exec("insert into notes values (2, null, 'b')")
	s.expect(`[1] INSERT notes {"id":2,"owner":null,"body":"b"}`)
	th2.stop()
	th.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '" + o.Slot + "'")
}

// Whoever writes filters that take for ever does not keep others waiting: one of them a batch is tried, and not again soon.
func TestSlowFiltersHoldUpNobody(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	var texts []string
	for i := range 30 {
		texts = append(texts, fmt.Sprintf(`{"event":"*","schema":"public","table":"notes","filter":"body=match.^(.+)(.+)(.+)(.+)\\1\\2\\3\\4.{%d}$"}`, i))
	}
	ann, root := th.subscribed(user(annID), texts...), th.subscribed(service, all)
	const long = `(select string_agg(md5(n::text), '') from generate_series(1, 30) as n)`
	th.exec("insert into notes values (1, '" + bobID + "', 'short')")
	root.await(`"id":1`)
	before := metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", `question="matches"`)
	th.exec("insert into notes values (2, '" + bobID + "', " + long + ")")
	root.await(`"id":2`)
	th.exec("insert into notes values (3, '" + annID + "', " + long + ")") // a row that she sees: then it matters to her
	root.await(`"id":3`)
	ann.expect("-Changes may have been missed: who may see them could not be found out")
	if asked := metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", `question="matches"`) - before; asked > 6 {
		t.Errorf("%v questions were asked", asked)
	}
}
