package auth

import (
	"slices"
	"sync"
)

// lookahead is among how many batches requests are looked for that are of one role, or ask the same: a change of role costs
// Postgres more than another request does.
const lookahead = 8

// lane is a queue of requests. Subscriptions bound it, each with the request that counts; and the rate of joins those that do not
// count any more, as they are gone when they are late.
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

// putFirst puts a request before all others.
func (l *lane) putFirst(a *ask) {
	l.mu.Lock()
	l.asks = slices.Insert(l.asks, 0, a)
	l.filled.Signal()
	l.mu.Unlock()
}

// take waits for requests and gives some that may share a question, up to max: the first, those of the same role, and then
// the next. Where one is asked alone, all who ask exactly the same are: who joins again and again takes no more of a lane's
// time than who joins once. nil once closed.
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
	ahead := l.asks[:min(len(l.asks), maxBatch*lookahead)]
	var batch []*ask
	pick := func(max int, wanted func(*ask) bool) {
		for i, a := range ahead {
			if len(batch) < max && a != nil && wanted(a) {
				batch = append(batch, a)
				ahead[i] = nil
			}
		}
	}
	if first.single || max == 1 {
		q := first.question()
		pick(len(ahead), func(a *ask) bool { return a.Topic == q.topic && a.question() == q })
	} else {
		pick(max, func(a *ask) bool { return !a.single && a.Claims.Role == first.Claims.Role })
		pick(max, func(a *ask) bool { return !a.single })
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
