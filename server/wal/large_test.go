package wal_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/wal"
)

// mebibyte of memory.
const mebibyte = 1 << 20

// watchHeap gives the most that the heap has grown by, from now until it is asked for.
func watchHeap(t *testing.T) (grown func() uint64) {
	t.Helper()
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	before, peak, done, gone := inUse(), uint64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			peak = max(peak, inUse())
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-gone
		return peak - min(peak, before)
	}
}

// A row of 100 MB is told, and never held. (Not in parallel with others, whose memory would count.)
func TestLargeRowIsNeverHeld(t *testing.T) {
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key, size int, long text, short text)", "alter table t replica identity full", "alter table t alter long set storage external",
		"create publication pub for table t")
	o := options(d)
	o.MaxRow = mebibyte
	s := stream(t, o, newRecorder())
	grown := watchHeap(t)
	exec(t, d, "insert into t values (1, 7, repeat('x', 100000000), repeat('y', 64))", "update t set id = 2",
		"insert into t values (3, 7, repeat('x', 1000000), repeat('y', 65))", "select pg_logical_emit_message(true, 'realtime', repeat('m', 20000000))")
	said := s.awaitCommits(t, 4)
	if got := grown(); got > 20*mebibyte {
		t.Errorf("the heap grew by %d MB", got/mebibyte)
	} else {
		t.Logf("the heap grew by %.1f MB", float64(got)/mebibyte)
	}
	short := "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
	equal(t, said[:6], "begin", "I t (id=1 size=7 long=# short="+short+")", "commit",
		"begin", "U t (id=1 size=7 long=# short="+short+") → (id=2 size=7 long=# short="+short+")", "commit")
	equal(t, said[9:], "begin", "message true ", "commit")
	if small := s.rows[2]; small.Large || len(small.New[2].Text) != 1000000 || !s.rows[0].Large || !s.rows[1].Large {
		t.Error("a row is told to be what it is not")
	}
	if large := metricstest.Value(t, s.metrics, "realtime_wal_large_total", "test"); large != 2 {
		t.Errorf("%v large rows were counted", large)
	}
	if bytes := metricstest.Value(t, s.metrics, "realtime_wal_received_bytes_total", "test"); bytes < 2.2e8 {
		t.Errorf("%v bytes were counted", bytes)
	}
}

// slow is a handler that only counts, and takes its time.
type slow struct {
	*recorder
	told atomic.Int64
}

func (s *slow) Change(wal.Change) {
	if s.told.Add(1)%1000 == 0 {
		time.Sleep(5 * time.Millisecond) // what it takes: there is nothing to wait for
	}
}

// A large transaction waits in the database, not here.
func TestLargeTransaction(t *testing.T) {
	d := pgtest.New(t)
	exec(t, d, "create table t (id int primary key, long text)", "create publication pub for table t")
	h := &slow{recorder: newRecorder()}
	s := begin(t, options(d), h)
	<-s.ready
	grown := watchHeap(t)
	exec(t, d, "insert into t select n, repeat('x', 1000) from generate_series(1, 100000) n", "delete from t where id = 1")
	h.awaitCommits(t, 2)
	if got := grown(); got > 20*mebibyte {
		t.Errorf("the heap grew by %d MB", got/mebibyte)
	} else {
		t.Logf("the heap grew by %.1f MB", float64(got)/mebibyte)
	}
	if told := h.told.Load(); told != 100001 {
		t.Errorf("%d rows were told", told)
	}
}
