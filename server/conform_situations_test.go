package main

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
)

// situation is something that can be the matter when a client pushes.
type situation struct {
	name     string
	settings func(*Config)
	cluster  bool                         // needs one of its own
	trouble  func(w *world) (mend func()) // brings it about, when all have joined
}

var situations = []situation{
	{name: "all is well"},
	{name: "rights are in doubt", trouble: func(w *world) func() {
		release := w.lockMembers()
		w.exec(`select realtime.invalidate()`)
		w.await("everybody's rights to be in doubt", func() bool { return counter(w.t, w.running, "realtime_marked_subscriptions_total") > 0 })
		return release
	}},
	{name: "decisions wait for a lock", trouble: func(w *world) func() { return w.lockMembers() }},
	{name: "a policy raises", trouble: func(w *world) func() {
		w.exec(`create policy raises on realtime.messages as restrictive to authenticated using (1 / (select 0) = 1); select realtime.invalidate()`)
		return func() {}
	}},
	{name: "a policy is slow", trouble: func(w *world) func() {
		w.exec(`create policy slow on realtime.messages as restrictive to authenticated using ((select pg_sleep(30)) is not null); select realtime.invalidate()`)
		return func() {}
	}},
	{name: "the table of messages is without security", trouble: func(w *world) func() {
		w.exec(`alter table realtime.messages disable row level security; select realtime.invalidate()`)
		return func() {}
	}},
	{name: "all have lost their rights", trouble: func(w *world) func() {
		w.exec(`delete from members`)
		return func() {}
	}},
	{name: "all have been cut", trouble: func(w *world) func() {
		w.exec(`delete from members`)
		for _, m := range w.members {
			m.wait("the cut", isEvent("a", "phx_close"))
		}
		return func() {}
	}},
	{name: "nobody may send any more", trouble: func(w *world) func() {
		w.exec(`update members set muted = true`)
		return func() {}
	}},
	{name: "the database is not heard", trouble: func(w *world) func() {
		w.begin()
		return w.end
	}},
	{name: "the database is not heard for long", settings: func(c *Config) { c.MaxDeaf = time.Second }, trouble: func(w *world) func() {
		w.begin()
		for _, m := range w.members {
			m.wait("the end of private channels", isEvent("a", "phx_error"))
		}
		return w.end
	}},
	{name: "the network is a black hole", cluster: true, trouble: func(w *world) func() {
		w.network.Freeze()
		return w.network.Thaw
	}},
	{name: "the network is a black hole, and it takes long to be noticed", cluster: true, settings: func(c *Config) { c.DeafAfter, c.MaxDeaf = time.Minute, time.Hour },
		trouble: func(w *world) func() {
			w.network.Freeze()
			return w.network.Thaw
		}},
	{name: "keys are not given", settings: func(c *Config) { c.JWTJWKSURLs = []string{"http://127.0.0.1:9/"} }},
	{name: "the network was a black hole", cluster: true, trouble: func(w *world) func() {
		w.network.Freeze()
		w.await("the silence to be noticed", func() bool { return !w.feed.Hearing() })
		w.network.Thaw()
		return func() {}
	}},
	{name: "the database is gone", cluster: true, trouble: func(w *world) func() {
		if err := w.cluster.Halt(context.Background()); err != nil {
			w.t.Fatal(err)
		}
		return func() {}
	}},
	{name: "the pool is exhausted", trouble: (*world).takePool},
	{name: "everything is limited", settings: func(c *Config) {
		c.MaxJoinsPerSecond, c.MaxChannelsPerSocket, c.MaxEventsPerSecond, c.MaxQueueBytes = 2, 2, 1, 1
	}},
	{name: "tokens have expired", trouble: func(w *world) func() {
		for _, m := range w.members {
			m.push(m.private, "realtime:a", "access_token", map[string]any{"access_token": token(w.t, m.user, "authenticated", map[string]any{"exp": time.Now().Unix() + 2})})
		}
		for _, m := range w.members {
			m.wait("the end of the token", isEvent("a", "phx_close"))
		}
		return func() {}
	}},
	{name: "the server stops", trouble: func(w *world) func() {
		go w.stop()
		return func() {}
	}},
	{name: "the lease is lost", trouble: func(w *world) func() {
		go w.leave(w.t.Context(), *refusedWaiting)
		return func() {}
	}},
}

// lockMembers has every decision that reads the table wait, and be tried again.
func (w *world) lockMembers() (release func()) {
	w.t.Helper()
	lock, err := w.db.Admin.Begin(w.t.Context())
	if err == nil {
		_, err = lock.Exec(w.t.Context(), `lock table members`)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return func() { _ = lock.Rollback(context.Background()) }
}

// takePool takes all connections of the pool, and keeps them.
func (w *world) takePool() (letGo func()) {
	w.t.Helper()
	lock, err := w.db.Admin.Begin(w.t.Context())
	if err == nil {
		_, err = lock.Exec(w.t.Context(), `select pg_advisory_xact_lock(1)`)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	var taken sync.WaitGroup
	for range w.config.PoolSize {
		taken.Go(func() {
			for ctx.Err() == nil { // until it got one of the connections
				_, _ = postgres.Ask(ctx, w.pool, postgres.Limits{Statement: time.Minute}, pgx.RowTo[any], `select pg_advisory_xact_lock(1)`)
			}
		})
	}
	w.await("all connections to be taken", func() bool {
		return labelled(w.t, w.running, "realtime_pool_connections", "busy") >= float64(w.config.PoolSize)
	})
	return func() {
		stop()
		_ = lock.Rollback(context.Background())
		taken.Wait()
	}
}
