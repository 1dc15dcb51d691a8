package auth_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/server/auth"
	"rowcast/server/metrics"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// policies: on topic t-N the subject N may receive, and may send if N is even; some topics misbehave.
const policies = `
create function die() returns void language sql security definer as 'select pg_terminate_backend(pg_backend_pid())';
create function may(topic text, sub text, sending boolean) returns boolean language plpgsql as $$ begin
	case topic
		when 'sleep' then perform pg_sleep(60);
		when 'kill' then perform die();
		when 'raise' then raise exception 'no';
		else return topic = 't-' || sub and (not sending or sub::int % 2 = 0);
	end case;
	return false;
end $$;
create policy r on realtime.messages for select to authenticated using (may((select realtime.topic()), (select current_setting('request.jwt.claim.sub', true)), false));
create policy s on realtime.messages for insert to authenticated with check (extension = 'broadcast' and may((select realtime.topic()), (select current_setting('request.jwt.claim.sub', true)), true));`

func decider(t *testing.T, db *pgtest.DB) *auth.Decider {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pool, err := postgres.Open(ctx, db.PoolURL, 5)
	if err != nil {
		t.Fatal(err)
	}
	d := auth.NewDecider(auth.DeciderOptions{Pool: pool, BypassRoles: []string{"service_role"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: metrics.New()})
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; pool.Close() })
	return d
}

func request(topic, sub string) auth.Request {
	return auth.Request{Topic: topic, Headers: "{}", Claims: auth.Claims{
		Subject: sub, Role: "authenticated", Raw: []byte(fmt.Sprintf(`{"sub":%q,"role":"authenticated"}`, sub)),
	}}
}

// ask has all requests decided and returns the answers in their order.
func ask(t *testing.T, d *auth.Decider, requests ...auth.Request) []auth.Answer {
	t.Helper()
	answers := make([]auth.Answer, len(requests))
	var group sync.WaitGroup
	group.Add(len(requests))
	for i, r := range requests {
		d.Ask(r, func(a auth.Answer) { answers[i] = a; group.Done() })
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("not all requests were answered")
	}
	return answers
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestEveryRequestGetsItsOwnAnswer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	d := decider(t, db)
	var requests []auth.Request
	for i := range 300 {
		r := request(fmt.Sprint("t-", i), fmt.Sprint(i-i%3%2)) // every third asks for another's topic
		r.Presence = i%5 == 0
		requests = append(requests, r)
	}
	for i, a := range ask(t, d, requests...) {
		own := requests[i].Claims.Subject == fmt.Sprint(i)
		want := auth.Answer{Broadcast: auth.Right{Receive: own, Send: own && i%2 == 0}, Presence: auth.Right{Receive: own && i%5 == 0}}
		if a.Err != nil || a.Code != "" || a.Broadcast != want.Broadcast || a.Presence != want.Presence {
			t.Errorf("request %d as %s: %+v", i, requests[i].Claims.Subject, a)
		}
		if a.Snapshot.IsZero() {
			t.Errorf("request %d has no snapshot", i)
		}
	}
}

// Who asks the same at the same time is given one answer, trouble or not.
func TestTheSameIsAskedOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies+`create sequence asked; grant usage on sequence asked to authenticated;
		create policy counts on realtime.messages as restrictive for insert to authenticated with check (nextval('public.asked') > 0);`)
	d := decider(t, db)
	var requests []auth.Request
	for i := range 400 {
		r := request("t-2", "2")
		switch {
		case i%100 == 50:
			r = request("t-3", "3")
		case i%100 == 51:
			r = request("sleep", "2")
		}
		requests = append(requests, r)
	}
	for i, a := range ask(t, d, requests...) {
		switch topic := requests[i].Topic; {
		case topic == "sleep":
			if a.Code != "57014" && a.Err == nil || a.Broadcast != (auth.Right{}) {
				t.Errorf("sleep: %+v", a)
			}
		case a.Err != nil || !a.Broadcast.Receive || a.Broadcast.Send != (topic == "t-2"):
			t.Errorf("%s: %+v", topic, a)
		}
	}
	var asked int
	if err := db.Admin.QueryRow(t.Context(), "select last_value from asked").Scan(&asked); err != nil || asked > 200 {
		t.Errorf("asked %d times (%v)", asked, err)
	}
}

