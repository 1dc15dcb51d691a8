package changes

import (
	"fmt"
	"slices"
	"strings"

	"rowcast/server/snapshot"
)

// modelRowJudged is a row with what the model knows of it.
type modelRowJudged struct {
	modelJudged
	change modelChange
	rear   modelState
	modelBetween
}

// modelBetween is what lies between a view and a change that it does not see.
type modelBetween struct {
	alone     bool // nothing but the change's own transaction, as far as snapshots tell
	rewritten bool // another transaction wrote a version of the row
	perhaps   bool // one did after it, which a batch that is judged again takes for that
}

// modelSums are what was seen.
type modelSums struct{ frames, unauthorized, gaps, undecided, either, contested int }

func (s *modelSums) add(more modelSums) {
	s.frames += more.frames
	s.unauthorized += more.unauthorized
	s.gaps += more.gaps
	s.undecided += more.undecided
	s.contested += more.contested
}

// modesOf are the policies of laws.
func modesOf(laws []modelLaw) (modes []int) {
	for _, l := range laws {
		modes = append(modes, l.mode)
	}
	return slices.Compact(modes)
}

// compare holds what was told against what should have been.
func (m *model) compare() {
	var sums modelSums
	done := map[snapshot.XID]int{} // changes of a transaction so far
	last := map[rowKey]snapshot.Snapshot{}
	judged := map[*modelMember]map[snapshot.XID]bool{}
	for number, b := range m.batches {
		front := m.history.at(b.front)
		rows := m.rowsOf(number, b, done, last)
		for _, told := range b.told {
			if judged[told.member] == nil {
				judged[told.member] = map[snapshot.XID]bool{}
			}
			for _, r := range rows {
				judged[told.member][r.xid] = judged[told.member][r.xid] || told.active
			}
		}
		var problem string
		var problems []string
		for _, mode := range modesOf(b.laws) { // one of these was it, for everybody
			var these modelSums
			if problem = m.differs(number, b, rows, front, lawsOf(mode, b.laws), &these); problem == "" {
				sums.add(these)
				break
			}
			sums.either++
			problems = append(problems, fmt.Sprintf("with mode %d: %s", mode, problem))
		}
		if problem != "" {
			m.Error(strings.Join(problems, "\n"))
		}
		if m.Failed() {
			return
		}
	}
	m.complete(judged)
	m.Logf("%d batches, %d frames (%d without the row), %d gaps told, %d undecided, %d told though others had written, %d laws, %d batches that fell together with one and were by an earlier policy",
		len(m.batches), sums.frames, sums.unauthorized, sums.gaps, sums.undecided, sums.contested, len(m.laws)-1, sums.either)
	if sums.frames == 0 || sums.contested == 0 {
		m.Error("nobody was told of anything, or of what others had written between")
	}
}

// rowsOf finds what the model knows of a batch's rows, and checks in which views they were judged.
func (m *model) rowsOf(number int, b *modelBatch, done map[snapshot.XID]int, last map[rowKey]snapshot.Snapshot) (rows []modelRowJudged) {
	for _, j := range b.rows {
		t := m.history.byXID[j.xid]
		if t == nil {
			continue // the last, which is no part of the world
		}
		if done[j.xid] >= len(t.changes) {
			m.Fatalf("batch %d: transaction %d has more changes than were made", number, j.xid)
		}
		r := modelRowJudged{modelJudged: j, change: t.changes[done[j.xid]]}
		done[j.xid]++
		if !b.front.Sees(j.xid) {
			m.Errorf("batch %d is judged by a snapshot that does not see %d", number, j.xid)
		}
		if c := r.change; c.old != nil && j.has {
			r.rear = m.history.at(j.rear)
			if j.rear.Sees(j.xid) {
				m.Errorf("batch %d: the old row is looked for after it was changed", number)
			}
			r.modelBetween = m.between(b, j, c)
			if shown, ok := last[c.table.keyOf(*c.old)]; ok && !shown.Sees(j.xid) && j.rear.OlderThan(shown) {
				m.Errorf("batch %d: a row that was shown at %s is looked for at %s", number, shown, j.rear)
			}
		} else {
			r.has = false
		}
		if c := r.change; c.new != nil {
			last[c.table.keyOf(*c.new)] = b.front
		}
		rows = append(rows, r)
	}
	return rows
}

