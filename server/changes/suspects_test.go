package changes

import (
	"fmt"
	"testing"

	"rowcast/server/metrics/metricstest"
)

// Policies that swallow the timeout, again and again, cost a connection each time they are asked. Those they are for are refused, and others go on.
func TestPoliciesThatKeepTheirConnection(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, `
		create function stubborn() returns boolean language plpgsql as $$ begin
			for i in 1 .. 60 loop
				begin perform pg_sleep(10); exception when query_canceled then null; end;
			end loop;
			return true;
		end $$;
		create policy slow on notes as restrictive for select using (case when auth.uid() = '`+annID+`' then stubborn() else true end)`)
	root, bob, ann := th.subscribed(service, all), th.subscribed(user(bobID), all), th.subscribed(user(annID), all)
	const refused = "-Changes of public.notes are kept from you: whether you may see the rows cannot be decided"
	th.exec("insert into notes values (1, '" + annID + "', 'a'), (2, '" + bobID + "', 'b')")
	bob.expect(`[1] INSERT notes {"id":2,"owner":"` + bobID + `","body":"b"}`)
	root.await(`"id":2`)
	ann.expect(refused)
	begun := metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", "begin")
	th.exec("insert into notes values (3, '" + annID + "', 'a'), (4, '" + bobID + "', 'b')") // she is not asked about
	bob.expect(`[1] INSERT notes {"id":4,"owner":"` + bobID + `","body":"b"}`)
	if now := metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", "begin"); now > begun+2 {
		t.Errorf("%v views for a batch", now-begun)
	}
	if n := metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_refused_total", "slow"); n < 2 {
		t.Errorf("%v refused", n)
	}
	th.until("select count(*) = 0 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'")
	bob.sub.End()
	root.sub.End()
	ann.sub.End()
}

// Policies that cannot be done with all rows of a batch in the time that there is are asked about some of them: nobody is kept from
// his rows for ever, and the one row that takes too long by itself is withheld.
func TestPoliciesThatAreSlowRowByRow(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, `
		create function slowly(id int, body text) returns boolean language plpgsql cost 100000 as $$ begin
			perform pg_sleep(case body when 'slow' then 10 else 0.03 end); return true; end $$;
		create policy slowly on notes as restrictive for select using (slowly(id, body))`)
	ann := th.subscribed(user(annID), `{"event":"INSERT","schema":"public","table":"notes"}`)
	th.exec("insert into notes select n, '" + annID + "', 'x' from generate_series(1, 100) as n")
	for i, text := range ann.await(`"id":100`) {
		if want := fmt.Sprintf(`[1] INSERT notes {"id":%d,"owner":"%s","body":"x"}`, i+1, annID); text != want {
			t.Fatalf("told %s, want %s", text, want)
		}
	}
	th.exec("insert into notes values (101, '" + annID + "', 'slow')")
	ann.expect("-Changes of public.notes are kept from you: whether you may see the rows cannot be decided")
	th.exec("insert into notes values (102, '" + annID + "', 'x')")
	ann.expect(`[1] INSERT notes {"id":102,"owner":"` + annID + `","body":"x"}`)
}