func TestTroubleStaysWithWhoMakesIt(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	d := decider(t, db)
	var requests []auth.Request
	for _, topic := range []string{"t-2", "raise", "t-2", "sleep", "t-2", "kill", "t-2", "a\x00b", "t-2", "sleep", "t-2"} {
		requests = append(requests, request(topic, "2"))
	}
	for i, a := range ask(t, d, requests...) {
		switch requests[i].Topic {
		case "t-2":
			if a.Err != nil || a.Broadcast != (auth.Right{Receive: true, Send: true}) {
				t.Errorf("a neighbour was harmed: %+v", a)
			}
			continue
		case "raise":
			if a.Code != "P0001" || !strings.Contains(a.Reason, "no") {
				t.Errorf("raise: %+v", a)
			}
		case "sleep":
			if a.Code != "57014" {
				t.Errorf("sleep: %+v", a)
			}
		case "kill":
			if a.Err == nil {
				t.Errorf("kill: %+v", a)
			}
		default:
			if a.Code != "22021" {
				t.Errorf("NUL: %+v", a)
			}
		}
		if a.Broadcast != (auth.Right{}) {
			t.Errorf("%q was allowed: %+v", requests[i].Topic, a)
		}
	}
}

// Many policies that are a little slow are refused for nobody, though together they take longer than one may.
func TestSlowPoliciesShareNoTimer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, `create policy r on realtime.messages for select to authenticated using ((select pg_sleep(0.05)) is not null);
		create policy s on realtime.messages for insert to authenticated with check (true)`)
	d := decider(t, db)
	var requests []auth.Request
	for i := range 60 {
		requests = append(requests, request(fmt.Sprint("t-", i), "1"))
	}
	for i, a := range ask(t, d, requests...) {
		if a.Err != nil || !a.Broadcast.Receive {
			t.Errorf("request %d: %+v", i, a)
		}
	}
}

// What waits behind topics that hang is answered within the bound, and a neighbour's next join is not harmed at all.
func TestHangingPoliciesHoldNobodyForLong(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	d := decider(t, db)
	var requests []auth.Request
	for range 99 {
		requests = append(requests, request("sleep", "2"))
	}
	start := time.Now()
	for _, a := range ask(t, d, append(requests, request("t-2", "2"))...) {
		if a.Broadcast.Receive && a.Err != nil {
			t.Errorf("%+v", a)
		}
	}
	t.Logf("all answered after %v", time.Since(start))
	if a := ask(t, d, request("t-2", "2"))[0]; a.Err != nil || !a.Broadcast.Send {
		t.Errorf("a neighbour of a topic known to hang: %+v", a)
	}
}

// However many requests over REST wait, whose policies take a while, who joins is answered.
func TestRequestsHoldUpNoJoin(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies+`create policy takes_a_while on realtime.messages for insert to authenticated
		with check (realtime.topic() like 'many %' and (select pg_sleep(0.02)) is not null)`)
	d := decider(t, db)
	const many = 1000 // which is twenty seconds of work
	answered := make(chan auth.Answer, many)
	for i := range many {
		r := request(fmt.Sprint("many ", i), "2")
		r.OverREST = true
		d.Ask(r, func(a auth.Answer) { answered <- a })
	}
	if a := <-answered; a.Err != nil {
		t.Fatalf("the first request: %+v", a)
	}
	if a := ask(t, d, request("t-2", "2"))[0]; a.Err != nil || !a.Broadcast.Send {
		t.Errorf("a join: %+v", a)
	}
	if n := len(answered); n > many/2 {
		t.Errorf("%d of the requests were answered before it", n)
	}
}

func TestLostConnectionsAreMadeAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	d := decider(t, db)
	ask(t, d, request("t-2", "2"))
	exec(t, db.Admin, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'rowcast'`)
	if a := ask(t, d, request("t-2", "2"))[0]; a.Err != nil || !a.Broadcast.Send {
		t.Errorf("after the connections were lost: %+v", a)
	}
}
