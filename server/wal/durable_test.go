package wal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"

	"rowcast/server/pgtest"
	"rowcast/server/wal"
)

func readLSN(s string) (wal.LSN, error) { return pglogrepl.ParseLSN(s) }

// begun is where the transaction was committed that was begun to be told last.
func (r *recorder) begun() wal.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.commits[len(r.commits)-1]
}

// changes are the rows that were told.
func (r *recorder) changes() (told []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.rows {
		told = append(told, row(c.Relation, c.New))
	}
	return told
}

// Connections may end in any way: with a durable slot, and a caller who remembers how far he was told, each change is told once.
func TestDurableSlot(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key)", "create publication pub for table t")
	o := options(d)
	o.Durable = true
	t.Cleanup(func() {
		if err := wal.DropSlot(context.Background(), o.URL, o.Slot); err != nil {
			t.Error(err)
		}
	})
	var told, want []string
	for round := range 12 {
		r := newRecorder()
		s := stream(t, o, r)
		if s.from < o.After {
			t.Errorf("told from %s, but was told up to %s", s.from, o.After)
		}
		while := fmt.Sprintf("(id=%d)", 2*round)
		exec(t, d, fmt.Sprintf("insert into t values (%d)", 2*round))
		s.awaitThat(t, func() bool { // for the transaction that holds it, which would be told again if it were cut short
			return slices.ContainsFunc(r.rows, func(c wal.Change) bool { return row(c.Relation, c.New) == while }) && r.said[len(r.said)-1] == "commit"
		})
		if round%3 == 1 {
			exec(t, d, "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '"+o.Slot+"'")
			_ = s.await(t)
			awaitAnswer(t, d, false, "select active from pg_replication_slots where slot_name = $1", o.Slot)
		}
		if err := s.end(t); err == nil {
			t.Error("the stream ended without a reason")
		}
		if o.After = 0; round%3 == 1 {
			o.After = r.reached
		}
		told = append(told, r.changes()...)
		exec(t, d, fmt.Sprintf("insert into t values (%d)", 2*round+1)) // while nobody listens
		want = append(want, while, fmt.Sprintf("(id=%d)", 2*round+1))
	}
	s := stream(t, o, newRecorder())
	s.awaitThat(t, func() bool { return len(s.rows) > 0 })
	told = append(told, s.changes()...)
	equal(t, told, want...)
	s.end(t)
}

// What a server that crashed had been told, it may have forgotten. Its client has not.
func TestDurableSlotAfterCrash(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{})
	d := c.DB(t)
	exec(t, d, "create table t (id int primary key)", "create publication pub for table t")
	o := options(d)
	o.Durable = true
	first := stream(t, o, newRecorder())
	exec(t, d, "insert into t values (1)")
	first.awaitCommits(t, 1)
	first.awaitThat(t, func() bool { return first.reached > first.commits[0] })
	if err := c.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.await(t); err == nil || errors.Is(err, wal.ErrStopping) {
		t.Errorf("the stream of a server that was killed ended with: %v", err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.After = first.reached
	second := stream(t, o, newRecorder())
	awaitAnswer(t, c.DB(t), true, "select count(*) = 1 from t")
	exec(t, c.DB(t), "insert into t values (2)")
	equal(t, second.awaitCommits(t, 1), "begin", "I t (id=2)", "commit")
}

func TestSlotInUse(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create publication pub")
	o := options(d)
	o.Durable = true
	s := stream(t, o, newRecorder())
	refused(t, o, wal.ErrSlotInUse, o.Slot)
	if err := wal.DropSlot(t.Context(), o.URL, o.Slot); !errors.Is(err, wal.ErrSlotInUse) {
		t.Errorf("drop a slot in use: %v", err)
	}
	s.end(t)
	for range 2 { // the second finds nothing to do
		if err := wal.DropSlot(t.Context(), o.URL, o.Slot); err != nil {
			t.Error(err)
		}
	}
	awaitAnswer(t, d, 0, slots)
}

func TestTemporarySlotGoesWithItsConnection(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create publication pub")
	s := stream(t, options(d), newRecorder())
	awaitAnswer(t, d, 1, slots)
	s.end(t)
	if n := ask[int](t, d, slots); n > 0 {
		t.Errorf("there are %d slots", n)
	}
}

// A slot that Postgres gave up is not read on from anywhere else.
func TestSlotLost(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_slot_wal_keep_size": "16MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}})
	d := c.DB(t)
	exec(t, d, "create table t (id int primary key)", "create publication pub for table t")
	o := options(d)
	o.Durable = true
	stream(t, o, newRecorder()).end(t)
	for range 5 {
		exec(t, d, "insert into t select coalesce(max(id), 0) + 1 from t", "select pg_switch_wal()", "checkpoint")
	}
	awaitAnswer(t, d, "lost", "select wal_status from pg_replication_slots where slot_name = $1", o.Slot)
	refused(t, o, wal.ErrSlotLost, "drop "+o.Slot, "max_slot_wal_keep_size")
	if err := wal.DropSlot(t.Context(), o.URL, o.Slot); err != nil {
		t.Error(err)
	}
	s := stream(t, o, newRecorder())
	exec(t, d, "delete from t where id = 1")
	equal(t, s.awaitCommits(t, 1), "begin", "D t key(id=1)", "commit")
}

// A slot of that name that is not ours is left alone.
func TestSlotOfAnother(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, "create publication pub", "select pg_create_logical_replication_slot('"+d.Name+"', 'test_decoding')")
	defer exec(t, d, "select pg_drop_replication_slot('"+d.Name+"')")
	o := options(d)
	o.Durable = true
	err := wal.Stream(t.Context(), o, newRecorder(), func(wal.LSN) { t.Error("the stream is ready") })
	if err == nil || !strings.Contains(err.Error(), "another program's") {
		t.Errorf("read with: %v", err)
	}
}
