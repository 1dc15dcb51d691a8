package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/pgtest"
)

// onDatabase is a run with the server built, on a test's database.
func onDatabase(t *testing.T) *bench {
	t.Helper()
	db := pgtest.New(t)
	b := &bench{ctx: t.Context(), dir: t.TempDir(), progress: t.Output(), database: &database{url: db.URL, admin: db.AdminURL}, spent: patienceTotal}
	if err := b.build(); err != nil {
		t.Fatal(err)
	}
	return b
}

// The series that ask Postgres, in small: their questions are answered as they want.
func TestSeriesOnPostgres(t *testing.T) {
	t.Parallel()
	b := onDatabase(t)
	b.options.quick = true
	if err := b.sample(); err != nil {
		t.Fatal(err)
	}
	measure := func() error {
		rates, err := b.decisionRates()
		if err == nil && (median(rates.base) == 0 || median(rates.joins) == 0 || median(rates.again) == 0 || median(rates.singles) == 0 || len(rates.base) != 4) {
			err = fmt.Errorf("%+v", rates)
		}
		return err
	}
	if err := errors.Join(b.withLookup(measure), measure()); err != nil {
		t.Error(err)
	}
	public, private, err := b.joinRates(20)
	if err != nil || public == 0 || private == 0 {
		t.Errorf("joins: %v %v %v", public, private, err)
	}
	s, err := b.revokeSome(40, 10)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s.print(&out)
	if len(s.rows) != 3 || len(s.bars) != 1 {
		t.Error(out.String())
	}
}

// Changes are told to few, in every way.
func TestChangesOnPostgres(t *testing.T) {
	t.Parallel()
	b := onDatabase(t)
	b.options.quick = true
	s, err := b.tellAll([]audience{
		{name: "all", table: "told_all", subscribers: 3, groups: 1},
		{name: "own", table: "told_own", subscribers: 20, groups: 20},
		{name: "filtered", table: "told_open", subscribers: 20, groups: 20, filtered: true},
	}, 5)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s.print(&out)
	if len(s.rows) != 4 || len(s.notes) != 3 {
		t.Error(out.String())
	}
}

func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a    audience
		n    int
		told int64
	}{
		{audience{subscribers: 3, groups: 1}, 5, 15},
		{audience{subscribers: 40, groups: 20}, 21, 42},
		{audience{subscribers: 100, groups: 100}, 40, 40},
		{audience{subscribers: 100, groups: 100}, 250, 250},
	} {
		if told := tt.a.told(tt.n); told != tt.told {
			t.Errorf("%+v, %d changes: %d", tt.a, tt.n, told)
		}
	}
}

