package snapshot

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestSees(t *testing.T) {
	t.Parallel()
	tests := []struct {
		snapshot string
		xid      XID
		want     bool
	}{
		{"100:100:", 99, true},
		{"100:100:", 100, false},
		{"100:105:100,103", 99, true},
		{"100:105:100,103", 100, false},
		{"100:105:100,103", 101, true},
		{"100:105:100,103", 103, false},
		{"100:105:100,103", 104, true},
		{"100:105:100,103", 105, false},
		{"100:105:103,100", 103, false}, // Postgres sorts; we do not rely on it
		{"8589934592:8589934600:8589934595", 8589934594, true},
		{"8589934592:8589934600:8589934595", 8589934595, false},
		{"100:105:", 0, false},
	}
	for _, tt := range tests {
		s, err := Parse(tt.snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Sees(tt.xid); got != tt.want {
			t.Errorf("%s sees %d: %v, want %v", tt.snapshot, tt.xid, got, tt.want)
		}
	}
	if (Snapshot{}).Sees(1) {
		t.Error("the zero snapshot sees a transaction")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"100:105:100,103", "3:3:", "", "1:2", "5:4:", "1:9:x", "18446744073709551615:18446744073709551615:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q became %q, which reads as %q (%v)", text, s, again, err)
		}
		if s.OlderThan(again) || s.IsZero() != (s.xmax == 0) {
			t.Errorf("%q is older than itself, or nothing", text)
		}
		// As Postgres defines it: below xmin all, from xmax on none, in between those that are not listed.
		for _, x := range append([]XID{0, 1, s.xmin - 1, s.xmin, s.xmin + 1, s.xmax - 1, s.xmax, s.xmax + 1}, s.running...) {
			want := x != 0 && x < s.xmax && (x < s.xmin || !slices.Contains(s.running, x))
			if s.Sees(x) != want {
				t.Errorf("%q sees %d: %v", text, x, !want)
			}
		}
	})
}

func FuzzParseXID(f *testing.F) {
	for _, seed := range []string{"0", "1", "18446744073709551615", "18446744073709551616", "-1", "+1", " 1", "1_0", "0x1", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseXID(text)
		if digits := text != "" && strings.Trim(text, "0123456789") == ""; err == nil && !digits {
			t.Errorf("%q reads as %d", text, x)
		}
		if err == nil && strings.TrimLeft(text, "0") != strings.TrimLeft(strconv.FormatUint(uint64(x), 10), "0") {
			t.Errorf("%q reads as %d", text, x)
		}
		if err != nil && (x != 0 || len(err.Error()) > 300) {
			t.Errorf("%q leaves %d, or is repeated at length: %v", text, x, err)
		}
	})
}

func TestWiden(t *testing.T) {
	t.Parallel()
	const epoch = 1 << 32
	for _, tt := range []struct {
		low  uint32
		xmax XID
		want XID
	}{
		{750, 800, 750},
		{800, 800, 800},
		{801, 800, 801}, // not begun when the snapshot was taken
		{5, 3*epoch + 10, 3*epoch + 5},
		{math.MaxUint32, 3*epoch + 10, 3*epoch - 1}, // before the wrap
		{3, 3*epoch - 2, 3*epoch + 3},               // after it, seen from before
		{math.MaxUint32, 3*epoch - 2, 3*epoch - 1},
		{0, 3 * epoch, 3 * epoch},
		{1<<31 - 1, 7 * epoch, 7*epoch + 1<<31 - 1}, // as far as can be told
		{1 << 31, 7 * epoch, 7*epoch - 1<<31},
	} {
		near := Snapshot{xmin: tt.xmax, xmax: tt.xmax}
		if got := Widen(tt.low, near); got != tt.want {
			t.Errorf("%d near %d is %d, want %d", tt.low, tt.xmax, got, tt.want)
		}
	}
}

// Every id that is not farther away than half of what 32 bits can tell is found again.
func FuzzWiden(f *testing.F) {
	f.Add(uint64(1)<<40, int32(-5))
	f.Add(uint64(1)<<32, int32(math.MinInt32))
	f.Add(uint64(1)<<33-1, int32(math.MaxInt32))
	f.Fuzz(func(t *testing.T, xmax uint64, distance int32) {
		xmax %= 1 << 62
		if xmax < 1<<31 {
			xmax += 1 << 31
		}
		x := XID(int64(xmax) + int64(distance))
		if got := Widen(uint32(x), Snapshot{xmin: XID(xmax), xmax: XID(xmax)}); got != x {
			t.Errorf("%d near %d is %d", x, xmax, got)
		}
	})
}

func TestGained(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		before, later string
		want          []XID
	}{
		{"100:100:", "100:100:", nil},
		{"100:100:", "103:103:", []XID{100, 101, 102}},
		{"100:105:100,103", "103:107:103,106", []XID{100, 105}},
		{"103:107:103,106", "100:105:100,103", nil},
		{"100:105:100,103", "105:105:", []XID{100, 103}},
	} {
		before, err := Parse(tt.before)
		if err != nil {
			t.Fatal(err)
		}
		later, err := Parse(tt.later)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Collect(before.Gained(later))
		if !slices.Equal(got, tt.want) {
			t.Errorf("from %s to %s: %v, want %v", tt.before, tt.later, got, tt.want)
		}
		for range before.Gained(later) { // and no more than is asked for
			break
		}
	}
}
