package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

// listedPeople is a policy for every topic, about ann and ben.
const listedPeople = `
	create table public.people (name text primary key, speaks boolean not null default true);
	grant select on public.people to authenticated;
	create policy hear on realtime.messages for select to authenticated
		using (exists (select from public.people where name = current_setting('request.jwt.claim.sub')));
	create policy speak on realtime.messages for insert to authenticated
		with check (exists (select from public.people where name = current_setting('request.jwt.claim.sub') and speaks));
	select realtime.watch('public.people', subject => 'name');
	insert into public.people values ('ann'), ('ben');`

// rows reads one column as a superuser.
func (r *running) rows(query string, args ...any) []string {
	r.t.Helper()
	found, err := r.db.Admin.Query(context.Background(), query, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	list, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// logged are the entries of the decision log about a topic, in their order, once there are that many.
func (r *running) logged(topic string, count int) (entries []string) {
	r.t.Helper()
	r.await("the decision log", func() bool {
		entries = r.rows(`select concat_ws(' ', event, subject, case when receive then 'receive' end, case when send then 'send' end, nullif(code, ''), nullif(sqlstate, ''))
			from realtime.decisions where topic = $1 order by number`, topic)
		return len(entries) >= count
	})
	return entries
}

func (r *running) joinAs(subject, topic string) *client {
	r.t.Helper()
	c := r.dial(token(r.t, subject, "authenticated", nil))
	c.join(topic, private())
	return c
}

func TestDecisionLogSaysWhoCouldAndWhen(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.DecisionLog = "sql" })
	r.exec(listedPeople)
	before := time.Now()
	ann := r.joinAs("ann", "room")
	ben := r.joinAs("ben", "room")
	r.joinAs("eve", "room")
	r.joinAs("ann", "elsewhere")
	both := time.Now()
	r.exec(`update public.people set speaks = false where name = 'ben'`)
	r.logged("room", 4)
	muted := time.Now()
	r.exec(`delete from public.people where name = 'ben'`)
	ben.wait("the end", isEvent("room", "phx_close"))
	gone := time.Now()
	ann.push("1", "realtime:room", "phx_leave", nil)
	entries := r.logged("room", 6)
	left := time.Now()
	want := []string{"admitted ann receive send", "admitted ben receive send", "refused eve Unauthorized",
		"changed ben receive", "ended ben NoLongerAuthorized", "ended ann"}
	if !slices.Equal(entries, want) {
		t.Errorf("the log holds %q, want %q", entries, want)
	}
	for _, moment := range []struct {
		when         time.Time
		hears, talks []string
	}{
		{before, nil, nil},
		{both, []string{"ann", "ben"}, []string{"ann", "ben"}},
		{muted, []string{"ann", "ben"}, []string{"ann"}},
		{gone, []string{"ann"}, []string{"ann"}},
		{left, nil, nil},
	} {
		const who = `select subject from realtime.who_could('room', $1, $2)`
		if got := r.rows(who, moment.when, "receive"); !slices.Equal(got, moment.hears) {
			t.Errorf("could receive: %q, want %q", got, moment.hears)
		}
		if got := r.rows(who, moment.when, "send"); !slices.Equal(got, moment.talks) {
			t.Errorf("could send: %q, want %q", got, moment.talks)
		}
	}
}

func TestDecisionLogSaysWhyAPolicyFailed(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.DecisionLog = "sql" })
	r.exec(`create policy broken on realtime.messages for select to authenticated using (1 / (length(topic) - 4) > 0)`)
	r.joinAs("ann", "room")
	if got, want := r.logged("room", 1), []string{"refused ann Unauthorized 22012"}; !slices.Equal(got, want) {
		t.Errorf("the log holds %q, want %q", got, want)
	}
	if reason := r.rows(`select reason from realtime.decisions where topic = 'room'`); !strings.Contains(reason[0], "division by zero") {
		t.Errorf("the reason is %q", reason)
	}
}

func TestDecisionLogHoldsRequestsOverREST(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.DecisionLog = "sql" })
	r.exec(listedPeople)
	for _, subject := range []string{"ann", "eve"} {
		r.rest("POST", "/api/broadcast", token(t, subject, "authenticated", nil), `{"messages":[{"topic":"room","event":"e","payload":{},"private":true}]}`)
	}
	want := []string{"answered ann receive send", "answered eve SendDenied"}
	if got := r.logged("room", 2); !slices.Equal(got, want) {
		t.Errorf("the log holds %q, want %q", got, want)
	}
}

// An answer of no rows is "nobody", and nothing else may look like it.
func TestWhoCouldSaysWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Severity+" "+n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := db.Admin.Exec(t.Context(), `begin; set local role authenticated; select realtime.who_could('room', now())`); err == nil || !strings.Contains(err.Error(), "permission denied for function who_could") {
		t.Errorf("a token role: %v", err)
	}
	for call, want := range map[string]string{
		`'room', now(), action => 'read'`:          "who_could(): action is 'read', expected receive or send",
		`'room', now(), action => null`:            "who_could(): action is null, expected receive or send",
		`'room', now(), extension => 'broadcasts'`: "who_could(): extension is 'broadcasts', expected broadcast or presence",
		`null, now()`:  "who_could(): topic and time must be given",
		`'room', null`: "who_could(): topic and time must be given",
	} {
		if _, err := conn.Exec(t.Context(), `select realtime.who_could(`+call+`)`); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", call, err)
		}
	}
	insert := func(event, at string) {
		t.Helper()
		if _, err := db.Admin.Exec(t.Context(), `insert into realtime.decisions (node, number, at, subscription, event, topic, subject, role, receive, send, presence_receive, presence_send, code, sqlstate, reason, generation, latency)
			select 'n', count(*) + 1, now() - $2::interval, 1, $1, 'room', 'ann', 'authenticated', false, false, false, true, '', '', '', 1, '0' from realtime.decisions`, event, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		event, at string // an entry that is made first
		warning   string
		rows      int64
	}{
		{"", "", "WARNING the decision log holds nothing from before then", 0},
		{"admitted", "1 minute", "WARNING the decision log holds nothing from before then", 0},
		{"admitted", "2 hours", "", 1},
		{"lost", "90 minutes", "WARNING entries from before then are missing", 1},
	} {
		if said = nil; step.event != "" {
			insert(step.event, step.at)
		}
		tag, err := conn.Exec(t.Context(), `select realtime.who_could('room', now() - interval '1 hour', 'send', 'presence')`)
		if err != nil || tag.RowsAffected() != step.rows || (step.warning == "") != (len(said) == 0) || !strings.HasPrefix(strings.Join(said, "\n"), step.warning) {
			t.Errorf("%+v: %s, %q, %v", step, tag, said, err)
		}
	}
}

