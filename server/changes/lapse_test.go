package changes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
)

// toldOf is what of a kind somebody is told up to something.
func (s *spectator) toldOf(what, last string) (found []string) {
	s.t.Helper()
	for _, text := range s.await(last) {
		if strings.Contains(text, what) {
			found = append(found, text)
		}
	}
	return found
}

// A right that ends with the time ends for rows that are gone too, however old the view is in which they are looked for.
func TestDeletesAfterARightHasLapsedAreNotTold(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"in the policy":  post("owner = auth.uid() and until > now()"),
		"in a function":  "create function app.in_time(timestamptz) returns boolean language plpgsql stable as 'begin return $1 > current_timestamp; end';" + post("owner = auth.uid() and app.in_time(until)"),
		"without a name": post("owner = auth.uid() and until > localtimestamp"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := quietTheater(t, rooms, `alter table app."Posts" add column until timestamptz, replica identity full`, policy)
			ann := th.subscribed(user(annID), allPosts)
			th.exec(`insert into app."Posts" (id, owner, until) values (1, '` + annID + `', clock_timestamp() + interval '1 s')`)
			ann.await("INSERT")
			th.until(`select until < clock_timestamp() from app."Posts"`)
			th.exec(`delete from app."Posts"`, `insert into app."Posts" (id, owner, until) values (2, '`+annID+`', 'infinity')`)
			if told := ann.toldOf("DELETE", `"id":2,`); len(told) > 0 {
				t.Errorf("told %q", told)
			}
		})
	}
}

