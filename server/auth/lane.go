package auth

import (
	"slices"
	"sync"
)

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

// take waits for requests and gives the first of them, as many as may share a question, up to max; nil once closed.
func (l *lane) take(max int) []*ask {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.asks) == 0 && !l.closed {
		l.filled.Wait()
	}
	if l.closed {
		return nil
	}
	n := 1
	for !l.asks[0].single && n < min(max, len(l.asks)) && !l.asks[n].single {
		n++
	}
	batch := make([]*ask, n)
	copy(batch, l.asks)
	l.asks = slices.Delete(l.asks, 0, n)
	return batch
}

func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.filled.Broadcast()
	l.mu.Unlock()
}
