package changes

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFiltersSelectionsAndIDs(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "create table other (id int primary key); alter publication supabase_realtime add table other; grant select on other to service_role")
	s := th.subscribed(service,
		`{"event":"INSERT","schema":"public","table":"notes","filter":"id=eq.1"}`,
		`{"event":"*","schema":"public","table":"notes","filter":"id=in.(1,2)"}`,
		`{"event":"UPDATE","schema":"public","table":"notes","filter":"body=like.a%"}`, // Postgres is asked
		`{"event":"DELETE","schema":"public","table":"notes","filter":"body=eq.a"}`,    // not known of an old row
		`{"event":"INSERT","schema":"public","table":"notes","select":["owner"]}`,
		`{"event":"INSERT","schema":"public"}`)
	th.exec("insert into notes values (1, null, 'a'), (3, null, 'c')", "update notes set body = body || 'x'", "delete from notes", "insert into other values (7)")
	want := []string{
		`[1 2 6] INSERT notes {"id":1,"owner":null,"body":"a"}`,
		`[5] INSERT notes {"id":1,"owner":null}`,
		`[6] INSERT notes {"id":3,"owner":null,"body":"c"}`,
		`[5] INSERT notes {"id":3,"owner":null}`,
		`[2 3] UPDATE notes {"id":1,"owner":null,"body":"ax"} was {"id":1}`,
		`[2] DELETE notes was {"id":1}`,
		`[6] INSERT other {"id":7}`}
	got := s.await(want[len(want)-1])
	slices.Sort(want) // frames of one change come in any order
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Of those who want one value of a column each, a change visits those only who want its own.
func TestEqualityIsLookedUp(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	var rooms []*spectator
	for i := range 20 {
		rooms = append(rooms, th.subscribed(service, fmt.Sprintf(`{"event":"*","schema":"public","table":"notes","filter":"id=eq.%d"}`, i)))
	}
	th.exec("insert into notes select n, null, 'x' from generate_series(0, 19) as n", "delete from notes")
	for i, room := range rooms {
		room.expect(fmt.Sprintf(`[1] INSERT notes {"id":%d,"owner":null,"body":"x"}`, i), fmt.Sprintf(`[1] DELETE notes was {"id":%d}`, i))
	}
}

func TestValuesThatTheWALLacksAreRead(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, `
		create table docs (id int primary key, title text, body text, twice int generated always as (id * 2) stored);
		alter table docs alter column body set storage external;
		grant select on docs to service_role;
		alter publication supabase_realtime add table docs`)
	large := strings.Repeat("x", 4000)
	s := th.subscribed(service, `{"event":"*","schema":"public","table":"docs","filter":"body=eq.`+large+`"}`)
	th.exec("insert into docs values (1, 'a', repeat('x', 4000))")
	s.expect(`[1] INSERT docs {"id":1,"title":"a","body":"` + large + `","twice":2}`)
	th.exec("update docs set title = 'b'")
	s.expect(`[1] UPDATE docs {"id":1,"title":"b","body":"` + large + `","twice":2} was {"id":1}`)
}

func TestRowsThatAreTooLargeAreCut(t *testing.T) {
	t.Parallel()
	th := newTheater(t, func(o *Options) { o.MaxRow = 1000 }, notes)
	s, ann := th.subscribed(service, all), th.subscribed(user(annID), all)
	th.exec("insert into notes values (1, '" + annID + "', repeat('x', 2000))")
	want := `[1] INSERT notes {"id":1,"owner":"` + annID + `"} [Error 413: Payload Too Large]`
	s.expect(want)
	ann.expect(want)
}

func TestTablesWithoutAPrimaryKey(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "alter table notes drop constraint notes_pkey; alter table notes replica identity full")
	s, ann := th.subscribed(service, all), th.subscribed(user(annID), all)
	th.exec("insert into notes values (1, '"+annID+"', 'a')", "delete from notes")
	s.expect(`[1] INSERT notes {"id":1,"owner":"`+annID+`","body":"a"}`, `[1] DELETE notes was {"id":1,"owner":"`+annID+`","body":"a"}`)
	ann.expect(`[1] INSERT notes {} [Error 400: Bad Request, no primary key]`, `[1] DELETE notes was {} [Error 400: Bad Request, no primary key]`)
}

