package changes

import (
	"context"
	"sync"

	"rowcast/server/wal"
)

const (
	// batchChanges and batchBytes end a batch: so many changes are judged by the same questions, and no more memory is taken.
	batchChanges = 200
	batchBytes   = 1 << 20
	// inboxBytes is how far the stream may be ahead of the loop: the next batch, beside the one that is being judged.
	inboxBytes = batchBytes
	// recentXIDs is how many of the last transactions are remembered that may not be visible yet.
	recentXIDs = 4096
)

// item is what the stream says and somebody wants: a row, tables emptied, or the end of the stream.
type item struct {
	begin    wal.Begin
	change   wal.Change
	truncate []*wal.Relation // nil: a row
	end      *ending
	size     int
}

// inbox is between the stream and the loop. Who reads the stream waits while it is full, and so does the stream.
type inbox struct {
	some chan struct{} // holds one while there is something to take
	room chan struct{} // holds one while there may be room again

	mu      sync.Mutex // guards those below
	items   []item
	bytes   int
	reached wal.LSN  // all before it was put
	recent  []uint32 // xids of the last transactions, wanted or not
	next    int      // in recent, once it is full
}

func (in *inbox) init() { in.some, in.room = make(chan struct{}, 1), make(chan struct{}, 1) }

// put waits for room, or for the end of ctx. An empty inbox takes an item of any size.
func (in *inbox) put(ctx context.Context, it item) {
	for !in.tryPut(it) {
		select {
		case <-in.room:
		case <-ctx.Done():
			return
		}
	}
	signal(in.some)
}

func (in *inbox) tryPut(it item) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.items) > 0 && in.bytes+it.size > inboxBytes {
		return false
	}
	in.items = append(in.items, it)
	in.bytes += it.size
	return true
}

// began notes that the stream has come to a transaction.
func (in *inbox) began(b wal.Begin) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.reached = max(in.reached, b.Commit)
	if len(in.recent) < recentXIDs {
		in.recent = append(in.recent, b.XID)
		return
	}
	in.recent[in.next] = b.XID
	in.next = (in.next + 1) % recentXIDs
}

// advanced notes how far the stream has come.
func (in *inbox) advanced(to wal.LSN) {
	in.mu.Lock()
	in.reached = max(in.reached, to)
	in.mu.Unlock()
}

// takeRecent gives the last transactions that the stream came to, and forgets them: the caller waits until they are visible.
func (in *inbox) takeRecent() []uint32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	recent := in.recent
	in.recent, in.next = nil, 0
	return recent
}

// end tells that nothing more comes of a stream.
func (in *inbox) end(e *ending) {
	in.mu.Lock()
	in.items = append(in.items, item{end: e})
	in.mu.Unlock()
	signal(in.some)
}

// clear forgets everything.
func (in *inbox) clear() {
	in.mu.Lock()
	in.items, in.bytes, in.recent, in.next = nil, 0, nil, 0
	in.mu.Unlock()
	signal(in.room)
}

// batch is what is judged together.
type batch struct {
	items []item
	at    wal.LSN // all that was committed before this has been judged, once the batch has
	end   *ending // of the stream, behind the items
}

// take gives what is there, up to a batch's bounds; nil: nothing is.
func (in *inbox) take() *batch {
	in.mu.Lock()
	n, bytes := 0, 0
	for n < len(in.items) && n < batchChanges && (n == 0 || bytes+in.items[n].size <= batchBytes) {
		bytes += in.items[n].size
		n++
		if in.items[n-1].end != nil {
			break
		}
	}
	if n == 0 {
		in.mu.Unlock()
		return nil
	}
	b := &batch{items: in.items[:n:n], at: in.reached}
	if b.end = in.items[n-1].end; b.end != nil {
		b.items = b.items[:n-1]
	}
	in.items = in.items[n:]
	in.bytes -= bytes
	if len(in.items) > 0 {
		b.at = in.items[0].begin.Commit
		signal(in.some)
	} else {
		in.items = nil
	}
	in.mu.Unlock()
	signal(in.room)
	return b
}

// position is how far the stream has come, if nothing waits.
func (in *inbox) position() (at wal.LSN, idle bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.reached, len(in.items) == 0
}

// intake is what the stream tells, on its goroutine.
type intake struct {
	ctx    context.Context
	inbox  *inbox
	wanted func(*wal.Relation) bool
	heard  func(wal.LSN) // how far it has come

	begin wal.Begin
	told  place // of a durable slot: what was told before the stream was lost is said again
	count int   // changes of the transaction so far
	again int   // of these, told before
}

// place is how far a stream was told.
type place struct {
	done    wal.LSN // transactions committed up to here are told
	partial wal.LSN // of the one that was committed here, the first changes
	changes int
}

func (i *intake) Begin(b wal.Begin) {
	i.begin, i.count, i.again = b, 0, 0
	if b.Commit == i.told.partial {
		i.again = i.told.changes
	}
	i.inbox.began(b)
}

// isTold tells whether the next change was told before.
func (i *intake) isTold() bool {
	i.count++
	if i.begin.Commit <= i.told.done || i.count <= i.again {
		return true
	}
	i.told.partial, i.told.changes = i.begin.Commit, i.count
	return false
}

func (i *intake) Change(c wal.Change) {
	if i.isTold() || !i.wanted(c.Relation) {
		return
	}
	i.inbox.put(i.ctx, item{begin: i.begin, change: c, size: changeSize(c)})
}

func (i *intake) Truncate(t wal.Truncate) {
	if i.isTold() {
		return
	}
	var wanted []*wal.Relation
	for _, r := range t.Relations {
		if i.wanted(r) {
			wanted = append(wanted, r)
		}
	}
	if len(wanted) > 0 {
		i.inbox.put(i.ctx, item{begin: i.begin, truncate: wanted, size: itemOverhead})
	}
}

// Message is of no use here: anyone can say it.
func (i *intake) Message(wal.Message) {}

func (i *intake) Commit() {
	i.told.done = max(i.told.done, i.begin.Commit)
	i.begin = wal.Begin{}
}

func (i *intake) Reached(at wal.LSN) {
	i.inbox.advanced(at)
	i.heard(at)
}

// itemOverhead is about what an item takes beside its values.
const itemOverhead = 256

func changeSize(c wal.Change) int {
	size := itemOverhead
	for _, values := range [][]wal.Value{c.Old, c.New} {
		for _, v := range values {
			size += len(v.Text) + valueOverhead
		}
	}
	return size
}

// valueOverhead is what a value takes beside its text.
const valueOverhead = 32
