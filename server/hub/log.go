package hub

import "sync"

// markSize is what a mark counts against the log's bound: about its size in memory.
const markSize = 128

// entry is one thing that happens, in its place.
type entry interface{ apply(*worker) }

// log is the order in which things happen: its lock decides it. What happens is dealt out to the workers that it
// concerns, each of which takes its share in that order.
type log struct {
	maxBytes int // of one share

	mu      sync.Mutex // guards all below
	shares  []share
	seats   map[Room][]int // how many subscriptions of a room each worker has
	drained sync.Cond      // entries were taken
	closed  bool
}

// share is what waits for one worker.
type share struct {
	entries []entry
	bytes   int
	filled  sync.Cond // entries came in, or the log was closed
}

func newLog(workers, maxBytes int) *log {
	l := &log{maxBytes: maxBytes, shares: make([]share, workers), seats: map[Room][]int{}}
	l.drained.L = &l.mu
	for i := range l.shares {
		l.shares[i].filled.L = &l.mu
	}
	return l
}

// appendTo gives an entry to one worker. It never waits: what it appends is bounded by the number of subscriptions, and by
// what their clients may ask for in a second.
func (l *log) appendTo(worker int, e entry) {
	l.mu.Lock()
	l.put(worker, e, 0)
	l.mu.Unlock()
}

// appendToAll gives an entry to every worker.
func (l *log) appendToAll(e entry) {
	l.mu.Lock()
	for i := range l.shares {
		l.put(i, e, 0)
	}
	l.mu.Unlock()
}

// toRoom gives an entry to the workers that have members of a room.
func (l *log) toRoom(r Room, e entry) {
	l.mu.Lock()
	for i := range l.shares {
		if l.has(i, r) {
			l.put(i, e, 0)
		}
	}
	l.mu.Unlock()
}

// join gives a worker a subscription: from here on it is told what happens in the room.
func (l *log) join(worker int, room Room, e entry) {
	l.mu.Lock()
	seats := l.seats[room]
	if seats == nil {
		seats = make([]int, len(l.shares))
		l.seats[room] = seats
	}
	seats[worker]++
	l.put(worker, e, 0)
	l.mu.Unlock()
}

// left takes back what join counted.
func (l *log) left(worker int, room Room) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seats := l.seats[room]
	seats[worker]--
	for _, n := range seats {
		if n > 0 {
			return
		}
	}
	delete(l.seats, room)
}

// publish gives a frame to the workers that have members of its room. If it may wait it does so while the log is full.
func (l *log) publish(p *Publication, size int, wait bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	concerned := func(worker int) bool { return l.has(worker, p.Room) }
	if wait {
		l.awaitRoom(size, concerned)
	}
	for worker := range l.shares {
		if concerned(worker) {
			l.put(worker, p, size)
		}
	}
}

// mark gives a mark to the workers that may have somebody whom it concerns. One that only repeats the aim of the entry
// before it becomes part of that one: anyone can forge thousands.
func (l *log) mark(m marking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	concerned := func(worker int) bool { return m.mark.Topic == "" || l.has(worker, Room{m.mark.Topic, true}) }
	l.awaitRoom(markSize, concerned)
	for worker := range l.shares {
		if concerned(worker) && !l.shares[worker].merge(m) {
			own := m // each worker's may be merged with others
			l.put(worker, &own, markSize)
		}
	}
}

func (s *share) merge(m marking) bool {
	if len(s.entries) == 0 {
		return false
	}
	last, ok := s.entries[len(s.entries)-1].(*marking)
	return ok && last.merge(m)
}

func (l *log) has(worker int, room Room) bool {
	seats := l.seats[room]
	return seats != nil && seats[worker] > 0
}

// awaitRoom waits until the shares concerned are below their bound; an entry of any size fits into an empty one.
func (l *log) awaitRoom(size int, concerned func(worker int) bool) {
	full := func() bool {
		for worker := range l.shares {
			if bytes := l.shares[worker].bytes; bytes > 0 && bytes+size > l.maxBytes && concerned(worker) {
				return true
			}
		}
		return false
	}
	for full() && !l.closed {
		l.drained.Wait()
	}
}

func (l *log) put(worker int, e entry, size int) {
	if l.closed {
		return
	}
	share := &l.shares[worker]
	share.entries = append(share.entries, e)
	share.bytes += size
	if len(share.entries) == 1 {
		share.filled.Signal()
	}
}

// take waits for entries of a worker and gives all there are; into is reused for the next ones. nil: the log is closed.
func (l *log) take(worker int, into []entry) []entry {
	clear(into)
	l.mu.Lock()
	defer l.mu.Unlock()
	share := &l.shares[worker]
	for len(share.entries) == 0 {
		if l.closed {
			return nil
		}
		share.filled.Wait()
	}
	taken := share.entries
	share.entries, share.bytes = into[:0], 0
	l.drained.Broadcast()
	return taken
}

func (l *log) close() {
	l.mu.Lock()
	l.closed = true
	for i := range l.shares {
		l.shares[i].filled.Broadcast()
	}
	l.drained.Broadcast()
	l.mu.Unlock()
}
