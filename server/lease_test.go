package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"

	"rowcast/server/feed"
	"rowcast/server/metrics"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// beside starts a server that may have to wait for another. An expiry of a second spares the tests nine.
func beside(t *testing.T, db *pgtest.DB, change func(*Config)) *running {
	t.Helper()
	in := newTestInstance(t, db, change, func(s feed.Sink) feed.Sink { return s })
	in.lease.life = time.Second
	return launch(t, db, in)
}

func allowSecond(c *Config) { c.AllowSecondNode = true }

// get asks one of a server's addresses.
func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(text))
}

// leaseCheck is what the administrator's readyz says of the lease.
func (r *running) leaseCheck() string {
	var told struct{ Checks map[string]string }
	_, body := r.health.Answer(context.Background())
	if err := json.Unmarshal(body, &told); err != nil {
		r.t.Fatal(err)
	}
	return told.Checks["lease"]
}

// refusal dials and returns how that was refused.
func (r *running) refusal() (status int, message string) {
	r.t.Helper()
	url := "ws://" + r.public.Addr().String() + "/socket/websocket?vsn=2.0.0&apikey=" + token(r.t, "u1", "authenticated", nil)
	conn, response, err := websocket.Dial(context.Background(), url, nil)
	if err == nil {
		_ = conn.CloseNow()
		return 0, ""
	}
	if response == nil {
		r.t.Fatal(err)
	}
	var told struct{ Error string }
	if err := json.NewDecoder(response.Body).Decode(&told); err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, told.Error
}

// closed waits for the end of a client's connection and returns its close code.
func (c *client) closed() websocket.StatusCode {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		change, err := c.change, c.err
		c.mu.Unlock()
		if err != nil {
			return websocket.CloseStatus(err)
		}
		select {
		case <-change:
		case <-deadline:
			c.t.Fatal("the client is still connected")
		}
	}
}

// A second server says in whose favour it waits, lets nobody in, and takes over by itself when the first stops.
func TestSecondServerWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first := start(t, db, nil)
	c := first.dial(token(t, "u1", "authenticated", nil))
	second := beside(t, db, func(c *Config) { c.MaxPayloadBytes = 1234 })
	second.await("the second server to know of the first", func() bool { return strings.Contains(second.leaseCheck(), first.lease.name) })

	public, admin := "http://"+second.public.Addr().String(), "http://"+second.admin.Addr().String()
	if code, body := get(t, public+"/readyz"); code != 503 || body != `{"ready":false}` {
		t.Errorf("readyz for everybody: %d %s", code, body)
	}
	code, body := get(t, admin+"/readyz")
	want := regexp.MustCompile(`"database":"ok".*"lease":"one server at a time serves this database, and it is ` + regexp.QuoteMeta(first.lease.name) +
		` since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: stop that one and this one takes over, or set ALLOW_SECOND_NODE=true`)
	if code != 503 || !want.MatchString(body) {
		t.Errorf("readyz for operators: %d %s", code, body)
	}
	for _, address := range []string{public, admin} {
		if code, _ := get(t, address+"/livez"); code != 200 {
			t.Errorf("livez: %d", code)
		}
	}
	if status, message := second.refusal(); status != 503 || message != "Another server serves this database" {
		t.Errorf("socket: %d %q", status, message)
	}
	if _, body := get(t, admin+"/metrics"); !strings.Contains(body, `realtime_sockets_refused_total{reason="other_node"} 1`) ||
		!strings.Contains(body, "realtime_lease_held 0") {
		t.Error("the metrics tell neither the refusal nor the lease")
	}
	limit := func() string {
		return scalar[string](t, db, "select array_to_string(value, ' ') from realtime._settings where name = 'max_payload_bytes'")
	}
	if got := limit(); got != "3000000" {
		t.Errorf("a server that waits has set the limit to %s", got)
	}

	first.stop()
	if code := c.closed(); code != websocket.StatusServiceRestart {
		t.Errorf("the first server's client was closed with %d", code)
	}
	second.awaitReady()
	if got := limit(); got != "1234" {
		t.Errorf("the limit is still %s", got)
	}
	if _, status, reason := second.dial(token(t, "u1", "authenticated", nil)).join("a", nil); status != "ok" {
		t.Errorf("join at the second server: %s", reason)
	}
	if counter(t, second, "realtime_lease_held") != 1 {
		t.Error("the metric does not say that the lease is held")
	}
}

