package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"rowcast/server/api"
	"rowcast/server/pgtest"
)

// diffed is a server with sessions: u1 twice, u2 and the muted u3 in room a, u1 in room b, and u1 on a public channel.
type diffed struct {
	*running
	env    []string
	opened map[*client]string // join refs in room a
}

func newDiffed(t *testing.T, change func(*Config)) *diffed {
	t.Helper()
	r := start(t, pgtest.New(t), change)
	r.exec(allowMembers + `insert into members (user_id, room, muted) values ('u1', 'a', false), ('u2', 'a', false), ('u3', 'a', true), ('u1', 'b', false); grant all on members to dba`)
	d := &diffed{r, append(databaseEnv(r.db), "ADMIN_ADDR="+r.admin.Addr().String()), map[*client]string{}}
	tokens := map[string]string{}
	for _, user := range []string{"u1", "u1", "u2", "u3"} {
		if tokens[user] == "" {
			tokens[user] = token(t, user, "authenticated", nil)
		}
		c := r.dial(tokens[user])
		d.opened[c] = d.joined(c, "a", private())
		if len(d.opened) == 1 {
			config := private()
			config["presence"] = map[string]any{"enabled": true}
			d.joined(c, "b", config)
			d.joined(c, "open", map[string]any{})
		}
	}
	return d
}

func (d *diffed) joined(c *client, room string, config map[string]any) string {
	d.t.Helper()
	joinRef, status, reason := c.join(room, config)
	if status != "ok" {
		d.t.Fatal(reason)
	}
	return joinRef
}

// diff tries a script out, and checks that it has changed nothing.
func (d *diffed) diff(t *testing.T, script string, flags ...string) result {
	t.Helper()
	got := runProgram(t, d.env, append([]string{"policy", "diff", written(t, "new.sql", script)}, flags...)...)
	var policies, members int
	err := d.db.Admin.QueryRow(t.Context(), `select (select count(*) from pg_policies where tablename = 'messages'), (select count(*) from members)`).Scan(&policies, &members)
	if err != nil || policies != 2 || members != 4 {
		t.Errorf("%s: %d policies, %d members, %v", script, policies, members, err)
	}
	for c, joinRef := range d.opened {
		status, response := c.reply(c.push(joinRef, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}}))
		if status != "ok" && !strings.Contains(string(response), "SendDenied") { // u3 is muted
			t.Errorf("%s: an open session was told %s", script, response)
		}
	}
	return got
}

const (
	noneMuted = `alter policy receive on realtime.messages using (exists (select from public.members m
		where m.user_id = (select current_setting('request.jwt.claim.sub', true)) and m.room = (select realtime.topic()) and not m.muted));`
	allSend = `create policy more on realtime.messages for insert to authenticated with check (true);`
)

