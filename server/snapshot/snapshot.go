// Package snapshot reads what Postgres calls a snapshot: which transactions a query could see.
//
// It is the clock of everything that has to agree on "before" and "after" with the database: a decision saw a
// revocation, or did not; a message was committed before a join, or after it. It knows nothing of connections.
package snapshot

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// XID is a Postgres transaction id of 64 bits (xid8), of a top-level transaction. 0 is no transaction.
type XID uint64

// ParseXID reads the text form of an xid8.
func ParseXID(s string) (XID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read transaction id %.32q: not a number", s)
	}
	return XID(n), nil
}

// Snapshot is a pg_snapshot. The zero Snapshot sees nothing.
type Snapshot struct {
	xmin, xmax XID   // below xmin: all ended; from xmax on: none visible
	running    []XID // in between, not ended when the snapshot was taken; sorted
}

// Parse reads the text form of a pg_snapshot: xmin:xmax:xip,xip,…
func Parse(s string) (Snapshot, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("read snapshot %.64q: expected xmin:xmax:list", s)
	}
	var snap Snapshot
	var err error
	if snap.xmin, err = ParseXID(parts[0]); err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	if snap.xmax, err = ParseXID(parts[1]); err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	if snap.xmin > snap.xmax {
		return Snapshot{}, fmt.Errorf("read snapshot %.64q: xmin above xmax", s)
	}
	if parts[2] == "" {
		return snap, nil
	}
	for field := range strings.SplitSeq(parts[2], ",") {
		xid, err := ParseXID(field)
		if err != nil {
			return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
		}
		snap.running = append(snap.running, xid)
	}
	slices.Sort(snap.running)
	return snap, nil
}

// Sees tells whether the transaction had committed (or rolled back) in the eyes of this snapshot. Ask only about
// transactions known to have committed: it cannot tell the two apart.
func (s Snapshot) Sees(x XID) bool {
	if x == 0 || x >= s.xmax {
		return false
	}
	if x < s.xmin {
		return true
	}
	_, found := slices.BinarySearch(s.running, x)
	return !found
}

// SeesAll tells whether it sees all of these.
func (s Snapshot) SeesAll(xids []XID) bool {
	return !slices.ContainsFunc(xids, func(x XID) bool { return !s.Sees(x) })
}

// Gained are the transactions that a later snapshot sees and this one does not, also those that were rolled back or are part of
// another.
func (s Snapshot) Gained(later Snapshot) iter.Seq[XID] {
	return func(yield func(XID) bool) {
		for _, x := range s.running {
			if later.Sees(x) && !yield(x) {
				return
			}
		}
		for x := s.xmax; x < later.xmax; x++ {
			if later.Sees(x) && !yield(x) {
				return
			}
		}
	}
}

// IsZero tells whether this is no snapshot of a database.
func (s Snapshot) IsZero() bool { return s.xmax == 0 }

// OlderThan tells whether this snapshot was taken before the other, if both are of one database.
func (s Snapshot) OlderThan(o Snapshot) bool { return s.xmax < o.xmax }

// Oldest is the first transaction that may not have ended yet: all before it are seen.
func (s Snapshot) Oldest() XID { return s.xmin }

// Running are the transactions that have an id below this snapshot's end and had not ended.
func (s Snapshot) Running() []XID { return slices.Clone(s.running) }

// Without is this snapshot if these had ended by then.
func (s Snapshot) Without(running func(XID) bool) Snapshot {
	s.running = slices.DeleteFunc(slices.Clone(s.running), running)
	if len(s.running) > 0 {
		s.xmin = s.running[0]
	} else {
		s.xmin = s.xmax
	}
	return s
}

// String is the text form that Postgres reads.
func (s Snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:%d:", s.xmin, s.xmax)
	for i, x := range s.running {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", x)
	}
	return b.String()
}

// Widen gives the whole id of which only the lower half is known, as in the WAL, by a snapshot that is not far from it. The
// distance has a sign: what has not ended yet may well lie above the snapshot.
func Widen(low uint32, near Snapshot) XID {
	distance := int32(low - uint32(near.xmax))
	return XID(int64(near.xmax) + int64(distance))
}
