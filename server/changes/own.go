package changes

import (
	"time"

	"rowcast/server/snapshot"
)

// ownXIDs are the last transactions in which the server wrote what takes no rights: its heartbeats, its lease.
type ownXIDs struct {
	known map[snapshot.XID]struct{}
	ring  []snapshot.XID
	next  int // in ring, once it is full
}

// maxOwn is how many are remembered. One that is not counts as somebody else's.
const maxOwn = 4096

func (o *ownXIDs) add(x snapshot.XID) {
	if o.known == nil {
		o.known = map[snapshot.XID]struct{}{}
	}
	o.known[x] = struct{}{}
	if len(o.ring) < maxOwn {
		o.ring = append(o.ring, x)
		return
	}
	delete(o.known, o.ring[o.next])
	o.ring[o.next] = x
	o.next = (o.next + 1) % maxOwn
}

func (o *ownXIDs) has(x snapshot.XID) bool {
	_, own := o.known[x]
	return own
}

// Wrote tells of a transaction of the server's own that takes no rights.
func (e *Engine) Wrote(x snapshot.XID) { e.mail.post(func() { e.loop.own.add(x) }) }

// Beat tells of a heartbeat: its transaction, and what it saw.
func (e *Engine) Beat(x snapshot.XID, saw snapshot.Snapshot) {
	e.mail.post(func() {
		e.loop.own.add(x)
		e.loop.beat(saw)
	})
}

// maxViewAge is how old a view gets where others write nothing. For now() the time stands still in it, and a function may look at it
// without anybody knowing.
const maxViewAge = 10 * time.Second

// beat has a view follow soon what others have committed: the fewer lie between a view and a DELETE, the more can be told of it.
// An idle database is hardly asked. It looks at what the heartbeat before saw: what was the server's own is known by now.
func (l *loop) beat(saw snapshot.Snapshot) {
	before := l.beaten
	l.beaten = saw
	at, idle := l.inbox.position()
	newest := l.views.newest()
	if newest == nil || l.batch != nil || !idle || at < newest.at { // views before it are still needed
		return
	}
	if time.Since(newest.opened) > maxViewAge {
		l.renew(at)
		return
	}
	for x := range newest.snapshot.Gained(before) {
		if !l.own.has(x) {
			l.renew(at)
			return
		}
	}
}
