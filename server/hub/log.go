package hub

import "sync"

// markSize is what a mark counts against the log's bound: about its size in memory.
const markSize = 128

// entry is one thing that happens, in its place.
type entry interface{ apply(*worker) }

// log is the order in which things happen. Many append, one worker takes.
type log struct {
	mu       sync.Mutex // guards all below
	filled   sync.Cond  // entries came in, or the log was closed
	drained  sync.Cond  // entries were taken
	entries  []entry
	bytes    int // of the entries waiting
	maxBytes int
	closed   bool
}

func newLog(maxBytes int) *log {
	l := &log{maxBytes: maxBytes}
	l.filled.L, l.drained.L = &l.mu, &l.mu
	return l
}

// append never waits: what it appends is bounded by the number of subscriptions.
func (l *log) append(e entry, size int) {
	l.mu.Lock()
	l.put(e, size)
	l.mu.Unlock()
}

// appendWait waits until the log is below its bound; an entry of any size fits into an empty log.
func (l *log) appendWait(e entry, size int) {
	l.mu.Lock()
	for l.bytes > 0 && l.bytes+size > l.maxBytes && !l.closed {
		l.drained.Wait()
	}
	l.put(e, size)
	l.mu.Unlock()
}

func (l *log) put(e entry, size int) {
	if l.closed {
		return
	}
	l.entries = append(l.entries, e)
	l.bytes += size
	if len(l.entries) == 1 {
		l.filled.Signal()
	}
}

// take waits for entries and gives all there are; into is reused for the next ones. nil: the log is closed.
func (l *log) take(into []entry) []entry {
	clear(into)
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.entries) == 0 {
		if l.closed {
			return nil
		}
		l.filled.Wait()
	}
	taken := l.entries
	l.entries, l.bytes = into[:0], 0
	l.drained.Broadcast()
	return taken
}

func (l *log) close() {
	l.mu.Lock()
	l.closed = true
	l.filled.Broadcast()
	l.drained.Broadcast()
	l.mu.Unlock()
}