func TestColumnsAreThoseThatTheRoleMayRead(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "revoke select on notes from authenticated, anon; grant select (id, owner) on notes to authenticated; grant select (body) on notes to anon")
	ann := th.subscribed(user(annID), all)
	anon := th.seat(Group{"anon", []byte(`{"role":"anon"}`)}, all)
	const grant = "-Changes of public.notes are told without their rows: grant select on public.notes to anon;"
	anon.expect(grant, "+Subscribed to PostgreSQL")
	th.exec("insert into notes values (1, '" + annID + "', 'a')")
	ann.expect(`[1] INSERT notes {"id":1,"owner":"` + annID + `"}`)
	anon.expect(`[1] INSERT notes {} [Error 401: Unauthorized]`)
	th.exec("revoke select on notes from authenticated", "insert into notes values (2, '"+annID+"', 'a')")
	ann.expect("-Changes of public.notes are told without their rows: grant select on public.notes to authenticated;", `[1] INSERT notes {} [Error 401: Unauthorized]`)
	bob := th.seat(user(bobID), `{"event":"*","schema":"public","table":"notes","filter":"body=eq.a"}`)
	bob.await("invalid column for filter body")
}

// Who is refused because of an error is told so once, until it works again; others never notice.
func TestPoliciesThatFailRefuse(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, `
		create policy picky on notes as restrictive for select using (case when body = 'bad' and auth.uid() = '`+annID+`' then 1 / (id - id) = 1 else true end)`)
	ann, bob := th.subscribed(user(annID), all), th.subscribed(user(bobID), all)
	th.exec("insert into notes values (1, '" + annID + "', 'bad'), (2, '" + bobID + "', 'good')")
	bob.expect(`[1] INSERT notes {"id":2,"owner":"` + bobID + `","body":"good"}`)
	ann.expect("-Changes of public.notes are kept from you: whether you may see the rows cannot be decided")
	root := th.subscribed(service, all)
	th.exec("insert into notes values (3, '" + annID + "', 'bad')")
	root.await(`"id":3`) // in a batch of its own: one that fails takes with it what is asked together
	th.exec("insert into notes values (4, '" + annID + "', 'fine')")
	ann.expect(`[1] INSERT notes {"id":4,"owner":"` + annID + `","body":"fine"}`)
	th.exec("insert into notes values (5, '" + annID + "', 'bad')")
	ann.expect("-Changes of public.notes are kept from you: whether you may see the rows cannot be decided")
}

func TestTruncateIsTold(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "revoke select on notes from anon")
	s, anon := th.subscribed(service, all), th.seat(Group{"anon", []byte(`{"role":"anon"}`)}, all)
	anon.await("Subscribed")
	th.exec("truncate notes", "insert into notes values (1, null, 'a')")
	s.expect("+TRUNCATE public.notes", `[1] INSERT notes {"id":1,"owner":null,"body":"a"}`)
	anon.expect(`[1] INSERT notes {} [Error 401: Unauthorized]`)
}

func TestPartitionsAreShownUnderTheNameThatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, root := range []bool{true, false} {
		t.Run(fmt.Sprint(root), func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, fmt.Sprintf(`
				create table logs (id int primary key, owner uuid) partition by range (id);
				create table logs_low partition of logs for values from (0) to (100);
				alter table logs enable row level security;
				create policy own on logs for select using (owner = auth.uid());
				grant select on logs to authenticated; grant select on logs_low, logs to service_role;
				alter publication supabase_realtime set (publish_via_partition_root = %t);
				alter publication supabase_realtime add table logs`, root))
			ann := th.subscribed(user(annID), `{"event":"*","schema":"public","table":"logs"}`)
			s := th.subscribed(service, `{"event":"*","schema":"public","table":"logs"}`)
			low := th.seat(service, `{"event":"*","schema":"public","table":"logs_low","snapshot":true}`)
			if root { // nothing would ever be told by this name
				low.await("-Unable to subscribe")
			} else {
				low.await("Snapshot complete")
			}
			th.exec("insert into logs values (1, '" + annID + "'), (2, null)")
			ann.expect(`[1] INSERT logs {"id":1,"owner":"` + annID + `"}`)
			s.expect(`[1] INSERT logs {"id":1,"owner":"`+annID+`"}`, `[1] INSERT logs {"id":2,"owner":null}`)
			if !root {
				low.expect(`[1] INSERT logs_low {"id":1,"owner":"`+annID+`"}`, `[1] INSERT logs_low {"id":2,"owner":null}`)
			}
			th.exec("delete from logs where id = 1")
			ann.expect(`[1] DELETE logs was {"id":1}`)
		})
	}
}

