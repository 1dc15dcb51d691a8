package rights

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// rooms is a table with a right that a row of it gives one user on one topic.
const rooms = `
	create table members (user_id uuid, owner_id uuid, room_id int, muted boolean, hits int default 0);
	grant select on members to authenticated;
	create policy p on realtime.messages for select to authenticated using (exists (
		select from members m where m.user_id = (select auth.uid()) and 'room:' || m.room_id = realtime.topic() and not m.muted));`

const mayWatch = `grant trigger on members to rowcast;`

// inForce is what realtime.watched says of the table, and how the server's own watch limits columns.
func inForce(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	var said string
	if err := db.Admin.QueryRow(t.Context(), `select concat_ws(' ', noticed_by, coalesce(w.subject, '-'), coalesce(w.topic, '-'), coalesce(f.columns::text, '*'),
		case when f.own then 'own' when f.own is not null then 'by hand' end)
		from realtime.watched w, realtime._in_force('members'::regclass) f where object = 'public.members'`).Scan(&said); err != nil {
		t.Fatal(err)
	}
	return said
}

// What is watched by the server's own making follows the policies.
func TestAimsFollowPolicies(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t) // its own: roles are the cluster's, and other tests change them
	exec(t, db, sql.Auth+rooms+mayWatch)
	w, changes := watcher(t, db)
	const first = "trigger user_id room:{room_id} {muted,room_id,user_id} own"
	for _, step := range []struct{ change, want string }{
		{"", first},
		{"create policy q on realtime.messages for select using (exists (select from members m where m.owner_id = auth.uid()))", "trigger - - {muted,owner_id,room_id,user_id} own"},
		{"drop policy q on realtime.messages", first},
		{"create policy q on realtime.messages for select using (exists (select from members m where m.user_id = auth.uid() and m.hits > 9))", "trigger user_id - {hits,muted,room_id,user_id} own"},
		{"drop policy q on realtime.messages", first},
		// A function that nobody looks into may read everything.
		{"create function f() returns boolean language plpgsql as 'begin return true; end'; create policy q on realtime.messages for select using (f())", "trigger - - * own"},
		{"drop policy q on realtime.messages", first},
		{"alter table members rename owner_id to x; alter table members rename user_id to owner_id; alter table members rename x to user_id", "trigger owner_id room:{room_id} {muted,owner_id,room_id} own"},
		{"alter table members rename owner_id to x; alter table members rename user_id to owner_id; alter table members rename x to user_id", first},
		// The names that count stay, but one is another column's.
		{`alter table members rename muted to x; alter table members add muted boolean; alter policy p on realtime.messages using (exists (
			select from members m where m.user_id = (select auth.uid()) and 'room:' || m.room_id = realtime.topic() and not m.muted))`, first},
		{"alter table realtime.messages add constraint mine check (event <> 'never')", "trigger - - * own"},
		{"alter table realtime.messages drop constraint mine", first},
		// What is restored from a dump has other oids, and what was noted of them means nothing.
		{"delete from realtime._watches; create policy q on realtime.messages for select using (false)", first},
	} {
		exec(t, db, step.change)
		before := *changes
		find(t, w)
		if got := inForce(t, db); got != step.want {
			t.Errorf("%s: %s, want %s", step.change, got, step.want)
		}
		if *changes == before {
			t.Errorf("%s: nobody is asked again", step.change)
		}
		find(t, w)
		if *changes != before+1 {
			t.Errorf("%s: everybody is asked again for nothing", step.change)
		}
	}
}

// What somebody said by watch() stands, whatever policies say; until he ends it.
func TestAimsLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, sql.Auth+rooms+mayWatch+`select realtime.watch('members', 'owner_id', columns => '{muted}')`)
	w, _ := watcher(t, db)
	const byHand = "trigger owner_id - * by hand"
	for _, step := range []struct{ change, want string }{
		{"", byHand},
		{"create policy q on realtime.messages for select using (exists (select from members))", byHand},
		{"alter table members disable trigger zz_realtime_rights_truncate; drop trigger zz_realtime_rights_truncate on members", byHand},
		{"drop policy q on realtime.messages; select realtime.unwatch('members')", "trigger user_id room:{room_id} {muted,room_id,user_id} own"},
		{"select realtime.watch('members', 'owner_id')", byHand},
	} {
		exec(t, db, step.change)
		find(t, w)
		if got := inForce(t, db); got != step.want {
			t.Errorf("%s: %s, want %s", step.change, got, step.want)
		}
		if n := triggers(t, db, "members"); n != 3 {
			t.Errorf("%s: %d triggers", step.change, n)
		}
	}
}

