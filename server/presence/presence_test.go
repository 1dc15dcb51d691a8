package presence

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/protocol"
)

// What is told, word for word.
func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	inWorld(t, 0, func(w *world) {
		names := naming{}
		a := w.join("ann")
		step := func(what string, do func(), want ...string) {
			t.Helper()
			do()
			time.Sleep(2 * window)
			if got := names.of(a.said()); got != strings.Join(want, "\n") {
				t.Errorf("%s: told\n%s\nwant\n%s", what, got, strings.Join(want, "\n"))
			}
		}
		step("nobody is there", func() {}, `{}`)
		step("track", func() { a.track(`{"n": 1}`) },
			`{"joins":{"ann":{"metas":[{"n": 1,"phx_ref":"ref1"}]}},"leaves":{}}`)
		step("the same again", func() { a.track(`{"n": 1}`) }, "")
		step("another one", func() { a.track(`{}`) },
			`{"joins":{"ann":{"metas":[{"phx_ref":"ref2","phx_ref_prev":"ref1"}]}},"leaves":{"ann":{"metas":[{"n": 1,"phx_ref":"ref1"}]}}}`)
		b := w.join("ann")
		step("the same key", func() { b.track(`{ }`) },
			`{"joins":{"ann":{"metas":[{"phx_ref":"ref3"}]}},"leaves":{}}`)
		if got := names.of(b.said()); got != `{"ann":{"metas":[{"phx_ref":"ref2","phx_ref_prev":"ref1"}]}}`+"\n"+
			`{"joins":{"ann":{"metas":[{"phx_ref":"ref3"}]}},"leaves":{}}` {
			t.Errorf("who comes later is told\n%s", got)
		}
		step("untrack", func() { a.member.Untrack() },
			`{"joins":{},"leaves":{"ann":{"metas":[{"phx_ref":"ref2","phx_ref_prev":"ref1"}]}}}`)
		step("untrack again", func() { a.member.Untrack() }, "")
		step("the same after untrack", func() { a.track(`{}`) },
			`{"joins":{"ann":{"metas":[{"phx_ref":"ref4"}]}},"leaves":{}}`)
		step("leave", b.leave, `{"joins":{},"leaves":{"ann":{"metas":[{"phx_ref":"ref3"}]}}}`)
		if got := names.of(string(w.registry.State(testRoom))); got != `{"ann":{"metas":[{"phx_ref":"ref4"}]}}` {
			t.Errorf("state %s", got)
		}
		if got := b.said(); strings.Contains(got, "leaves\":{\"ann\":{\"metas\":[{\"phx_ref\":\"ref3") {
			t.Error("who left was told")
		}
	})
}

// The first change is told at once, those that follow when the window ends, all in one.
func TestChangesAreCollected(t *testing.T) {
	t.Parallel()
	inWorld(t, 0, func(w *world) {
		a := w.join("a")
		time.Sleep(2 * window)
		a.said()
		a.track(`{"n":1}`)
		if a.said() == "" {
			t.Error("the first was not told at once")
		}
		names := naming{}
		for n := range 9 {
			a.track(fmt.Sprintf(`{"n":%d}`, n+2))
		}
		time.Sleep(window - time.Nanosecond)
		if got := a.said(); got != "" {
			t.Errorf("told within the window: %s", got)
		}
		time.Sleep(time.Nanosecond)
		got := names.of(a.said())
		if want := `{"joins":{"a":{"metas":[{"n":10,"phx_ref":"ref1","phx_ref_prev":"ref2"}]}},"leaves":{"a":{"metas":[{"n":1,"phx_ref":"ref2"}]}}}`; got != want {
			t.Errorf("told %s\nwant %s", got, want)
		}
	})
}

