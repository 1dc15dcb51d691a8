package main

import (
	"strings"
	"testing"
)

func TestSectionsSayWhichBarsWereMissed(t *testing.T) {
	t.Parallel()
	least := bar{what: "ratio", figure: 0.7, limit: 0.7}
	most := bar{what: "memory", figure: 15, limit: 15, atMost: true, unit: " KB", noisy: true}
	for _, tt := range []struct {
		name        string
		least, most float64
		cleared     bool
		wants       []string
	}{
		{"both at the limit", 0.7, 15, true, []string{"pass  ratio: 0.70 (at least 0.70)", "pass  memory: 15.0 KB (at most 15.0 KB) *\n"}},
		{"too little", 0.699, 15, false, []string{"FAIL  ratio", "pass  memory"}},
		{"too much", 0.7, 15.01, false, []string{"pass  ratio", "FAIL  memory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			least, most := least, most
			least.figure, most.figure = tt.least, tt.most
			s := section{title: "Title", rows: [][]string{{"load", "µs", "n"}, {"a", "1.00", "12"}, {"long", "12.0", "3"}}, bars: []bar{least, most}, notes: []string{"a note"}}
			var out strings.Builder
			if cleared := s.print(&out); cleared != tt.cleared {
				t.Errorf("cleared: %t", cleared)
			}
			for _, want := range append(tt.wants, "\n  load     µs    n\n  a      1.00   12\n  long   12.0    3\n", "\n  a note\n") {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing in:\n%s", want, out.String())
				}
			}
		})
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.004: "0.00", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234: "1234", 123456: "123 k"} {
		if got := figure(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("%v: %v", tt.values, got)
		}
	}
}
