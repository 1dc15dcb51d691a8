package wal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"rowcast/server/pgtest"
	"rowcast/server/wal"
)

// blocked is a recorder whose handler stands still at the first change, until it is released.
func blocked(t *testing.T) (r *recorder, standing <-chan struct{}, release func()) {
	r = newRecorder()
	at, free := make(chan struct{}), make(chan struct{})
	r.hold = func(wal.Change) {
		select {
		case at <- struct{}{}:
		case <-free:
		}
		<-free
	}
	done := false
	release = func() {
		if !done {
			done = true
			close(free)
		}
	}
	return r, at, release
}

// with adds a setting to an address.
func with(address, setting string) string {
	if strings.Contains(address, "?") {
		return address + "&" + setting
	}
	return address + "?" + setting
}

// rows are more than fit between Postgres and us.
const rows = "insert into t select n, repeat('x', 1000) from generate_series(1, 20000) n"

// Postgres is answered while the handler does not return, so it does not give us up.
func TestBlockedHandlerKeepsTheConnection(t *testing.T) {
	t.Parallel()
	for name, insert := range map[string]string{"little to read": "insert into t values (1, 'x')", "much to read": rows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := pgtest.New(t)
			exec(t, d, "create table t (id int primary key, text text)", "create publication pub for table t")
			o := options(d)
			o.URL = with(o.URL, "wal_sender_timeout=2s")
			r, standing, release := blocked(t)
			s := begin(t, o, r)
			t.Cleanup(release)
			<-s.ready
			since := ask[time.Time](t, d, "select clock_timestamp()")
			exec(t, d, insert)
			<-standing
			awaitAnswer(t, d, true, `select coalesce(bool_and(reply_time > $1::timestamptz + interval '5 s'), false) from pg_stat_replication r
				join pg_replication_slots s on s.active_pid = r.pid where s.database = current_database()`, since)
			if ask[bool](t, d, `select exists (select from pg_replication_slots s where database = current_database() and confirmed_flush_lsn > $1::pg_lsn)`,
				r.begun().String()) {
				t.Error("what was not told is confirmed")
			}
			release()
			exec(t, d, "delete from t where id = 1")
			s.awaitCommits(t, 2)
		})
	}
}

// A shutdown waits for who reads the WAL, and not for a handler that does not return.
func TestShutdownDoesNotWaitForTheHandler(t *testing.T) {
	t.Parallel()
	for name, insert := range map[string]string{"idle": "", "blocked": "insert into t values (1, 'x')", "blocked, much to read": rows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_sender_timeout": "0"}}) // so that it is not Postgres who ends it
			d := c.DB(t)
			exec(t, d, "create table t (id int primary key, text text)", "create publication pub for table t")
			r, standing, release := blocked(t)
			s := begin(t, options(d), r)
			t.Cleanup(release)
			<-s.ready
			exec(t, d, "select pg_logical_emit_message(true, 'realtime', 'it reads')")
			s.awaitCommits(t, 1)
			if insert != "" {
				exec(t, d, insert)
				<-standing
			}
			began := time.Now()
			if err := c.Halt(context.Background()); err != nil {
				t.Fatal(err)
			}
			t.Logf("stopped after %s", time.Since(began).Round(10*time.Millisecond))
			release()
			if err := s.await(t); !errors.Is(err, wal.ErrStopping) {
				t.Errorf("the stream ended with: %v", err)
			}
		})
	}
}

// While nothing is told, a slot holds nothing back.
func TestIdleStreamHoldsNothingBack(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key)", "create table other (id int)", "create publication pub for table t")
	s := stream(t, options(d), newRecorder())
	exec(t, d, "insert into other select generate_series(1, 10000)")
	place := ask[string](t, d, "select pg_current_wal_lsn()::text")
	awaitAnswer(t, d, true, "select confirmed_flush_lsn >= $1::pg_lsn from pg_replication_slots where slot_name = $2", place, d.Name)
	want, err := readLSN(place)
	if err != nil {
		t.Fatal(err)
	}
	s.awaitThat(t, func() bool { return s.reached >= want })
	if len(s.said) > 0 {
		t.Errorf("of a table that is not published: %q", s.said)
	}
}