func TestPolicyDiff(t *testing.T) {
	t.Parallel()
	d := newDiffed(t, nil)
	const head = "5 private sessions, 4 of them distinct, were decided before and after; everything is undone\n"
	none := func(lost, mute, in, talk int) string {
		return fmt.Sprintf("would lose receive: %d\nwould lose send: %d\nwould gain receive: %d\nwould gain send: %d\n", lost, mute, in, talk)
	}
	tests := []struct {
		name, script string
		sums         string
		examples     []string
		wrong        string // on stderr; "": exit code 0
	}{
		{"nothing", "", none(0, 0, 0, 0), nil, ""},
		{"a comment", "-- nothing", none(0, 0, 0, 0), nil, ""},
		{"the muted are cut", noneMuted, none(1, 0, 0, 0), []string{"a: u3 as authenticated; receive: no policy"}, "rights would change: 1"},
		{"the muted send", allSend, none(0, 0, 0, 1), []string{"a: u3 as authenticated\n"}, "rights would change: 1"},
		{"both", noneMuted + allSend, none(1, 0, 0, 1), nil, "rights would change: 2"},
		{"a room is emptied", "delete from members where room = 'a' and not muted", none(3, 3, 0, 0), []string{"a: u1 as authenticated (2 sessions); ", "a: u2 as authenticated; "}, "rights would change: 6"},
		{"presence", "alter policy receive on realtime.messages using (extension = 'broadcast')", none(1, 0, 0, 0), []string{"b: u1 as authenticated; receive: no policy"}, "rights would change: 1"},
		{"all policies go", "drop policy send on realtime.messages; drop policy receive on realtime.messages; create policy x on realtime.messages using (false); create policy y on realtime.messages as restrictive using (false)",
			none(5, 4, 0, 0), nil, "rights would change: 9"},
		{"grants", "revoke insert on realtime.messages from authenticated", none(0, 4, 0, 0), []string{"permission denied for table messages"}, "rights would change: 4"},
	}
	for _, tt := range tests {
		got := d.diff(t, tt.script)
		sums := ""
		for line := range strings.Lines(got.out) {
			if strings.HasPrefix(line, "would ") {
				sums += line
			}
		}
		if !strings.HasPrefix(got.out, head) || sums != tt.sums {
			t.Errorf("%s: %s", tt.name, got.out)
		}
		for _, example := range tt.examples {
			if !strings.Contains(got.out, "\n  ") || !strings.Contains(got.out, example) {
				t.Errorf("%s: no example %q in %s", tt.name, example, got.out)
			}
		}
		if code, errout := exitFinding, "rowcast policy: "+tt.wrong+"\n"; tt.wrong == "" && got.code != exitGood || tt.wrong != "" && (got.code != code || got.errout != errout) {
			t.Errorf("%s: exit code %d, %s", tt.name, got.code, got.errout)
		}
	}
}

// What cannot be found out is no success, changes nothing, and keeps nobody waiting for long.
func TestPolicyDiffFails(t *testing.T) {
	t.Parallel()
	d := newDiffed(t, nil)
	d.exec(`create function slow() returns boolean language plpgsql as $$ begin perform pg_sleep(2); return true; end $$`)
	const slow = "alter policy receive on realtime.messages using (slow())"
	for script, want := range map[string]string{
		allSend + "\nselct 1;":                            `run the script: line 2: syntax error at or near "selct"`,
		"delete from members;\nselect 1/0":                "run the script: division by zero",
		"delete from members; commit":                     "no statement may begin or end a transaction",
		"begin; delete from members; commit; select 1":    "no statement may begin or end a transaction",
		"delete from members; do $$ begin commit; end $$": "no statement may begin or end a transaction",
		"create temp table a (id int primary key); create temp table b (id int references a deferrable initially deferred); insert into b values (1)": "violates foreign key constraint",
		"create index concurrently on members (room)": "CREATE INDEX CONCURRENTLY cannot",
		slow: " of 5 questions in 1s; --hold gives more",
	} {
		if got := d.diff(t, script, "--hold", "1s"); got.code != exitFinding || got.out != "" || !strings.Contains(got.errout, want) {
			t.Errorf("%s: %+v", script, got)
		}
	}

	tx, err := d.db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), "select from realtime.messages"); err != nil { // with which ALTER POLICY is in conflict
		t.Fatal(err)
	}
	if got := d.diff(t, noneMuted, "--lock-timeout", "100ms"); got.code != exitFinding || !strings.Contains(got.errout, "lock timeout") {
		t.Errorf("behind a lock: %+v", got)
	}

	file := written(t, "new.sql", "")
	for _, args := range [][]string{{}, {file, file}, {"nowhere.sql"}, {file, "--hold", "0s"}, {file, "--lock-timeout", "soon"}} {
		if got := runProgram(t, d.env, append([]string{"policy", "diff"}, args...)...); got.code != exitUsage {
			t.Errorf("%q: %+v", args, got)
		}
	}
	d.env[1] = "ADMIN_ADDR=127.0.0.1:1"
	if got := d.diff(t, ""); got.code != exitFinding || !strings.Contains(got.errout, "no server answers on ADMIN_ADDR") {
		t.Errorf("no server: %+v", got)
	}
}

