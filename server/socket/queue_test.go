package socket

import (
	"bytes"
	"sync/atomic"
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
				if got := q.push(queued{frame: f}, tt.limit); got != tt.fits[i] {
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
		q.push(queued{frame: make([]byte, n)}, 0)
	}
	var got [][]int
	for {
		frames := take(&q, 64)
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
	frames := take(&q, 1<<20)
	if len(frames) != maxPongs {
		t.Fatalf("%d pongs waited, want %d", len(frames), maxPongs)
	}
	newest := 999
	if last := frames[maxPongs-1]; last[2] != byte(newest) {
		t.Fatalf("the newest ping was not answered: % x", last)
	}
}

// The queue moves its frames to the front of its memory now and then; the newest pong is found there too.
func TestQueueFindsThePongThatMoved(t *testing.T) {
	t.Parallel()
	var q queue
	data := queued{frame: text("data")}
	const before = 40
	for range before {
		q.push(data, 0)
	}
	for i := range maxPongs {
		q.pushControl([]byte{pongFrame, 1, byte(i)})
	}
	for len(q.frames) < cap(q.frames) {
		q.push(data, 0)
	}
	q.advance(before * len(data.frame))
	if q.push(data, 0); q.head != 0 {
		t.Fatal("nothing was moved: nothing is tested")
	}
	q.pushControl([]byte{pongFrame, 1, 'n'})
	if got := q.frames[maxPongs-1].frame; got[2] != 'n' {
		t.Errorf("the newest pong is % x", got)
	}
}

// take has everything that is gathered leave.
func take(q *queue, size int) [][]byte {
	frames := q.gather(nil, size)
	q.advance(len(bytes.Join(frames, nil)))
	return frames
}

// TestQueueModel compares with the plainest queue there is: one slice of all frames.
func TestQueueModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const limit = 1000
		var q queue
		var model []queued
		sent := 0 // of the first
		voids := []*atomic.Bool{nil, new(atomic.Bool), new(atomic.Bool)}
		id := 0
		frame := func(first byte, size int) []byte {
			id++
			return append([]byte{first, byte(id), byte(id >> 8)}, make([]byte, size)...)
		}
		total := func() (n int) {
			for _, w := range model {
				n += len(w.frame)
			}
			return n - sent
		}
		purge := func() {
			kept := model[:0:0]
			for i, w := range model {
				if i == 0 && sent > 0 || !w.isVoid() {
					kept = append(kept, w)
				}
			}
			model = kept
		}
		t.Repeat(map[string]func(*rapid.T){
			"data": func(t *rapid.T) {
				w := queued{frame(0x81, rapid.IntRange(0, 300).Draw(t, "size")), rapid.SampledFrom(voids).Draw(t, "void")}
				fits := func() bool { return len(model) == 0 || total()+sent-len(model[0].frame)+len(w.frame) <= limit }
				if !fits() {
					purge()
				}
				want := fits()
				if got := q.push(w, limit); got != want {
					t.Fatalf("push = %v, want %v", got, want)
				}
				if want {
					model = append(model, w)
				}
			},
			"pong": func(t *rapid.T) {
				f := frame(pongFrame, rapid.IntRange(0, 120).Draw(t, "size"))
				pongs, newest := 0, 0
				for i, m := range model {
					if m.frame[0] == pongFrame {
						pongs, newest = pongs+1, i
					}
				}
				if pongs == maxPongs {
					model[newest].frame = f
				} else {
					model = append(model, queued{frame: f})
				}
				q.pushControl(f)
			},
			"void": func(t *rapid.T) {
				v := rapid.IntRange(1, 2).Draw(t, "which")
				voids[v].Store(true)
				voids[v] = new(atomic.Bool)
			},
			"drop": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
					return
				}
				q.drop()
				if sent > 0 {
					model = model[:1]
				} else {
					model = nil
				}
			},
			"write": func(t *rapid.T) {
				size := rapid.IntRange(1, 1000).Draw(t, "bytes")
				for sent == 0 && len(model) > 0 && model[0].isVoid() {
					model = model[1:]
				}
				var want []byte
				for i, w := range model {
					f := w.frame
					if i == 0 {
						f = f[sent:]
					} else if len(want)+len(f) > size || w.isVoid() {
						break
					}
					want = append(want, f...)
				}
				got := bytes.Join(q.gather(nil, size), nil)
				if !bytes.Equal(got, want) {
					t.Fatalf("gathered %d bytes, want %d", len(got), len(want))
				}
				n := rapid.IntRange(0, len(got)).Draw(t, "taken")
				q.advance(n)
				for sent += n; len(model) > 0 && sent >= len(model[0].frame); model = model[1:] {
					sent -= len(model[0].frame)
				}
			},
			"": func(t *rapid.T) {
				if q.bytes != total() || q.len() != len(model) {
					t.Fatalf("%d bytes in %d frames counted, want %d in %d", q.bytes, q.len(), total(), len(model))
				}
			},
		})
	})
}

// What has left is not kept in memory by the next batch's place.
func TestBatchForgetsItsFrames(t *testing.T) {
	t.Parallel()
	b := batches.New().(*batch)
	for _, n := range []int{3, 1} {
		b.frames = b.frames[:0]
		for range n {
			b.frames = append(b.frames, text("x"))
		}
		if got := len(b.join()); got != n*len(text("x")) {
			t.Fatalf("%d bytes", got)
		}
		for i, f := range b.frames[:cap(b.frames)] {
			if f != nil {
				t.Errorf("frame %d of %d is still there", i, n)
			}
		}
	}
}