// Who comes and goes within a window was never there; who goes and comes back was never gone.
func TestComingAndGoingCancelOut(t *testing.T) {
	t.Parallel()
	inWorld(t, 0, func(w *world) {
		a, b := w.join("a"), w.join("b")
		a.track(`{"n":1}`)
		time.Sleep(2 * window)
		a.said()
		b.track(`{}`) // at once: the window begins
		a.said()
		c := w.join("c")
		c.track(`{}`)
		c.member.Untrack()
		d := w.join("d")
		d.track(`{}`)
		d.leave()
		a.member.Untrack()
		a.track(`{"n":1}`)
		time.Sleep(2 * window)
		names := naming{}
		if got, want := names.of(a.said()), `{"joins":{"a":{"metas":[{"n":1,"phx_ref":"ref1","phx_ref_prev":"ref2"}]}},"leaves":{"a":{"metas":[{"n":1,"phx_ref":"ref2"}]}}}`; got != want {
			t.Errorf("told %s\nwant %s", got, want)
		}
		if got := c.knows(); got != "a×1 b×1" {
			t.Errorf("c knows %s", got)
		}
		b.member.Untrack() // at once
		a.said()
		c.track(`{}`)
		c.member.Untrack()
		time.Sleep(2 * window)
		if got := a.said(); got != "" {
			t.Errorf("told of nothing: %s", got)
		}
	})
}

// A room holds so much, of all its members together; what somebody gives back others may use.
func TestFullRoom(t *testing.T) {
	t.Parallel()
	inWorld(t, 1000, func(w *world) {
		a, b := w.join("a"), w.join("b")
		big := fmt.Sprintf(`{"x":%q}`, strings.Repeat("x", 500))
		a.track(big)
		for range 2 {
			if err := b.member.Track([]byte(big)); !errors.Is(err, ErrFull) {
				t.Fatalf("tracked more than fits: %v", err)
			}
		}
		b.track(`{"small":1}`)
		if err := b.member.Track([]byte(big)); !errors.Is(err, ErrFull) {
			t.Fatalf("grew beyond what fits: %v", err)
		}
		time.Sleep(2 * window)
		if got := string(w.registry.State(testRoom)); !strings.Contains(got, "small") || len(got) > 1000 {
			t.Errorf("the state has %d bytes: %s", len(got), got)
		}
		a.track(`{}`)
		b.track(big)
		a.member.Untrack()
		b.leave()
		a.track(big)
	})
}

// What is too large for one frame is told in several, each member's change in one of them.
func TestLargeDiffsAreSplit(t *testing.T) {
	t.Parallel()
	inWorld(t, 0, func(w *world) {
		a := w.join("a")
		time.Sleep(2 * window)
		const members, bytes = 40, 20 << 10
		payload := func(n int) string { return fmt.Sprintf(`{"n":%d,"x":%q}`, n, strings.Repeat("x", bytes)) }
		var others []*client
		for n := range members {
			others = append(others, w.joinAs(fmt.Sprint("m", n%7), &client{ignorant: true}))
			others[n].track(payload(0))
		}
		time.Sleep(2 * window)
		a.said()
		for _, m := range others {
			m.track(payload(1))
		}
		time.Sleep(2 * window)
		diffs := strings.Split(a.said(), "\n")
		if want := members * bytes * 2 / maxDiff; len(diffs) <= want || len(diffs) > want+4 {
			t.Errorf("told in %d frames, want a little more than %d", len(diffs), want)
		}
		for _, diff := range diffs {
			if len(diff) > maxDiff+bytes {
				t.Errorf("a diff of %d bytes", len(diff))
			}
			if joins, leaves := strings.Count(diff, `"n":1`), strings.Count(diff, `"n":0`); joins != leaves {
				t.Errorf("%d come and %d go", joins, leaves)
			}
		}
		if got := a.knows(); got != "m0×6 m1×6 m2×6 m3×6 m4×6 m5×5 m6×5" {
			t.Errorf("a knows %s", got)
		}
	})
}

// Thousands who come within a second are told to each other in a few frames a window.
func TestManyWhoComeAtOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, 0, func(w *world) {
		const members = 1000
		var all []*client
		for n := range members {
			c := w.joinAs(fmt.Sprint("m", n), &client{ignorant: n%100 != 0})
			c.track(`{"online_at":"2024-01-01T00:00:00Z"}`)
			all = append(all, c)
			time.Sleep(time.Second / members)
		}
		time.Sleep(2 * window)
		synctest.Wait()
		windows := int(time.Second/window) + 2
		if n := w.metric("realtime_presence_diffs_total"); n > windows {
			t.Errorf("%d diffs in %d windows", n, windows)
		}
		if n := w.metric("realtime_presence_states_total"); n != members {
			t.Errorf("%d states for %d members", n, members)
		}
		if n := w.metric("realtime_deliveries_total"); n > members*(windows+1) {
			t.Errorf("%d frames delivered to %d members in %d windows", n, members, windows)
		}
		want := all[0].knows()
		if strings.Count(want, " ") != members-1 {
			t.Errorf("the first knows %s", want)
		}
		for _, c := range all {
			if !c.ignorant && c.knows() != want {
				t.Error("the members know different things")
			}
		}
		for _, c := range all {
			c.leave()
		}
	})
}