// A transaction that is not large, told while others are looked at.
func TestLargeOnPostgres(t *testing.T) {
	t.Parallel()
	b := onDatabase(t)
	b.options.quick = true
	s, err := b.largeHere(300, 2, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s.print(&out)
	if len(s.rows) != 11 || len(s.bars) != 2 || len(s.notes) != 2 {
		t.Error(out.String())
	}
}

// What has not come, or came twice, is named.
func TestSayingWhatIsMissing(t *testing.T) {
	t.Parallel()
	var l latencies
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 7 {
		if n := l.next(); n != i || l.start(at.Add(time.Duration(i)*time.Second)) != n {
			t.Fatalf("number %d, not %d", n, i)
		}
	}
	for _, n := range []int{0, 3, 4, 3} {
		l.end(n, at)
	}
	if want := "4 (of 7): 1 to 2 (03:04:06.000 to 03:04:07.000), 5 to 6 (03:04:10.000 to 03:04:11.000)"; l.missing() != want || l.open() != 4 || l.twice() != 1 {
		t.Errorf("%s; %d open, %d twice", l.missing(), l.open(), l.twice())
	}
	if n, ok := readNumber([]byte(`{"payload":{"id": "1", "number": 12}}`)); n != 12 || !ok {
		t.Errorf("number %d, %v", n, ok)
	}
	if n, ok := readNumber([]byte(`{"event":"system","payload":{"number": "x"}}`)); ok {
		t.Errorf("number %d of what has none", n)
	}
	if got := countsOf("# TYPE a_b_total counter\na_b_total{x=\"y z\"} 2\na_c_total 0\na_d 3\nb_e_total 4\n", "a_", "_total"); got != `a_b_total{x="y z"} 2` {
		t.Errorf("%q", got)
	}
}

// A small crowd comes and goes; how much memory that takes says nothing.
func TestCrowdOnPostgres(t *testing.T) {
	t.Parallel()
	b := onDatabase(t)
	b.options.quick = true
	s, err := b.crowd()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s.print(&out)
	if len(s.rows) != 4 || len(s.bars) != 4 || len(s.notes) != 4 || !s.bars[3].cleared() {
		t.Error(out.String())
	}
}

func TestJudgingWhatACrowdLeaves(t *testing.T) {
	t.Parallel()
	before := remains{used: 20_000, goroutines: 30, lines: 5}
	good := stay{before, remains{used: 21_900, goroutines: 40, lines: 5}, remains{used: 22_300, goroutines: 40, lines: 7}}
	judge := func(s stay) (failed []string) {
		for _, bar := range s.bars(10, 1000) {
			if !bar.cleared() {
				failed = append(failed, bar.what)
			}
		}
		return failed
	}
	if failed := judge(good); failed != nil {
		t.Errorf("%q", failed)
	}
	for want, spoil := range map[string]func(*stay){
		"have gone":  func(s *stay) { s.once.used = 22_100 },
		"the second": func(s *stay) { s.twice.used = 22_500 },
		"goroutines": func(s *stay) { s.twice.goroutines = 41 },
		"log lines":  func(s *stay) { s.twice.lines = 26 },
	} {
		bad := good
		spoil(&bad)
		if failed := judge(bad); len(failed) != 1 || !strings.Contains(failed[0], want) {
			t.Errorf("%s: %q", want, failed)
		}
	}
}

func TestReadingMetrics(t *testing.T) {
	t.Parallel()
	counts, err := parseCounts("# HELP a b\n# TYPE a gauge\na{kind=\"x y\"} 2\na{kind=\"z\"} 3\ngo 1.5e+02\n")
	if err != nil || len(counts) != 2 || counts["a"] != 5 || counts["go"] != 150 {
		t.Errorf("%v, %v", counts, err)
	}
	if _, err := parseCounts("a b\n"); err == nil {
		t.Error("read what is no number")
	}
}

// Memory is asked of a server that has a runtime to ask.
func TestSettling(t *testing.T) {
	t.Parallel()
	b := onDatabase(t)
	server, err := b.rowcast(anyCore)
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	token, err := mint("anon", "")
	if err != nil {
		t.Fatal(err)
	}
	if found, err := b.settle(server, spread(10, 2, token)); err != nil || found.grown <= 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestWhereAServerBreaks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit, breaks float64 // of what the server keeps up with
		tried         int
	}{{50, 50, 5}, {100, 150, 5}, {160, 200, 5}, {300, 400, 5}, {299, 300, 5}, {500, 600, 5}, {800, 0, 4}} {
		tried, breaks, err := breaking(func(rate float64) (r report, err error) {
			if rate > tt.limit || rate == 50 {
				r.Lost = 1
			}
			return r, nil
		})
		if err != nil || breaks != tt.breaks || len(tried) != tt.tried {
			t.Errorf("limit %v: breaks at %v, tried %d, %v", tt.limit, breaks, len(tried), err)
		}
	}
}

func TestJudgingRevocations(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(1000 + ms)) }
	ns := func(ms int) int64 { return at(ms).UnixNano() }
	r := revoked{cut: []time.Time{at(0), at(10), at(20)}, said: []time.Time{at(5), at(15)}, heard: []time.Time{at(4), at(18)}}
	good := []ending{{ns(1), ns(3)}, {0, ns(9)}, {ns(25), ns(25)}, {ns(99), 0}}
	w, err := r.cuts(good)
	if err != nil || w.early != 1 || !slices.Equal(w.sorted, []time.Duration{0, 3 * time.Millisecond, 5 * time.Millisecond}) {
		t.Errorf("%+v, %v", w, err)
	}
	if w.at(0.5) != 3*time.Millisecond || w.at(1) != 5*time.Millisecond || (waits{}).at(0.5) != 0 {
		t.Errorf("quantiles: %v %v", w.at(0.5), w.at(1))
	}
	if n := r.notices(); n.early != 1 || n.at(1) != 3*time.Millisecond {
		t.Errorf("%+v", n)
	}
	for name, spoil := range map[string]func([]ending){
		"goes on":       func(e []ending) { e[1].Closed = 0 },
		"has ended":     func(e []ending) { e[3].Closed = ns(100) },
		"after its end": func(e []ending) { e[0].Heard = ns(4) },
	} {
		bad := slices.Clone(good)
		spoil(bad)
		if _, err := r.cuts(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