// A row that is removed by hand takes the place away: clients are asked to go, before the server takes another.
func TestRemovedRowEndsService(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := beside(t, db, nil)
	r.awaitReady()
	c := r.dial(token(t, "u1", "authenticated", nil))
	c.join("a", nil)
	r.exec("delete from realtime._nodes")
	c.wait("the word to go", isEvent("a", "system"))
	if code := c.closed(); code != websocket.StatusServiceRestart {
		t.Errorf("closed with %d", code)
	}
	r.await("the server to take clients again", func() bool { status, _ := r.refusal(); return status == 0 })
	if _, status, reason := r.dial(token(t, "u1", "authenticated", nil)).join("a", nil); status != "ok" {
		t.Errorf("join afterwards: %s", reason)
	}
}

// With ALLOW_SECOND_NODE a server serves beside others, and is seen by those that do not allow it.
func TestSecondNodeAllowed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first := start(t, db, nil)
	second := beside(t, db, allowSecond)
	second.awaitReady()
	for _, r := range []*running{first, second} {
		if _, status, reason := r.dial(token(t, "u1", "authenticated", nil)).join("a", nil); status != "ok" {
			t.Errorf("join: %s", reason)
		}
	}
	first.await("the first server to notice", func() bool {
		what, _ := first.lease.news()
		return strings.Contains(what, "another server serves this database too")
	})
	third := beside(t, db, nil)
	third.await("the third server to know of both", func() bool {
		said := third.leaseCheck()
		return strings.Contains(said, first.lease.name) && strings.Contains(said, second.lease.name)
	})
	first.stop()
	third.await("the third server to wait for the second alone", func() bool {
		said := third.leaseCheck()
		return !strings.Contains(said, first.lease.name) && strings.Contains(said, second.lease.name)
	})
	second.stop()
	third.awaitReady()
}

// A row that no server writes is waited for as any other, but the operator is told how to be rid of it.
func TestRowFromTheFuture(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), `insert into realtime._nodes values ('it''s me', 'ghost:1', 'epoch', '294276-01-01')`); err != nil {
		t.Fatal(err)
	}
	r := beside(t, db, nil)
	r.await("the row to be noticed", func() bool { return strings.Contains(r.leaseCheck(), "ghost:1 since 1970-01-01") })
	_, mend, found := strings.Cut(r.leaseCheck(), "as that of ghost:1: if it does not run, ")
	if !found {
		t.Fatal(r.leaseCheck())
	}
	r.exec(mend)
	r.awaitReady()
	r.exec(`update realtime._nodes set expires_at = '294276-01-01'`) // a living server's mends itself
	r.await("the next renewal", func() bool {
		return scalar[bool](t, db, "select expires_at < now() + interval '1 day' from realtime._nodes")
	})
}

// Of any number of servers that ask at once, one gets the lease.
func TestOneOfManyTakesTheLease(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const servers, rounds = 16, 15
	pool, err := postgres.Open(t.Context(), db.PoolURL, servers)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for round := range rounds {
		var leases []*lease
		for range servers {
			leases = append(leases, newLease(false, pool, slog.New(slog.DiscardHandler), metrics.New()))
		}
		if round%2 == 1 { // an expired row is in the way of nobody, and is nobody's twice
			if _, err := db.Admin.Exec(t.Context(), `insert into realtime._nodes values ('dead', 'dead', 'epoch', 'epoch')`); err != nil {
				t.Fatal(err)
			}
		}
		var asking sync.WaitGroup
		begin := make(chan struct{})
		for _, l := range leases {
			asking.Go(func() {
				<-begin
				l.ask(context.Background())
			})
		}
		close(begin)
		asking.Wait()
		var holder *lease
		for _, l := range leases {
			if l.err != nil {
				t.Fatal(l.err)
			}
			if l.held && holder != nil {
				t.Fatalf("round %d: two hold the lease", round)
			}
			if l.held {
				holder = l
			}
		}
		if holder == nil {
			t.Fatalf("round %d: nobody holds the lease", round)
		}
		for _, l := range leases {
			if !l.held && (len(l.others) != 1 || l.others[0].ID != holder.id) {
				t.Errorf("round %d: a server that waits knows of %v", round, l.others)
			}
		}
		holder.release()
	}
	if left := scalar[int](t, db, "select count(*) from realtime._nodes"); left != 0 {
		t.Errorf("%d rows are left", left)
	}
}

