package changes

import (
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
	"rowcast/server/wal"
)

// Whatever may have been missed is told, to those who may have missed it.

// missed notes that somebody may have missed changes of a batch. He is told so once, behind all that he is told of it.
func (t *trial) missed(s *Subscription, c gapCause) {
	if _, noted := t.gaps[s]; !noted {
		t.gaps[s] = c
	}
}

// tellGaps tells what was noted. Whoever is given a snapshot meanwhile is told behind it: changes of this batch are, too.
func (t *trial) tellGaps() {
	for s, c := range t.gaps {
		if s.reading == nil {
			t.gap(s, c)
			continue
		}
		text := gapTexts[c]
		t.Metrics.ChangesGaps.WithLabelValues(string(c)).Inc()
		s.reading.hold(t.loop, s, held{word: notice{protocol.PostgresChangesGap, text}}, len(text))
	}
	clear(t.gaps)
}

// missedBy notes that those of an audience who would have been told of a row may have missed it.
func (t *trial) missedBy(a *audience, x snapshot.XID) {
	for _, seat := range a.seats {
		if seat.sub.hears(x) {
			t.missed(seat.sub, gapUndecided)
		}
	}
}

// missedOf notes it of all who might have been told of changes of a relation. Where it is not known any more what the relation
// belonged to, those are also all who want changes of a partitioned table.
func (t *trial) missedOf(r *wal.Relation) {
	names := []Name{{r.Schema, r.Name}}
	source := t.sources[r]
	known := source != nil && len(source.tables) > 0
	if known {
		for _, table := range source.tables {
			names = append(names, Name{table.Schema, table.Name})
		}
	}
	for s := range t.seated {
		if s.active && !s.ended.Load() && (!known && s.partitioned || s.wantsAny(names)) {
			t.missed(s, gapUndecided)
		}
	}
}

// missedItem notes it of all that an item is about.
func (t *trial) missedItem(it *item) {
	if it.change.Relation != nil {
		t.missedOf(it.change.Relation)
	}
	for _, r := range it.truncate {
		t.missedOf(r)
	}
}

// wantsAny tells whether an entry means a relation of one of these names.
func (s *Subscription) wantsAny(names []Name) bool {
	for _, e := range s.Entries {
		for _, n := range names {
			if e.Matches(n.Schema, n.Name) {
				return true
			}
		}
	}
	return false
}

// gap tells one that he may have missed something.
func (l *loop) gap(s *Subscription, c gapCause) {
	l.Metrics.ChangesGaps.WithLabelValues(string(c)).Inc()
	if s.reading == nil { // what it was given so far counts no more
		s.partial = false
	}
	if !s.ended.Load() {
		s.Member.Notice(protocol.PostgresChangesGap, gapTexts[c])
	}
}

// gapForAll has everybody begin again.
func (l *loop) gapForAll(c gapCause) {
	for s := range l.seated {
		if !s.active {
			continue
		}
		if s.reading != nil {
			l.stopReading(s)
		}
		s.active, s.announce = false, true
		l.gap(s, c)
		l.wait(s)
	}
}