// Whoever was barred from a row is not told that it went, though what barred him went with it.
func TestDeletesThatTakeABarAlongAreNotTold(t *testing.T) {
	t.Parallel()
	for name, using := range map[string]string{
		"not exists": `not exists (select from app.bars b where b.post = "Posts".id and b.who = auth.uid())`,
		"not in":     `id not in (select b.post from app.bars b where b.who = auth.uid())`,
		"a count":    `(select count(*) from app.bars b where b.who = auth.uid() and b.post = "Posts".id) = 0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, rooms, `create table app.bars (who uuid, post int references app."Posts" on delete cascade); grant select on app.bars to authenticated`, post(using))
			ann := th.subscribed(user(annID), allPosts)
			for i := 1; i <= 5; i++ {
				th.exec(fmt.Sprintf(`insert into app."Posts" (id) values (%d)`, i))
				ann.await("INSERT")
				th.exec(fmt.Sprintf("insert into app.bars values ('%s', %d)", annID, i), fmt.Sprintf(`delete from app."Posts" where id = %d`, i), fmt.Sprintf(`insert into app."Posts" (id) values (%d)`, 100+i))
				if told := ann.toldOf("DELETE", fmt.Sprintf(`"id":%d,`, 100+i)); len(told) > 0 {
					t.Errorf("told %q", told)
				}
			}
		})
	}
}

// What gave a right may go with the row, where it only gave it: whoever has another right is told as ever.
func TestDeletesThatTakeAShareAlongAreToldToTheOwner(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, rooms, `create table other (n int); create table app.shares (who uuid, post int references app."Posts" on delete cascade); grant select on app.shares to authenticated`,
		post(`owner = auth.uid() or exists (select from app.shares s where s.post = "Posts".id and s.who = auth.uid())`))
	ann := th.subscribed(user(annID), allPosts)
	for i := 1; i <= 3; i++ {
		th.exec(fmt.Sprintf(`insert into app."Posts" (id, owner) values (%d, '%s'); insert into app.shares values ('%s', %[1]d)`, i, annID, bobID))
		ann.await("INSERT")
		th.exec("insert into other values (1)", fmt.Sprintf(`delete from app."Posts" where id = %d`, i), fmt.Sprintf(`insert into app."Posts" (id, owner) values (%d, '%s')`, 100+i, annID))
		if told := ann.toldOf("DELETE", fmt.Sprintf(`"id":%d,`, 100+i)); len(told) != 1 {
			t.Errorf("told %q", told)
		}
	}
}

// However many are to be asked whether they would still see a row, slow policies take the time of two questions.
func TestSlowPoliciesOfManyHoldUpLittle(t *testing.T) {
	t.Parallel()
	th := quietTheater(t, rooms, `create function app.slow() returns boolean language plpgsql as 'begin perform pg_sleep(60); return true; end'`,
		post(`auth.uid() is not null and (exists (select from app.members m where m.room = "Posts".room) or app.slow())`), "insert into app.members values ('"+annID+"', 1)")
	var all []*spectator
	for i := range 2*maxGroups + 1 {
		all = append(all, th.seat(user(personOf(i)), allPosts))
	}
	for _, s := range all {
		s.await("+Subscribed")
	}
	root := th.subscribed(service, allPosts)
	th.exec(`insert into app."Posts" (id, room) values (1, 1)`)
	root.await("INSERT")
	before := metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", "still")
	th.exec("delete from app.members", `delete from app."Posts"`)
	root.await("DELETE")
	if n := metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", "still") - before; n < 1 || n > maxSlow {
		t.Errorf("%v questions", n)
	}
}

// Whoever may make functions makes no policy say something else.
func TestStillMeansTheFunctionsOfThePolicy(t *testing.T) {
	t.Parallel()
	s := newStage(t, "create publication supabase_realtime", rooms, post("array_length(tags, 1) = 7 or tags @> array['x']"), `
		create function app.any(text[], text[]) returns boolean language sql immutable return true;
		create function public.array_length(text[], int) returns int language sql immutable return 7;
		create operator public.@> (leftarg = text[], rightarg = text[], function = app.any)`)
	table := s.table(`app."Posts"`)
	p, err := readPolicies(t.Context(), s.pool, table.OID)
	if err != nil {
		t.Fatal(err)
	}
	id := "1"
	s.begin()
	got, err := s.view.still(t.Context(), table, p, []string{"id", "nick"}, []*string{&id, &id}, 1, []*group{{Group: user(annID)}})
	if err != nil || got[0] != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// What a policy leaves prepared is in nobody's way.
func TestStillAfterAPolicyThatPrepares(t *testing.T) {
	t.Parallel()
	s := newStage(t, "create publication supabase_realtime", rooms, `
		create function app.prepares() returns boolean language plpgsql as $$ begin
		  deallocate all; execute 'prepare realtime_held as select'; execute 'prepare realtime_would (int) as select array[1]'; return true; end $$`, post("app.prepares()"))
	table := s.table(`app."Posts"`)
	p, err := readPolicies(t.Context(), s.pool, table.OID)
	if err != nil {
		t.Fatal(err)
	}
	id := "1"
	for range 3 {
		s.begin()
		got, err := s.view.still(t.Context(), table, p, []string{"id", "nick"}, []*string{&id, &id}, 1, []*group{{Group: user(annID)}})
		if err != nil || len(got[0]) != 1 {
			t.Errorf("%v, %v", got, err)
		}
	}
}

// Where nobody writes, a view does not stay for ever: the time stands still in it.
func TestOldViewsAreRenewed(t *testing.T) {
	t.Parallel()
	th := quietTheater(t, rooms)
	th.subscribed(user(annID), allPosts)
	l := &th.engine.loop
	var old *epoch
	th.inLoop(func() { old = l.views.newest() })
	for renewed, limit := false, time.Now().Add(askPatience/2); !renewed; time.Sleep(50 * time.Millisecond) { // too little is written to be a reason
		th.exec("select pg_logical_emit_message(true, 'a heartbeat', '')")
		th.inLoop(func() {
			renewed = l.views.newest() != old
			l.beaten = old.snapshot
		})
		th.engine.Beat(1, old.snapshot)
		if old.opened.Before(time.Now().Add(-time.Minute)) {
			if time.Now().After(limit) {
				t.Fatal("never")
			}
			continue
		}
		th.inLoop(func() {
			if renewed {
				t.Error("a new view was renewed")
			}
			old.opened = old.opened.Add(-time.Hour)
		})
	}
}

// inLoop does something where the loop's fields may be touched.
func (th *theater) inLoop(do func()) {
	done := make(chan struct{})
	th.engine.mail.post(func() {
		do()
		close(done)
	})
	<-done
}