// A server that stops writes down what is left; one that is killed cannot, and whoever takes its place says so.
func TestDecisionLogEndsWithItsServer(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.DecisionLog = "sql" })
	r.exec(listedPeople)
	const who = `select subject from realtime.who_could('room', clock_timestamp())`
	r.joinAs("ann", "room")
	r.logged("room", 1)
	if got := r.rows(who); !slices.Equal(got, []string{"ann"}) {
		t.Fatalf("could receive: %q", got)
	}
	r.exec(`alter table realtime.decisions add check (event <> 'ended')`) // as if it could not write any more
	r.exec(`delete from realtime._nodes`)                                 // as its successor does
	if got := r.rows(who); len(got) > 0 {
		t.Errorf("of a server that is gone, %q could still receive", got)
	}
}

// The channels of a server that was killed end when its place did, though nobody says so before another one starts; those of the
// servers beside it go on.
func TestDecisionLogEndsWithAKilledServer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	killed := startSeparate(t, db)
	change := func(c *Config) { c.DecisionLog, c.AllowSecondNode = "sql", true }
	r := beside(t, db, change)
	r.awaitReady()
	r.exec(listedPeople)
	if _, status, reason := dial(t, killed.public, token(t, "ann", "authenticated", nil)).join("room", private()); status != "ok" {
		t.Fatal(reason)
	}
	ben := r.joinAs("ben", "room")
	r.logged("room", 2)
	could := func(when time.Time) []string {
		return r.rows(`select subject from realtime.who_could('room', $1)`, when)
	}
	both := time.Now()
	if err := killed.process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.await("its place to expire", func() bool {
		return scalar[bool](t, db, `select expires_at < clock_timestamp() from realtime._nodes where id <> $1`, r.lease.id)
	})
	expired := time.Now()
	beside(t, db, change).awaitReady()
	gone := r.rows(`select reason || ' ' || (at <= $1) from realtime.decisions where event = 'node_gone'`, expired)
	if want := []string{killed.name + " true"}; !slices.Equal(gone, want) {
		t.Errorf("gone: %q, want %q", gone, want)
	}
	for _, moment := range []struct {
		when time.Time
		want []string
	}{{both, []string{"ann", "ben"}}, {expired, []string{"ben"}}, {time.Now(), []string{"ben"}}} {
		if got := could(moment.when); !slices.Equal(got, moment.want) {
			t.Errorf("could receive: %q, want %q", got, moment.want)
		}
	}
	if !r.sync(db.Admin, 60*time.Second) {
		t.Error("not in a minute: the one that is gone is waited for")
	}
	r.lives(ben, "room", false)
}

func TestDecisionLogIsWrittenUpWhenTheServerStops(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	in := newTestInstance(t, db, func(c *Config) { c.DecisionLog = "sql" }, func(s feed.Sink) feed.Sink { return s })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.run(ctx) }()
	r := &running{in, t, db, stop}
	defer stop()
	r.awaitReady()
	r.exec(listedPeople)
	for range 3 {
		r.joinAs("ann", "room")
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	events := r.rows(`select event from realtime.decisions where topic = 'room' order by number`)
	slices.Sort(events)
	if want := []string{"admitted", "admitted", "admitted", "ended", "ended", "ended"}; !slices.Equal(events, want) {
		t.Errorf("the log holds %q, want %q", events, want)
	}
}

// linesOf are those of a log, each one JSON, that have this message.
func linesOf(log, message string) (found []map[string]any) {
	for line := range strings.Lines(log) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}

func TestDecisionLogAsLines(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var out lockedBuffer
	c := testConfig(db)
	c.DecisionLog = "log"
	in, err := newInstance(context.Background(), c, slog.New(slog.NewJSONHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r := launch(t, db, in)
	r.awaitReady()
	r.exec(listedPeople)
	r.joinAs("ann", "room")
	r.joinAs("eve", "room")
	r.await("two lines", func() bool { return len(linesOf(out.String(), "decision")) == 2 })
	said := linesOf(out.String(), "decision")
	for i, want := range []map[string]any{
		{"event": "admitted", "sub": "ann", "role": "authenticated", "topic": "room", "receive": true, "send": true, "code": ""},
		{"event": "refused", "sub": "eve", "role": "authenticated", "topic": "room", "receive": false, "send": false, "code": "Unauthorized"},
	} {
		for key, value := range want {
			if said[i][key] != value {
				t.Errorf("line %d: %s is %v, want %v", i, key, said[i][key], value)
			}
		}
	}
	if got := r.rows(`select event from realtime.decisions`); len(got) > 0 {
		t.Errorf("the table holds %q, though only lines were asked for", got)
	}
}