// A late renewal is good unless somebody has taken the place; then it is not, however the clocks stand.
func TestLateRenewal(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool, err := postgres.Open(t.Context(), db.PoolURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ask := func(l *lease, held bool) {
		t.Helper()
		if l.ask(t.Context()); l.err != nil || l.held != held {
			t.Fatalf("held %t (%v), want %t", l.held, l.err, held)
		}
	}
	expire := func() {
		if _, err := db.Admin.Exec(t.Context(), "update realtime._nodes set expires_at = clock_timestamp()"); err != nil {
			t.Fatal(err)
		}
	}
	a := newLease(false, pool, slog.New(slog.DiscardHandler), metrics.New())
	b := newLease(false, pool, slog.New(slog.DiscardHandler), metrics.New())
	ask(a, true)
	expire()
	ask(a, true)
	ask(b, false)
	expire()
	ask(b, true)
	ask(a, false) // the renewal
	ask(a, false)
	expire()
	ask(a, true)
	ask(b, false)
	// An answer that was lost was a yes: the same server finds its own row.
	a.held = false
	ask(a, true)
}

// Behind PgBouncer a connection is another's after COMMIT: nothing may stay on it.
func TestLeaseLeavesNothingOnTheConnection(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool, err := postgres.Open(t.Context(), db.PoolURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	look := func() string {
		state, err := postgres.Ask(t.Context(), pool, leaseLimits, pgx.RowTo[string], `select concat_ws(' ', pg_backend_pid(),
			(select string_agg(name || '=' || setting, ' ' order by name) from pg_settings where source = 'session'),
			(select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
			(select count(*) from pg_locks where pid = pg_backend_pid() and relation = 'realtime._nodes'::regclass),
			(select count(*) from pg_prepared_statements))`)
		if err != nil {
			t.Fatal(err)
		}
		return state[0]
	}
	l := newLease(false, pool, slog.New(slog.DiscardHandler), metrics.New())
	before := look()
	for i, do := range []func(){func() { l.ask(t.Context()) }, func() { l.ask(t.Context()) }, l.release} {
		if do(); l.err != nil || l.held != (i < 2) {
			t.Fatalf("held %t (%v)", l.held, l.err)
		}
		if after := look(); after != before {
			t.Errorf("%s is left by %s, before %s", after, []string{"acquire", "renew", "release"}[i], before)
		}
	}
}

// Cut off from its database, a server that has the lease goes on with public channels, whatever the row says; one that
// has it not does not begin.
func TestLeaseWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := beside(t, db, nil)
	r.awaitReady()
	c := r.dial(token(t, "u1", "authenticated", nil))
	joinRef, _, _ := c.join("open", map[string]any{"broadcast": map[string]any{"self": true}})
	say := func(event string) {
		t.Helper()
		c.push(joinRef, "realtime:open", "broadcast", map[string]any{"type": "broadcast", "event": event})
		c.wait(event, broadcastOf("open", event))
	}
	cutOff := "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = '" + pgtest.ServerRole + "'"
	r.exec("alter database " + db.Name + " connection limit 0") // a superuser may still come
	r.exec(cutOff)
	r.await("the expiry of the lease", func() bool {
		r.exec(cutOff) // who connected in between
		return scalar[bool](t, db, "select expires_at < clock_timestamp() from realtime._nodes")
	})
	r.await("readyz to tell", func() bool { return strings.Contains(r.leaseCheck(), "ask for the lease: ") })
	say("while it is away")

	late := beside(t, db, func(c *Config) { c.AllowSecondNode = true })
	late.await("the newcomer to ask in vain", func() bool { return strings.Contains(late.leaseCheck(), "ask for the lease: ") })
	if status, message := late.refusal(); status != 503 || message != "This server waits for its database" {
		t.Errorf("socket: %d %q", status, message)
	}
	r.exec("alter database " + db.Name + " connection limit -1")
	late.awaitReady()
	late.stop()
	r.await("the lease to be renewed or regained", func() bool { return r.leaseCheck() == "ok" })
}

// A server that is started before the migrations waits for them.
func TestLeaseBeforeTheMigrations(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	r := beside(t, db, nil)
	r.await("the missing table to be noticed", func() bool { return strings.Contains(r.leaseCheck(), "does not exist") })
	if status, message := r.refusal(); status != 503 || message != "This server waits for its database" {
		t.Errorf("socket: %d %q", status, message)
	}
	if _, err := (postgres.Migrator{URL: db.URL}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.awaitReady()
}
