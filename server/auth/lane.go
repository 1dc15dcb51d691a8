package auth

import (
	"slices"
	"sync"
)

// lookahead is among how many batches requests are looked for that are of one role: a change of role costs Postgres more than
// another request does.
const lookahead = 8

// lane is a queue of requests. Subscriptions bound it: each has one request that counts, and now and then a void one.
type lane struct {
	mu     sync.Mutex // guards all below
	filled sync.Cond
	asks   []*ask
	closed bool
}

func (l *lane) init() { l.filled.L = &l.mu }

func (l *lane) put(a *ask) {
	l.mu.Lock()
	l.asks = append(l.asks, a)
	l.filled.Signal()
	l.mu.Unlock()
}

// take waits for requests and gives some that may share a question, up to max: the first, those of the same role, and then
// the next. nil once closed.
func (l *lane) take(max int) []*ask {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.asks) == 0 && !l.closed {
		l.filled.Wait()
	}
	if l.closed {
		return nil
	}
	first := l.asks[0]
	if first.single || max == 1 {
		l.asks = slices.Delete(l.asks, 0, 1)
		return []*ask{first}
	}
	ahead := l.asks[:min(len(l.asks), max*lookahead)]
	batch := make([]*ask, 0, min(max, len(ahead)))
	for _, same := range []bool{true, false} {
		for i, a := range ahead {
			if len(batch) < max && a != nil && !a.single && same == (a.Claims.Role == first.Claims.Role) {
				batch = append(batch, a)
				ahead[i] = nil
			}
		}
	}
	left := slices.DeleteFunc(ahead, func(a *ask) bool { return a == nil })
	l.asks = slices.Delete(l.asks, len(left), len(ahead))
	return batch
}

func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.filled.Broadcast()
	l.mu.Unlock()
}
