package presence

import (
	"testing"
	"time"
)

// Who is about to enter keeps a room that all others leave meanwhile, and finds nobody there.
func TestRoomThatEmptiesWhileSomebodyEnters(t *testing.T) {
	t.Parallel()
	inWorld(t, 0, func(w *world) {
		a := w.join("a")
		a.track(`{}`)
		time.Sleep(2 * window)
		r := w.registry.take(testRoom) // as Enter begins
		a.track(`{"n":1}`)             // not told yet
		a.leave()
		b := w.join("b")
		time.Sleep(2 * window)
		if got := b.said(); got != `{}` {
			t.Errorf("who enters is told %s", got)
		}
		w.registry.release(r)
		b.leave()
	})
}
