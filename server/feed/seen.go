package feed

import (
	"errors"
	"hash/maphash"
	"slices"
	"time"

	"rowcast/server/snapshot"
)

// position is where a connection found the database.
type position struct {
	snapshot  snapshot.Snapshot
	history   history
	processes []int32 // the server's own
}

// history tells in which course of events transaction ids mean something, apart from crashes.
type history struct {
	database string // which one of which cluster
	timeline string // begun at the last promotion or restore
	started  string // the server
}

// moment is one up to which everything has been told: what its snapshot sees, and in the middle of a backlog also what a
// later one sees, up to a place.
type moment struct {
	snapshot snapshot.Snapshot
	to       snapshot.Snapshot // of the backlog; zero: there is none
	place    int64             // in it
	at       time.Time
}

// tells tells whether a message was told by then.
func (m moment) tells(e entry) bool {
	return m.snapshot.Sees(e.xid) || e.seq <= m.place && m.to.Sees(e.xid)
}

// furthest is the snapshot that has seen most.
func (m moment) furthest() snapshot.Snapshot {
	if m.to.IsZero() {
		return m.snapshot
	}
	return m.to
}

// seen remembers what was told, so that nothing is told twice and nothing is left out. Only the feed's own goroutine uses
// it.
//
// Transaction ids are not for ever: those that Postgres had given out shortly before a crash, or that a standby had not
// received when it was promoted, are given out again. So what was told is known by its token, and after such a break
// everything since a moment that is old enough is looked at once more.
type seen struct {
	at        position            // of the last connection
	moments   []moment            // oldest first; the last is the floor
	delivered map[token]entry     // since the first moment
	marks     map[token]heardMark // the same
}

// heardMark is what a notification said. Anyone may have sent it, but not before the token was committed.
type heardMark struct {
	xid snapshot.XID
	aim uint64 // a hash
}

const (
	// settled is how long ago a moment must be for its transactions to have reached the disk and every standby that may be
	// promoted. Postgres writes what was committed asynchronously within 30 s at the latest.
	settled = time.Minute
	// maxDelivered bounds what is remembered for it (about 50 bytes each): on a busy database the oldest moment is younger.
	maxDelivered = 1 << 18
	// maxMarks bounds the marks that are remembered. Beyond it all are forgotten, and would be told again.
	maxMarks = 1 << 16
)

func newSeen() seen {
	return seen{delivered: map[token]entry{}, marks: map[token]heardMark{}}
}

// floor is the last moment: all up to it was told.
func (s *seen) floor() moment {
	if len(s.moments) == 0 {
		return moment{}
	}
	return s.moments[len(s.moments)-1]
}

func (s *seen) has(w wanted) bool {
	_, told := s.delivered[w.token]
	return told || s.floor().tells(w.entry)
}

func (s *seen) add(w wanted) { s.delivered[w.token] = w.entry }

// hear remembers a mark that was told, if it can be known again. The first one is meant: the token was not known before.
func (s *seen) hear(t token, m Mark) {
	if _, known := s.marks[t]; known || t == (token{}) {
		return
	}
	if len(s.marks) == maxMarks {
		clear(s.marks)
	}
	s.marks[t] = heardMark{m.XID, aimOf(m)}
}

// heard tells whether this mark was told when its token was known, so after its COMMIT.
func (s *seen) heard(t token, m Mark) bool {
	mark, ok := s.marks[t]
	return ok && mark.aim == aimOf(m)
}

func aimOf(m Mark) uint64 { return maphash.Comparable(aimSeed, [2]string{m.Subject, m.Topic}) }

var aimSeed = maphash.MakeSeed()

// begin is where the first connection starts to hear.
func (s *seen) begin(at position, now time.Time) {
	*s = newSeen()
	s.at = at
	s.moments = []moment{{snapshot: at.snapshot, at: now}}
}

var (
	errOtherDatabase = errors.New("other_database") // not the one that was heard before
	errRewound       = errors.New("rewound")        // the same one, but further back than what is remembered
)

// resume chooses the moment from which on a new connection has to catch up. same: Postgres has run on since the last
// connection was made. After an error there is no such moment: what was missed cannot be known.
func (s *seen) resume(at position) (from moment, same bool, err error) {
	before := s.at
	s.at = at
	if at.history.database != before.history.database {
		return from, false, errOtherDatabase
	}
	survivor := func(pid int32) bool { return slices.Contains(before.processes, pid) }
	if same = at.history == before.history && slices.ContainsFunc(at.processes, survivor); !same {
		s.moments = s.moments[:1]
	}
	if at.snapshot.OlderThan(s.floor().furthest()) {
		return from, false, errRewound
	}
	return s.floor(), same, nil
}

// advance adds a moment: what to sees has been told.
func (s *seen) advance(to snapshot.Snapshot, now time.Time) {
	if to.OlderThan(s.floor().snapshot) {
		return // two heartbeats met on their way
	}
	s.reach(moment{snapshot: to, at: now})
}

// reach adds a moment.
func (s *seen) reach(m moment) {
	s.moments = append(s.moments, m)
	s.trim(m.at)
}

// trim forgets moments that are older than need be, and what was told before the first that is left. It waits until there
// are many, because it looks at everything.
func (s *seen) trim(now time.Time) {
	keep := 0
	if now.Sub(s.moments[0].at) > 2*settled {
		for keep+1 < len(s.moments) && now.Sub(s.moments[keep+1].at) >= settled {
			keep++
		}
	}
	if len(s.delivered) > maxDelivered {
		keep = max(keep, len(s.moments)/2)
	}
	if keep == 0 {
		return
	}
	s.moments = slices.Clone(s.moments[keep:])
	for told, entry := range s.delivered {
		if s.moments[0].tells(entry) {
			delete(s.delivered, told)
		}
	}
	for t, m := range s.marks {
		if s.moments[0].snapshot.Sees(m.xid) {
			delete(s.marks, t)
		}
	}
}
