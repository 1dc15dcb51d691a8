package main

import "testing"

func TestReadingProc(t *testing.T) {
	t.Parallel()
	const stat = "9550 (a ) (b) S 9457 9329 24397 0 -1 4194304 5559 0 0 0 512 2300 7 9 20 0 5 0 1145023 1676283904 4834"
	const machine = "cpu  100 20 300 99999 88888 4 50 6 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	const status = "Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t   20000 kB\nVmRSS:\t   19412 kB\nRssAnon:\t 1 kB\n"
	resident := func(text []byte) (float64, error) { return parseStatus(text, "VmRSS:") }
	for _, tt := range []struct {
		name  string
		parse func([]byte) (float64, error)
		text  string
		want  float64 // negative: an error
	}{
		{"process", parseStat, stat, 28.12},
		{"process without a name", parseStat, "9550 S 1 2", -1},
		{"process cut short", parseStat, stat[:60], -1},
		{"process that is no number", parseStat, "1 (a) S 1 1 1 1 1 1 1 1 1 1 x 1 1", -1},
		{"machine", parseMachine, machine, 4.80},
		{"machine without the line", parseMachine, machine[40:], -1},
		{"machine that is no number", parseMachine, "cpu 1 1 1 1 1 1 x 1 1", -1},
		{"memory", resident, status, 19412},
		{"the most memory", func(text []byte) (float64, error) { return parseStatus(text, "VmHWM:") }, status, 20000},
		{"memory of a dead process", resident, "Name:\tx\n", -1},
		{"memory in another unit", resident, "VmRSS: 12 MB\n", -1},
	} {
		got, err := tt.parse([]byte(tt.text))
		if (err != nil) != (tt.want < 0) || err == nil && (got < tt.want-1e-9 || got > tt.want+1e-9) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}
