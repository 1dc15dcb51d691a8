package rights

import (
	"context"
	"time"
)

const (
	// slice is how often a part of everybody is decided again: the database's work is spread over the interval.
	slice = 100 * time.Millisecond
	// maxParts bounds how often all subscriptions are looked through for those of a part.
	maxParts = 50
)

// recheck has everybody decided again, part after part, for as long as something changes that nobody notices. A part begins
// when the one before is done.
func (w *Watcher) recheck(ctx context.Context) {
	every := w.options.RecheckEvery
	if every <= 0 {
		return
	}
	parts := int(min(max(every/slice, 1), maxParts))
	tick := time.NewTicker(every / time.Duration(parts))
	defer tick.Stop()
	for part := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if w.needsTimer() && w.options.Recheck(part, parts) {
			part = (part + 1) % parts
		}
	}
}

func (w *Watcher) needsTimer() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unseen
}