// Whom the policies say nothing about in time is counted as that, before and after, and is no success.
func TestPolicyDiffCountsTheUndecided(t *testing.T) {
	t.Parallel()
	d := newDiffed(t, seldom)
	d.exec(`create table held (n int); grant select on held to authenticated;
		create function waits() returns boolean language plpgsql as $$ begin
			if current_setting('request.jwt.claim.sub', true) = 'u2' then return exists (select from public.held); end if;
			return true;
		end $$`)
	const (
		waits  = `create policy waits on realtime.messages as restrictive for insert with check (waits());`
		decide = "5 private sessions, 4 of them distinct, were decided before and after; everything is undone\nwould lose receive: 0\nwould lose send: 0\nwould gain receive: 0\nwould gain send: 0\n"
	)
	hold := func() (release func()) {
		t.Helper()
		tx, err := d.db.Admin.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "lock table held"); err != nil {
			t.Fatal(err)
		}
		return func() { _ = tx.Rollback(context.Background()) }
	}
	diff := func(when, script string) {
		t.Helper()
		if !d.sync(d.db.Admin, 60*time.Second) { // so that the server has nothing to ask meanwhile, and waits for no lock
			t.Fatal("not in a minute")
		}
		defer hold()()
		want := result{exitFinding, decide + "could not be decided in time: 1\n", "rowcast policy: not decided: 1\n"}
		if got := runProgram(t, d.env, "policy", "diff", written(t, "new.sql", script), "--hold", "60s", "--lock-timeout", "1s"); got != want {
			t.Errorf("undecided %s: %+v, want %+v", when, got, want)
		}
	}
	diff("afterwards", waits)
	d.exec(waits)
	diff("before", `drop policy waits on realtime.messages`)
}

// A right that was taken where nobody watches is named: the session lives on.
func TestPolicyDiffNamesStaleSessions(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.RecheckInterval = 0 })
	r.exec(allowMembers + `select realtime.unwatch('members'); insert into members values ('u1', 'a')`)
	if _, status, reason := r.dial(token(t, "u1", "authenticated", nil)).join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	r.exec(`delete from members`)
	got := runProgram(t, append(databaseEnv(r.db), "ADMIN_ADDR="+r.admin.Addr().String()), "policy", "diff", written(t, "new.sql", ""))
	if got.code != exitGood || !strings.Contains(got.out, "are still open: 1 (select realtime.invalidate()") {
		t.Errorf("%+v", got)
	}
}

// The list is for programs on the same machine, and holds no token.
func TestSessionsForOperators(t *testing.T) {
	t.Parallel()
	d := newDiffed(t, nil)
	ask := func(host string, headers map[string]string) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.admin.Addr().String()+"/sessions", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		for name, value := range headers {
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
	for _, refused := range []struct {
		host    string
		headers map[string]string
	}{
		{"rebound.example", nil}, {"127.0.0.1.example:4001", nil}, {"10.0.0.1", nil}, {"[::2]:80", nil}, {"", map[string]string{"Origin": "http://localhost"}},
		{"localhost", map[string]string{"Sec-Fetch-Mode": "no-cors"}},
	} {
		if response := ask(refused.host, refused.headers); response.StatusCode != http.StatusForbidden || response.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%+v: %s", refused, response.Status)
		}
	}
	for _, host := range []string{"localhost", "localhost:4001", "127.0.0.1", "[::1]", "[::1]:4001"} {
		if response := ask(host, nil); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", host, response.Status)
		}
	}
	listed := map[string]int{}
	lines := bufio.NewScanner(ask("", nil).Body)
	for lines.Scan() {
		var s api.Session
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		right := api.Right{Receive: true, Send: s.Subject != "u3"}
		want := api.Rights{Broadcast: right}
		if s.Presence {
			want.Presence = right
		}
		if s.Rights != want || s.Role != "authenticated" || s.InDoubt || string(s.Headers) != `{"x-test":"yes"}` || !strings.Contains(string(s.Claims), `"sub":"`+s.Subject+`"`) {
			t.Errorf("%s", lines.Bytes())
		}
		listed[s.Topic+" "+s.Subject]++
	}
	if want := "map[a u1:2 a u2:1 a u3:1 b u1:1]"; lines.Err() != nil || fmt.Sprint(listed) != want {
		t.Errorf("%v, want %s; %v", listed, want, lines.Err())
	}
}
