package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// Slow policies cannot take all connections; what takes them all makes the server deaf until it lets go.
func TestFaultPoolExhausted(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	f.sql(`create policy slow on realtime.messages as restrictive for select to authenticated
		using (case when (select realtime.topic()) like 'slow%' then (select pg_sleep(60)) is not null else true end)`)
	c := f.dial(token(t, "u1", "authenticated", nil))
	var refs []string
	for i := range 40 {
		refs = append(refs, c.push("", fmt.Sprint("realtime:slow-", i), "phx_join", config(private())))
	}
	f.await("slow policies to be asked", func() bool { return len(f.backends(`wait_event = 'PgSleep'`)) > 0 })
	f.joins("u1")
	for _, ref := range refs {
		if status, _ := c.reply(ref); status != "error" {
			t.Error("admitted without an answer")
		}
	}

	locked, err := f.db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locked.Exec(t.Context(), `select pg_advisory_xact_lock(1)`); err != nil {
		t.Fatal(err)
	}
	ctx, letGo := context.WithCancel(t.Context())
	var taken sync.WaitGroup
	for range f.config.PoolSize {
		taken.Go(func() {
			for ctx.Err() == nil { // until it got one of the connections
				_, _ = postgres.Ask(ctx, f.pool, postgres.Limits{Statement: time.Minute}, pgx.RowTo[any], `select pg_advisory_xact_lock(1)`)
			}
		})
	}
	f.awaitDeaf()
	f.awaitFinding("database", fmt.Sprintf("all %d of the pool are busy", f.config.PoolSize))
	if busy := counter(t, f.running, "realtime_pool_connections"); busy != float64(f.config.PoolSize) {
		t.Errorf("the metrics tell of %v connections", busy)
	}
	f.publicGoesOn()
	f.joinsArePutOff()
	f.revoke()
	letGo()
	taken.Wait()
	if err := locked.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.heals()
}

// takers hold all connections that an ordinary role can have.
type takers struct {
	t     *testing.T
	url   string
	conns []*pgx.Conn
}

// more takes what there is to take.
func (x *takers) more() {
	x.t.Helper()
	for {
		conn, err := pgx.Connect(context.Background(), x.url)
		if postgres.SQLState(err) == "53300" {
			return
		}
		if err != nil {
			x.t.Fatal(err)
		}
		x.conns = append(x.conns, conn)
	}
}

func (x *takers) release() {
	for _, conn := range x.conns {
		_ = conn.Close(context.Background())
	}
	x.conns = nil
}

// Others take every connection that the database gives. The server lives on those that it has; when these are lost too it
// is deaf, until there are some again.
func TestFaultConnectionsTaken(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{Settings: map[string]string{"max_connections": "25"}})
	others := &takers{t: t, url: f.db.As(pgtest.DBARole)}
	defer others.release()
	others.more()
	for range 5 {
		f.joins("u1")
	}
	f.sendsAgain()
	if !f.feed.Hearing() {
		t.Error("deaf with connections of its own")
	}
	f.await("the server to have lost all its connections, and to say so", func() bool {
		for _, pid := range f.backends("true") {
			_, _ = f.db.Admin.Exec(t.Context(), `select pg_terminate_backend($1)`, pid)
		}
		others.more() // a backend that is not seen any more may still have its slot, which the server is then given again
		return len(f.backends("true")) == 0 && f.finds("database", "53300", "too many clients", "remaining connection slots")
	})
	others.more()
	f.awaitDeaf()
	f.publicGoesOn()
	f.joinsArePutOff()
	f.revoke()
	others.release()
	f.heals()
}

// All connections of the pool die at once, while nobody uses them. Nobody notices.
func TestFaultPoolTerminated(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	var together sync.WaitGroup
	for range 30 { // so that there are several
		together.Go(func() { f.joins("u1") })
	}
	together.Wait()
	before := counter(t, f.running, "realtime_feed_reconnects_total")
	f.sql(`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rowcast' and not ` + isListener)
	c := f.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" && !strings.HasPrefix(reason, "Deaf: ") {
		t.Errorf("a join right after: %s %s", status, reason)
	}
	f.publicGoesOn()
	f.revoke()
	f.heals()
	if again := counter(t, f.running, "realtime_feed_reconnects_total") - before; again != 0 {
		t.Errorf("the listener was set up again %v times, and nothing was the matter with it", again)
	}
}