// Once a column is revoked, what a filter on it lets through would tell what is in it: neither a row nor a notice may.
func TestFiltersTellNothingOfColumnsThatWereRevoked(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	const filtered = `{"event":"*","schema":"public","table":"notes","filter":"body=eq.a"}`
	only, both := th.subscribed(user(annID), filtered), th.subscribed(user(annID), filtered, all)
	th.exec("revoke select on notes from authenticated; grant select (id, owner) on notes to authenticated",
		"insert into notes values (1, '"+annID+"', 'a')", "insert into notes values (2, '"+annID+"', 'b')")
	both.expect(`[2] INSERT notes {"id":1,"owner":"`+annID+`"}`, `[2] INSERT notes {"id":2,"owner":"`+annID+`"}`)
	th.engine.Publications() // as the digest says
	for _, s := range []*spectator{only, both} {
		if told := s.await("invalid column for filter body"); len(told) != 1 {
			t.Errorf("told %q", told)
		}
	}
	th.exec("grant select on notes to authenticated")
	th.engine.Publications()
	only.expect("+Subscribed to PostgreSQL")
}

// A key that is used again is another row: whoever may see the one is not shown what the other was, though he may not read the
// column that tells them apart.
func TestAKeyThatIsUsedAgainIsAnotherRow(t *testing.T) {
	t.Parallel()
	for name, grant := range map[string]string{
		"whole":   "grant select on notes to authenticated",
		"in part": "revoke select on notes from authenticated; grant select (id, body) on notes to authenticated",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, grant)
			ann, bob := th.subscribed(user(annID), all), th.subscribed(user(bobID), all)
			shown := func(id int, owner, body string) string {
				if name != "whole" {
					return fmt.Sprintf(`[1] INSERT notes {"id":%d,"body":%q}`, id, body)
				}
				return fmt.Sprintf(`[1] INSERT notes {"id":%d,"owner":%q,"body":%q}`, id, owner, body)
			}
			th.exec("insert into notes values (1, '" + annID + "', 'hers'); delete from notes; insert into notes values (1, '" + bobID + "', 'his')")
			bob.expect(shown(1, bobID, "his"))
			th.exec("begin; insert into notes values (2, '" + annID + "', 'hers'); update notes set id = 3 where id = 2; insert into notes values (2, '" + bobID + "', 'his'); commit")
			bob.expect(shown(2, bobID, "his"))
			th.exec("insert into notes values (4, '" + annID + "', 'end'), (5, '" + bobID + "', 'end')")
			bob.expect(shown(5, bobID, "end"))
			for _, text := range ann.await(`"id":4`) {
				if strings.Contains(text, "his") {
					t.Errorf("told %s", text)
				}
			}
		})
	}
}

// That changes are kept from somebody is said once until they reach him: to him, whatever reaches him of other tables, and to the log,
// whoever else it is about.
func TestWhatIsWithheldIsSaidOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log strings.Builder
	th := newTheater(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}), nil))
	}, notes, `
		create policy picky on notes as restrictive for select using (case when body = 'bad' then 1 / (id - id) = 1 else true end);
		create table other (id int primary key); alter publication supabase_realtime add table other; grant select on other to authenticated`)
	both := []string{all, `{"event":"*","schema":"public","table":"other"}`}
	ann, bob := th.subscribed(user(annID), both...), th.subscribed(user(bobID), both...)
	const kept = "-Changes of public.notes are kept from you: whether you may see the rows cannot be decided"
	for i := range 4 {
		th.exec(fmt.Sprintf("insert into notes values (%d, '%s', 'bad'), (%d, '%s', 'bad')", i, annID, 10+i, bobID), fmt.Sprintf("insert into other values (%d)", i))
		for _, s := range []*spectator{ann, bob} {
			told := s.await(fmt.Sprintf(`INSERT other {"id":%d}`, i))
			if got := slices.Contains(told, kept); got != (i == 0) {
				t.Errorf("%d: told %q", i, told)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "kept from subscribers"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }
