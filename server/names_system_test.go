package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// rowsOfTheirOwners are seen by these as long as they are members anywhere.
const rowsOfTheirOwners = `alter table TABLE enable row level security;
	create policy own on TABLE using (owner = current_setting('request.jwt.claim.sub', true) and exists (select from public.members m where m.user_id = owner));
	insert into TABLE values (1, 'u2', 1), (2, 'u3', 1)`

// shadowTest is a file for policy test, in which names are written out: a script finds them where those of its writer lead.
const shadowTest = `
setup: |
  insert into public.members values ('u9', 'a');
cases:
  - {as: {sub: u9, role: authenticated}, topic: a, may: [receive, send]}
then:
  - after: |
      do $$ begin if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'hostile, pg_catalog, public' then raise 'not the path of the session'; end if; end $$;
      delete from public.members where user_id operator(pg_catalog.=) 'u9'
    cases:
      - {as: {sub: u9, role: authenticated}, topic: a, may_not: [receive, send]}
`

// A server finds nothing in a schema of its search_path that has a namesake of everything in Postgres, from the migrations to its
// end, whatever is asked of it. Whoever may create in such a schema would else have it do what he wants.
func TestServerFindsNoNamesakes(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			findsNoNamesakes(t, source)
		})
	}
}

func findsNoNamesakes(t *testing.T, source string) {
	db := pgtest.NewQuietEmpty(t)
	db.Shadow(t)
	env := healthy(db)
	step := func(what string, codes []int, args ...string) {
		t.Helper()
		got := runProgram(t, env, args...)
		for _, code := range codes {
			if got.code == code && !strings.Contains(got.out+got.errout, "hostile:") && !strings.Contains(got.out, "could not be applied") {
				return
			}
		}
		t.Errorf("%s: %+v", what, got)
	}
	good, either := []int{exitGood}, []int{exitGood, exitFinding}
	step("the migrations", good, "migrate", "up", "--with-auth")
	r := start(t, db, func(c *Config) {
		often(c)
		c.FeedSource, c.DecisionLog = source, "sql"
	})
	caught := func() {
		t.Helper()
		if times, names := db.Caught(t); times != 0 {
			t.Errorf("found in schema hostile, %d times: %s", times, strings.Join(names, "; "))
		}
	}
	defer caught()

	// Broadcast, presence and replay in a private room.
	r.exec(allowMembers + guests + mayWatch + `insert into members (user_id, room) values ('u1', 'a'), ('u2', 'a'), ('u3', 'a')`)
	r.exec("grant select, insert, delete on members to " + pgtest.ServerRole) // for policy test
	r.await("its own watch", func() bool { by, _ := r.noticedBy("public.guests"); return by != "" })
	u1, u2 := r.dial(token(t, "u1", "authenticated", nil)), r.dial(token(t, "u2", "authenticated", nil))
	config := private()
	config["presence"] = map[string]any{"enabled": true, "key": "k"}
	ref := u1.joined("a", config)
	u2.joined("a", config)
	u1.track(ref, "a", map[string]any{"n": 1})
	u2.learns("a", "k:1")
	r.exec(`select realtime.send('{"n": 1}', 'sql', 'a')`)
	if status, answer := u1.reply(u1.push(ref, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "wire", "payload": map[string]any{}})); status != "ok" {
		t.Errorf("a broadcast: %s", answer)
	}
	if answer := r.rest(http.MethodPost, "/api/broadcast/a/events/rest?private=true", token(t, "u2", "authenticated", nil), `{}`); answer.status != http.StatusAccepted {
		t.Errorf("a broadcast over REST: %+v", answer)
	}
	for _, event := range []string{"sql", "wire", "rest"} {
		u2.wait(event, broadcastOf("a", event))
	}
	u3 := r.dial(token(t, "u3", "authenticated", nil))
	if _, status, reason := u3.join("a", replaying(map[string]any{"since": 0})); status != "ok" {
		t.Error(reason)
	}
	u3.wait("what was sent", broadcastOf("a", "sql"))
	if answer := r.rest(http.MethodGet, "/api/presence/a?private=true", token(t, "u2", "authenticated", nil), ""); answer.status != http.StatusOK {
		t.Errorf("presence over REST: %+v", answer)
	}

	// Changes of a table with row level security, behind a snapshot.
	table := r.followed("id int primary key, owner text, n int", rowsOfTheirOwners)
	f := r.followAs("2.0.0", token(t, "u2", "authenticated", nil), table, map[string]any{"filter": "n=gt.0", "snapshot": true})
	f.subscribed(1)
	f.toldOf(1)
	r.exec("insert into " + table + " values (3, 'u2', 1), (4, 'u3', 1), (5, 'u2', 0)")
	f.toldOf(3)
	for kind, statement := range map[string]string{"UPDATE": "update " + table + " set n = 2 where id = 3", "DELETE": "delete from " + table + " where id = 1"} {
		r.exec(statement)
		f.wait(kind, func(m frame) bool { return isEvent(table, "postgres_changes")(m) && changeOf(m).Data.Type == kind })
	}

	// Rights: of the moment, told, and taken away.
	r.logged("a", 3)
	if !r.sync(r.db.Admin, patience) {
		t.Error("not in sync")
	}
	answer, err := http.Post("http://"+r.admin.Addr().String()+"/api/explain", "application/json", strings.NewReader(`{"topic": "a", "sub": "u1"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var report struct{ Receive, Send, Differs bool }
	if err := json.NewDecoder(answer.Body).Decode(&report); err != nil || !report.Receive || !report.Send || report.Differs {
		t.Errorf("explain: %+v, %v", report, err)
	}
	step("explain", good, "explain", "--topic", "a", "--sub", "u1")
	r.exec(`delete from members where user_id = 'u1'; delete from guests where user_id = 'u1'`)
	u1.wait("the end of the channel", isCut("a"))
	r.exec(`select realtime.disconnect('u3')`)
	u3.closed()
	r.exec("insert into " + table + " values (6, 'u2', 1)")
	f.toldOf(6)
	caught()

	// Commands beside it, and its end.
	env = append(env, "ADMIN_ADDR="+r.admin.Addr().String())
	step("policy test", good, "policy", "test", written(t, "test.yaml", shadowTest))
	step("policy diff", either, "policy", "diff", written(t, "new.sql", "drop policy send on realtime.messages"))
	step("policy lint", either, "policy", "lint")
	step("doctor", either, "doctor")
	step("the state of the migrations", good, "migrate", "status")
	caught()
	r.stop()
	step("the way back", good, "migrate", "down")
}
