package wal_test

import (
	"slices"
	"testing"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// Transactions are told in the order of their commits, what is in them in theirs, and nothing of what was rolled back.
func TestOrderOfCommits(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key, name text)", "create publication pub for table t")
	s := stream(t, options(d), newRecorder())
	a, b := connection(t, d), connection(t, d)

	a("begin")
	a("insert into t values (1, 'a')")
	a("select pg_logical_emit_message(true, 'realtime', 'two')")
	a("insert into t values (3, 'c')")
	a("savepoint s")
	a("insert into t values (99, 'undone')")
	a("select pg_logical_emit_message(true, 'realtime', 'undone')")
	a("rollback to s")
	a("update t set name = 'b' where id = 1")
	a("select pg_logical_emit_message(true, 'realtime', 'four'), pg_logical_emit_message(true, 'others', 'not ours')")
	a("commit")

	a("begin")
	a("insert into t values (98, 'undone')")
	a("select pg_logical_emit_message(true, 'realtime', 'undone')")
	a("rollback")

	a("select pg_logical_emit_message(true, 'others', 'all that there is')")

	a("begin")
	a("select pg_logical_emit_message(true, 'realtime', 'A early')")
	b("begin")
	b("insert into t values (5, 'B')")
	b("select pg_logical_emit_message(true, 'realtime', 'B')")
	b("commit")
	a("insert into t values (6, 'A')")
	a("commit")

	equal(t, s.awaitCommits(t, 3),
		"begin", "I t (id=1 name=a)", "message true two", "I t (id=3 name=c)", "U t (id=1 name=b)", "message true four", "commit",
		"begin", "I t (id=5 name=B)", "message true B", "commit",
		"begin", "message true A early", "I t (id=6 name=A)", "commit")
	if !slices.IsSorted(s.commits) || s.commits[0] < s.from {
		t.Errorf("commits at %v, told from %v", s.commits, s.from)
	}
	if got := metricstest.Value(t, s.metrics, "realtime_wal_changes_total", "insert"); got != 4 {
		t.Errorf("%v inserts counted, want 4", got)
	}
	if got := metricstest.Value(t, s.metrics, "realtime_wal_delay_seconds", ""); got != 3 {
		t.Errorf("%v transactions timed, want 3", got)
	}
}

// A message that belongs to no transaction is told at once, be its sender's rolled back.
func TestMessageOutsideOfTransactions(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key)", "create publication pub for table t")
	s := stream(t, options(d), newRecorder())
	a := connection(t, d)
	a("begin")
	a("insert into t values (1)")
	a("select pg_logical_emit_message(false, 'realtime', 'now')")
	exec(t, d, "insert into t values (2)") // whose flush takes the message along
	said := s.awaitCommits(t, 1)
	a("rollback")
	equal(t, said, "message false now", "begin", "I t (id=2)", "commit")
}
