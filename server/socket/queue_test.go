package socket

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestQueueBound(t *testing.T) {
	t.Parallel()
	small, large := make([]byte, 100), make([]byte, 5000)
	for _, tt := range []struct {
		name  string
		limit int
		push  [][]byte
		fits  []bool
	}{
		{"an empty queue takes any frame", 1000, [][]byte{large}, []bool{true}},
		{"a large frame does not condemn the next", 1000, [][]byte{large, small}, []bool{true, true}},
		{"a second large one does not fit", 1000, [][]byte{large, large, small}, []bool{true, false, true}},
		{"what waits behind the first counts", 200, [][]byte{small, small, small, small}, []bool{true, true, true, false}},
		{"no limit", 0, [][]byte{large, large, large}, []bool{true, true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var q queue
			for i, f := range tt.push {
				if got := q.push(f, tt.limit); got != tt.fits[i] {
					t.Fatalf("push %d = %v, want %v", i, got, tt.fits[i])
				}
			}
		})
	}
}

func TestQueueTake(t *testing.T) {
	t.Parallel()
	var q queue
	for _, n := range []int{10, 20, 500, 30, 30} {
		q.push(make([]byte, n), 0)
	}
	var got [][]int
	for {
		frames := q.take(nil, 64)
		if len(frames) == 0 {
			break
		}
		var sizes []int
		for _, f := range frames {
			sizes = append(sizes, len(f))
		}
		got = append(got, sizes)
	}
	if diff := cmp.Diff([][]int{{10, 20}, {500}, {30, 30}}, got); diff != "" {
		t.Fatal(diff)
	}
	if q.bytes != 0 {
		t.Fatalf("%d bytes counted in an empty queue", q.bytes)
	}
}

func TestQueueKeepsTheNewestPongs(t *testing.T) {
	t.Parallel()
	var q queue
	for i := range 1000 {
		q.pushControl([]byte{pongFrame, 1, byte(i)})
	}
	frames := q.take(nil, 1<<20)
	if len(frames) != maxPongs {
		t.Fatalf("%d pongs waited, want %d", len(frames), maxPongs)
	}
	newest := 999
	if last := frames[maxPongs-1]; last[2] != byte(newest) {
		t.Fatalf("the newest ping was not answered: % x", last)
	}
}

// TestQueueModel compares with the plainest queue there is: one slice of all frames.
func TestQueueModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var model [][]byte
		id := 0
		frame := func(first byte, size int) []byte {
			id++
			return append([]byte{first, byte(id), byte(id >> 8)}, make([]byte, size)...)
		}
		total := func() (n int) {
			for _, f := range model {
				n += len(f)
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"data": func(t *rapid.T) {
				f := frame(0x81, rapid.IntRange(0, 300).Draw(t, "size"))
				const limit = 1000
				fits := len(model) == 0 || total()-len(model[0])+len(f) <= limit
				if got := q.push(f, limit); got != fits {
					t.Fatalf("push = %v, want %v", got, fits)
				}
				if fits {
					model = append(model, f)
				}
			},
			"pong": func(t *rapid.T) {
				f := frame(pongFrame, rapid.IntRange(0, 120).Draw(t, "size"))
				pongs, newest := 0, 0
				for i, m := range model {
					if m[0] == pongFrame {
						pongs, newest = pongs+1, i
					}
				}
				if pongs == maxPongs {
					model[newest] = f
				} else {
					model = append(model, f)
				}
				q.pushControl(f)
			},
			"take": func(t *rapid.T) {
				size := rapid.IntRange(1, 1000).Draw(t, "bytes")
				n, sum := 0, 0
				for n < len(model) && (n == 0 || sum+len(model[n]) <= size) {
					sum += len(model[n])
					n++
				}
				got := q.take(nil, size)
				if !bytes.Equal(bytes.Join(got, nil), bytes.Join(model[:n], nil)) || len(got) != n {
					t.Fatalf("took %d frames, want %d", len(got), n)
				}
				model = model[n:]
			},
			"": func(t *rapid.T) {
				if q.bytes != total() {
					t.Fatalf("%d bytes counted, want %d", q.bytes, total())
				}
			},
		})
	})
}