// A watch that is too narrow and cannot be replaced does not count: the timer makes up for it.
func TestAimThatCannotBeReplacedDoesNotCount(t *testing.T) {
	t.Parallel()
	for name, hinder := range map[string]string{
		"enabled always by the owner": `alter table members enable always trigger zz_realtime_rights`,
		"no privilege any more":       `revoke trigger on members from rowcast`,
		"installs nothing":            ``,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			exec(t, db, sql.Auth+rooms+mayWatch)
			w, _ := watcher(t, db)
			find(t, w)
			w.options.Install = hinder != ""
			exec(t, db, hinder)
			find(t, w)
			if w.needsTimer() {
				t.Errorf("the timer runs for a watch that is right: %s", inForce(t, db))
			}
			exec(t, db, "create policy q on realtime.messages for select using (exists (select from members m where m.owner_id = auth.uid()))")
			find(t, w)
			if got := inForce(t, db); !w.needsTimer() || !strings.HasPrefix(got, "timer user_id room:{room_id}") {
				t.Errorf("%s; timer %t", got, w.needsTimer())
			}
			exec(t, db, "drop policy q on realtime.messages; grant trigger on members to rowcast")
			w.options.Install = true
			clear(w.failed) // its time has come
			find(t, w)
			if got := inForce(t, db); w.needsTimer() || !strings.HasPrefix(got, "trigger user_id room:{room_id}") {
				t.Errorf("right again: %s; timer %t", got, w.needsTimer())
			}
		})
	}
}

// One that is wider than need be counts.
func TestAimThatIsTooWideCounts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, sql.Auth+rooms+mayWatch+"create policy q on realtime.messages for select using (exists (select from members m where m.owner_id = auth.uid()))")
	w, _ := watcher(t, db)
	find(t, w)
	exec(t, db, "alter table members enable always trigger zz_realtime_rights; drop policy q on realtime.messages")
	find(t, w)
	if got := inForce(t, db); got != "trigger - - {muted,owner_id,room_id,user_id} own" || w.needsTimer() {
		t.Errorf("%s; timer %t", got, w.needsTimer())
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	aimed := watch{Subject: "u", Topic: "room:{r}", Columns: []string{"a", "r", "u"}}
	for _, tt := range []struct {
		name   string
		a, b   watch
		covers bool
	}{
		{"the same", aimed, aimed, true},
		{"everybody, for all columns", watch{}, aimed, true},
		{"for another reason", watch{Reason: "x"}, watch{Reason: "y"}, true},
		{"an aim, and everybody is due", aimed, watch{}, false},
		{"another subject", aimed, watch{Subject: "v", Topic: "room:{r}", Columns: []string{"a"}}, false},
		{"another topic", aimed, watch{Subject: "u", Topic: "{r}", Columns: []string{"a"}}, false},
		{"a subject, and none is due", watch{Subject: "u"}, watch{Topic: "room:{r}"}, false},
		{"one column more", watch{Columns: []string{"a", "b"}}, watch{Columns: []string{"a"}}, true},
		{"one column less", watch{Columns: []string{"a"}}, watch{Columns: []string{"a", "b"}}, false},
		{"some columns, and all are due", watch{Columns: []string{"a"}}, watch{}, false},
	} {
		if got := tt.a.covers(tt.b); got != tt.covers {
			t.Errorf("%s: covers %t", tt.name, got)
		}
	}
}

// Where nobody can tell whom changes concern, they concern everybody; and it is asked again.
func TestWithoutProposalsEverybodyIsMeant(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, sql.Auth+rooms+mayWatch)
	w, _ := watcher(t, db)
	find(t, w)
	exec(t, db, `revoke execute on function pg_catalog.pg_get_expr(pg_node_tree, oid, boolean) from public; create policy q on realtime.messages for select using (false)`)
	find(t, w)
	if got := inForce(t, db); got != "trigger - - * own" {
		t.Error(got)
	}
	if _, again := w.nextAttempt(); !again {
		t.Error("it will not be asked again")
	}
	exec(t, db, `grant execute on function pg_catalog.pg_get_expr(pg_node_tree, oid, boolean) to public`)
	find(t, w)
	if got := inForce(t, db); !strings.HasPrefix(got, "trigger user_id room:{room_id}") {
		t.Error(got)
	}
	if _, again := w.nextAttempt(); again {
		t.Error("it will be asked again")
	}
}

// The server's own watch marks what the columns say, and keeps nobody from changing the table.
func TestOwnWatchIsInNobodysWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, sql.Auth+rooms+mayWatch)
	w, _ := watcher(t, db)
	find(t, w)
	listener, err := pgx.Connect(t.Context(), db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close(context.Background()) })
	if _, err := listener.Exec(t.Context(), "listen realtime"); err != nil {
		t.Fatal(err)
	}
	const ann = "a1111111-1111-4111-8111-111111111111"
	for _, step := range []struct{ change, want string }{
		{"insert into members values ('" + ann + "', null, 1, false)", `"s":"` + ann + `","t":"room:1"`},
		{"update members set hits = 1", ""},
		{"update members set owner_id = user_id", ""},
		{"update members set muted = muted", ""},
		{"update members set muted = true", `"s":"` + ann + `","t":"room:1"`},
		{"drop policy p on realtime.messages; alter table members alter room_id type text", ""},
		{"update members set hits = 2", ""},
		{"alter table members drop muted", ""},
		{"update members set hits = 3", `"s":"` + ann + `","t":"room:1"`}, // a column is gone
		{"delete from members", `"s":"` + ann + `","t":"room:1"`},
	} {
		exec(t, db, step.change+"; notify realtime, 'end'")
		var said []string
		for end := false; !end; {
			n, err := listener.WaitForNotification(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if end = n.Payload == "end"; !end {
				said = append(said, n.Payload)
			}
		}
		switch all := strings.Join(said, " "); {
		case step.want == "" && all != "", !strings.Contains(all, step.want):
			t.Errorf("%s: %q, want %q", step.change, all, step.want)
		}
	}
}
