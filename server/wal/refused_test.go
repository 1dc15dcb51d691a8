package wal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/server/wal"
)

// refused has a stream refused, and holds its error to what it must say.
func refused(t *testing.T, o wal.Options, want error, mends ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := wal.Stream(ctx, o, newRecorder(), func(wal.LSN) { t.Error("the stream is ready") })
	if !errors.Is(err, want) {
		t.Fatalf("refused with %v, want %v", err, want)
	}
	for _, mend := range mends {
		if !strings.Contains(err.Error(), mend) {
			t.Errorf("%q does not say %q", err, mend)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one line", err)
	}
}

func TestNoReplication(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	role := d.NewRole(t, "login")
	o := options(d)
	o.URL = d.As(role)
	refused(t, o, wal.ErrNoReplication, `alter role "`+role+`" replication`)
	exec(t, d, "alter role "+role+" replication", "create publication pub") // the mend is one
	stream(t, o, newRecorder())
	exec(t, d, "revoke connect on database "+d.Name+" from public") // is refused with the same code
	o.Slot += "2"
	err := wal.Stream(t.Context(), o, newRecorder(), func(wal.LSN) {})
	if err == nil || errors.Is(err, wal.ErrNoReplication) {
		t.Errorf("without CONNECT: %v", err)
	}
}

func TestNotLogical(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_level": "replica"}})
	refused(t, options(c.DB(t)), wal.ErrNotLogical, "alter system set wal_level = 'logical'", "restart")
}

func TestNothingFree(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_replication_slots": "2", "max_wal_senders": "3"}})
	d := c.DB(t)
	exec(t, d, "create publication pub")
	o := options(d)
	for _, slot := range []string{"one", "two"} {
		o.Slot = slot
		stream(t, o, newRecorder())
	}
	o.Slot = "three"
	refused(t, o, wal.ErrNoSlot, "max_replication_slots")
	exec(t, d, "select pg_terminate_backend(pid) from pg_stat_replication")
	awaitAnswer(t, d, 0, slots)
	for _, slot := range []string{"one", "two"} {
		o.Slot = slot
		stream(t, o, newRecorder())
	}
	config, err := postgres.Replication(d.URL, "third")
	if err != nil {
		t.Fatal(err)
	}
	third, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = third.Close(context.Background()) })
	refused(t, o, wal.ErrNoSlot, "max_wal_senders")
}

// A stream is no standby: commits do not wait for it.
func TestSynchronousStandbys(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{})
	d := c.DB(t)
	exec(t, d, "create table t (id int primary key)", "create publication pub for table t")
	standbys := func(names string) {
		t.Helper()
		exec(t, d, "alter system set synchronous_standby_names = '"+names+"'", "select pg_reload_conf()")
		awaitAnswer(t, d, names, "select current_setting('synchronous_standby_names')")
	}
	o := options(d)
	for _, names := range []string{"*", "FIRST 1 (one, *)", "ANY 1 (one, \"Rowcast WAL\")"} {
		standbys(names)
		refused(t, o, wal.ErrSynchronous, "alter system set synchronous_standby_names")
	}
	standbys("one")
	s := stream(t, o, newRecorder())
	exec(t, d, "set synchronous_commit = local; insert into t values (1)")
	s.awaitCommits(t, 1)
}

func TestUnknownPublication(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key)")
	s := stream(t, options(d), newRecorder())
	exec(t, d, "insert into t values (1)")
	if ask[int](t, d, "select current_setting('server_version_num')::int") >= 180000 { // which goes on without it
		exec(t, d, "create publication pub for table t", "insert into t values (2)")
		s.awaitCommits(t, 1)
		return
	}
	err := s.await(t)
	if !errors.Is(err, wal.ErrNoPublication) || !strings.Contains(err.Error(), `create publication "pub"`) {
		t.Errorf("without the publication: %v", err)
	}
}

// To make a slot waits for who writes, for as long as its caller likes.
func TestSlotWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key)", "create publication pub for table t")
	a := connection(t, d)
	a("begin")
	a("insert into t values (1)")
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		result <- wal.Stream(ctx, options(d), newRecorder(), func(wal.LSN) { t.Error("the stream is ready") })
	}()
	awaitAnswer(t, d, 1, slots)
	cancel()
	select {
	case err := <-result:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("does not end with its context")
	}
	awaitAnswer(t, d, 0, slots) // nothing waits on behalf of nobody

	s := begin(t, options(d), newRecorder())
	awaitAnswer(t, d, 1, slots)
	a("insert into t values (2)")
	a("commit")
	<-s.ready
	exec(t, d, "insert into t values (3)")
	equal(t, s.awaitCommits(t, 1), "begin", "I t (id=3)", "commit") // a transaction that was open is told as a whole, or not at all
}