// Nothing is remembered of a room that all have left, and who comes next finds nobody.
func TestEmptyRoomsAreForgotten(t *testing.T) {
	t.Parallel()
	inWorld(t, 0, func(w *world) {
		a, b := w.join("a"), w.join("")
		a.track(`{}`)
		b.track(`{}`)
		b.track(`{"n":1}`)
		a.leave()
		a.leave()
		b.leave()
		if n := len(w.registry.rooms); n != 0 {
			t.Errorf("%d rooms", n)
		}
		c := w.join("c")
		time.Sleep(2 * window)
		if got := c.said(); got != `{}` {
			t.Errorf("who comes next is told %s", got)
		}
		if got := string(w.registry.State(testRoom)); got != `{}` {
			t.Errorf("state %s", got)
		}
		if n := w.metric("realtime_presence_tracked"); n != 0 {
			t.Errorf("%d are counted as present", n)
		}
		for _, m := range []*client{a, b} { // too late
			m.track(`{}`)
			m.member.Watch()
			if m.member.Revoke() {
				t.Error("present after leaving")
			}
		}
		c.leave()
		if got := string(w.registry.State(testRoom)); got != `{}` || len(w.registry.rooms) > 0 {
			t.Errorf("state %s of %d rooms", got, len(w.registry.rooms))
		}
	})
}

// A key that nobody chose is a UUID of its own.
func TestKeysAreMadeUp(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		key := newKey()
		if len(key) != 36 || key[14] != '4' || !strings.Contains("89ab", key[19:20]) || seen[key] {
			t.Fatalf("key %q", key)
		}
		seen[key] = true
	}
}

// Whatever happens in whatever order and at whatever pace: in the end everyone knows exactly who is present.
func TestEveryoneKnowsInTheEnd(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		inWorld(t, 0, func(w *world) { playRoom(w, rand.New(rand.NewPCG(seed, 1)), seed) })
	}
}

func playRoom(w *world, rng *rand.Rand, seed uint64) {
	var here []*client
	tracked := map[*client]bool{}
	for range 300 {
		if len(here) == 0 || rng.IntN(8) == 0 {
			here = append(here, w.join(fmt.Sprint("k", rng.IntN(4))))
		}
		i := rng.IntN(len(here))
		c := here[i]
		switch rng.IntN(10) {
		case 0:
			c.leave()
			delete(tracked, c)
			here = append(here[:i], here[i+1:]...)
		case 1, 2:
			c.member.Untrack()
			delete(tracked, c)
		case 3:
			c.member.Watch() // what it knows is outdated
		case 4:
			time.Sleep(time.Duration(rng.IntN(int(2 * window))))
		default:
			c.track(fmt.Sprintf(`{"n":%d}`, rng.IntN(3)))
			tracked[c] = true
		}
	}
	time.Sleep(3 * window)
	synctest.Wait()
	var present []protocol.Present
	for n := range 4 {
		p := protocol.Present{Key: fmt.Sprint("k", n)}
		for c := range tracked {
			if c.member.key == p.Key {
				p.Metas = append(p.Metas, nil)
			}
		}
		if len(p.Metas) > 0 {
			present = append(present, p)
		}
	}
	var want []string
	for _, p := range present {
		want = append(want, fmt.Sprint(p.Key, "×", len(p.Metas)))
	}
	for _, c := range here {
		if got := c.knows(); got != strings.Join(want, " ") {
			w.t.Fatalf("seed %d: known %s, present %s", seed, got, want)
		}
	}
	for _, c := range here {
		c.leave()
	}
	if n := len(w.registry.rooms); n != 0 {
		w.t.Errorf("%d rooms", n)
	}
}
