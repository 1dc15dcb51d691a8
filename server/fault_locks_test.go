package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// Whoever waits for an exclusive lock on realtime.messages has all decisions wait behind him, as long as a forgotten
// reader keeps him waiting. Joins are told to try again, no more of them wait than there are workers, and those who have
// joined go on.
func TestFaultMessagesLocked(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	for _, tt := range []struct {
		name, holds, waits string // whoever holds a lock, and keeps somebody waiting who wants one
		joins              int
	}{
		{"ALTER POLICY waits", `select count(*) from realtime.messages`, `alter policy receive on realtime.messages to authenticated`, 40},
		{"LOCK TABLE", `lock table realtime.messages`, `select count(*) from realtime.messages`, 1},
	} {
		holder, waiter := f.begin(), f.begin()
		if _, err := holder.Exec(t.Context(), tt.holds); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() {
			_, err := waiter.Exec(t.Context(), tt.waits)
			waited <- errors.Join(err, waiter.Commit(t.Context()))
		}()
		f.awaitFinding("database", "lock timeout")
		f.manyJoinsArePutOff(tt.name, tt.joins)
		f.publicGoesOn()
		f.goes.wait("a broadcast on a session that there was", broadcastOf("a", f.say(f.stays, "a", f.private)))
		if !f.feed.Hearing() {
			t.Errorf("%s: deaf", tt.name)
		}
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		f.joins("u1")
		if !f.sync(f.db.Admin, patience) { // or those who have joined wait for an answer about ALTER POLICY, behind the next lock
			t.Fatal("not synced")
		}
	}
	f.revoke()
	f.heals()
}

// A forgotten reader keeps the maintenance of partitions waiting. That is for later, and no reason to serve nobody.
func TestFaultMaintenancePutOff(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	reader, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.Background())
	if _, err := reader.Exec(t.Context(), `select count(*) from realtime.messages_default`); err != nil {
		t.Fatal(err)
	}
	r := start(t, db, nil)
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	r.exec(`select realtime.send('{}', 'stored', 'a')`)
	c.wait("a message of a day without a partition", broadcastOf("a", "stored"))
}

// begin opens a transaction as a superuser.
func (f *faulted) begin() pgx.Tx {
	f.t.Helper()
	tx, err := f.db.Admin.Begin(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

func (f *faulted) manyJoinsArePutOff(name string, many int) {
	f.t.Helper()
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		var all sync.WaitGroup
		for range many {
			all.Go(f.joinsArePutOff)
		}
		all.Wait()
	}()
	most := 0
	for {
		most = max(most, len(f.backends(`wait_event_type = 'Lock' and not `+isListener)))
		select {
		case <-joined:
			if most == 0 || most > f.config.PoolSize {
				f.t.Errorf("%s: up to %d of %d joins waited in the database", name, most, many)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A database that takes no writes cannot be asked. Nobody is denied anything for it; sessions whose rights are in doubt
// wait, the others go on.
func TestFaultReadOnly(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	f.sql(`alter system set default_transaction_read_only = on`)
	f.sql(`select pg_reload_conf()`)
	f.awaitFinding("database", "read-only transaction")
	f.publicGoesOn()
	f.joinsArePutOff()
	f.sql(`begin read write; delete from members where user_id = 'u2'; commit`) // somebody who may
	f.forbidden = []string{}
	f.await("u2's rights to be in doubt", func() bool { return counter(t, f.running, "realtime_marked_subscriptions_total") > 0 })
	event := f.say(f.stays, "a", f.private)
	f.goes.wait("a public broadcast", broadcastOf("open", f.say(f.stays, "open", f.all)))
	f.stays.wait("its own broadcast", broadcastOf("a", event))
	if n := count(f.goes, isEvent("a", "phx_close")) + count(f.goes, isEvent("a", "phx_error")); n != 0 {
		t.Error("the session was ended without an answer")
	}
	f.sql(`alter system reset default_transaction_read_only`)
	f.sql(`select pg_reload_conf()`)
	f.heals()
}

// A commit that notifies hangs, as when its synchronous standby is gone, and all notifications wait behind it.
func TestFaultCommitsHang(t *testing.T) {
	t.Parallel()
	f := startFaultedAlone(t, pgtest.Options{})
	mend := f.commitsHang()
	f.awaitDeaf()
	f.awaitFinding("feed", "cannot prove that it hears")
	f.publicGoesOn()
	f.joinsArePutOff()
	mend()
	f.revoke()
	f.heals()
}

// commitsHang has one commit hang that notifies, until what it returns is called.
func (f *faulted) commitsHang() (mend func()) {
	f.t.Helper()
	f.sql(`alter system set synchronous_standby_names = 'nobody'`)
	f.sql(`select pg_reload_conf()`)
	ctx, stop := context.WithCancel(f.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil { // the setting takes its time; then the first one hangs
			_, _ = f.db.Admin.Exec(f.t.Context(), `select pg_notify('other', '')`)
		}
	}()
	f.await("a commit to hang", func() bool {
		var waits bool
		err := f.db.Admin.QueryRow(f.t.Context(), `select exists (select from pg_stat_activity where wait_event = 'SyncRep')`).Scan(&waits)
		return err == nil && waits
	})
	return func() {
		f.t.Helper()
		stop()
		f.sql(`alter system reset synchronous_standby_names`)
		f.sql(`select pg_reload_conf()`)
		<-ended
	}
}

// The data lie on a disk of a hundred megabytes, and somebody fills it.
func TestFaultDiskFull(t *testing.T) {
	t.Parallel()
	if err := pgtest.CanHaveDisk(t.Context()); err != nil {
		t.Skip("a cluster cannot have a disk of its own here:", err)
	}
	f := startFaultedAlone(t, pgtest.Options{Disk: 128 << 20, Settings: map[string]string{
		"min_wal_size": "32MB", "max_wal_size": "64MB", "autovacuum": "off", "dynamic_shared_memory_type": "posix"}})
	f.sql(`create policy read_only on realtime.messages for select to authenticated using (realtime.topic() = 'news')`)
	ballast := func(megabytes int) error {
		return f.try(fmt.Sprintf(`do $$ begin execute format('copy (select repeat(''x'', 1000000) from generate_series(1, %d)) to %%L',
			current_setting('data_directory') || '/ballast'); end $$`, megabytes))
	}
	if err := ballast(1000); err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Fatalf("fill the disk: %v", err)
	}
	// What there is of free space in the pages of the table for probes.
	f.await("probes to find no place", func() bool {
		err := f.try(`select realtime.can('receive', 'a', role => 'authenticated') from generate_series(1, 100)`)
		if err != nil {
			t.Fatal(err)
		}
		ready, body := f.health.Answer(t.Context())
		return !ready && strings.Contains(string(body), "No space left on device")
	})
	f.publicGoesOn()
	f.joins("u1") // who may do all is decided about without a row
	f.isPutOff("news")
	f.stays.wait("a broadcast on the session that there was", broadcastOf("a", f.say(f.stays, "a", f.private)))
	f.sql(`delete from members where user_id = 'u2'`)
	f.forbidden = []string{}
	if err := ballast(0); err != nil {
		t.Fatal(err)
	}
	f.heals()
}