// between finds out what lies between the view in which an old row was looked for and its change.
func (m *model) between(b *modelBatch, j modelJudged, c modelChange) (is modelBetween) {
	later := map[snapshot.XID]bool{}
	for i := len(b.rows) - 1; i >= 0 && b.rows[i].xid != j.xid; i-- {
		later[b.rows[i].xid] = true
	}
	is.alone = true
	for x := j.rear.Oldest(); x < b.end; x++ {
		if !j.rear.Sees(x) && b.front.Sees(x) && x != j.xid && !later[x] {
			is.alone = false
			break
		}
	}
	after := false
	for _, writer := range m.history.writers {
		if !slices.ContainsFunc(writer, func(t modelTransaction) bool { return t.xid == j.xid }) {
			continue
		}
		for _, t := range writer {
			if t.xid == j.xid {
				after = true
				continue
			}
			wrote := slices.ContainsFunc(t.changes, func(o modelChange) bool {
				return o.table == c.table && o.new != nil && c.table.keyOf(*o.new) == c.table.keyOf(*c.old)
			})
			if wrote && !j.rear.Sees(t.xid) {
				is.rewritten, is.perhaps = is.rewritten || !after, is.perhaps || after
			}
		}
	}
	return is
}

// differs says how what was told of a batch is not what should have been.
func (m *model) differs(number int, b *modelBatch, rows []modelRowJudged, front modelState, laws [][2]modelLaw, sums *modelSums) string {
	for _, told := range b.told {
		if problem := m.differsFor(told, rows, front, laws, sums); problem != "" {
			return fmt.Sprintf("batch %d, %+v with %+v under %v: %s", number, told.person, told.member.entries, b.laws, problem)
		}
	}
	return ""
}

// modelReading is how far what was told can be read, if so much of it is about the rows so far; and whether of one of these nobody could tell.
type modelReading struct {
	at      int
	lacking bool
}

// differsFor says it of one member. Grants may have changed between two questions: then either way is right.
func (m *model) differsFor(told modelTold, rows []modelRowJudged, front modelState, laws [][2]modelLaw, sums *modelSums) string {
	var said []string
	gap := false
	for _, text := range told.said {
		switch {
		case strings.HasPrefix(text, "-Changes may have been missed"):
			gap = true
			sums.gaps++
		case strings.HasPrefix(text, "+"), strings.HasPrefix(text, "-"), strings.Contains(text, " done "):
		default:
			said = append(said, text)
		}
		if strings.Contains(text, ErrorUnauthorized) {
			sums.unauthorized++
		}
	}
	sums.frames += len(said)
	var want []string // by the last law
	readings := map[modelReading]bool{{}: true}
	for _, r := range rows {
		if !told.active || told.since.Sees(r.xid) {
			continue
		}
		next := map[modelReading]bool{}
		for i, l := range laws {
			x := told.member.expects(told.person, r.change, front.under(l[0]), r.rear.under(l[1]), r.has, r.modelBetween)
			for as := &x; as != nil; as = as.instead {
				for reading := range readings {
					end := reading.at + len(as.frames)
					if end <= len(said) && slices.Equal(as.frames, slices.Sorted(slices.Values(said[reading.at:end]))) {
						next[modelReading{end, reading.lacking || as.gap}] = true
					}
				}
			}
			if i == len(laws)-1 {
				if x.contested {
					sums.contested += len(x.frames)
				}
				want = append(want, x.frames...)
			}
		}
		readings = next
	}
	whole := false
	for reading := range readings {
		if reading.at != len(said) {
			continue
		}
		if whole = true; gap == reading.lacking || gap && m.faults {
			if reading.lacking {
				sums.undecided++
			}
			return ""
		}
	}
	if whole {
		return fmt.Sprintf("a gap was told: %t, and that is wrong", gap)
	}
	return fmt.Sprintf("\nwant\n\t%s\ntold\n\t%s", strings.Join(want, "\n\t"), strings.Join(told.said, "\n\t"))
}

// complete: whoever is active has been judged for everything that was committed since.
func (m *model) complete(judged map[*modelMember]map[snapshot.XID]bool) {
	final := m.batches[len(m.batches)-1]
	for _, told := range final.told {
		if !told.active {
			continue
		}
		for xid, t := range m.history.byXID {
			if len(t.changes) > 0 && !told.since.Sees(xid) && !judged[told.member][xid] {
				m.Errorf("%d was committed after %s, and never judged", xid, told.since)
			}
		}
	}
}
