package changes

import "slices"

// Policies that take their time with each row may not be done with a whole batch of them in the time that a question has. So those
// who cannot be told in time of all rows are asked about in pieces: a row by itself has all of that time.

// maxPieces is how many such questions a batch asks in all: others wait meanwhile.
const maxPieces = 4

// isCut tells whether fewer rows may be told in time.
func (s *Seen) isCut(rows int) bool {
	return rows > 1 && s.Undecided && (s.Code == "57014" || s.Code == "53200")
}

// inPieces asks what a group sees of the rows with the keys at some places, so many at a time as were told in time the last time. What
// there is no time left for fails as a single row does that takes too long.
func (t *trial) inPieces(view *epoch, of *Table, keys [][]string, places []int, g *group, wanted []string, was Seen) (Seen, error) {
	whole := was
	whole.Undecided, whole.Visible, whole.Texts, whole.Failed = false, nil, nil, nil
	whole.Code, whole.Reason = "", ""
	size := len(places) / 2
	if g.most > 0 {
		size = min(g.most, len(places))
	}
	at, told := 0, false
	for at < len(places) && t.pieces < maxPieces {
		t.pieces++
		piece := places[at:min(at+size, len(places))]
		some := make([][]string, len(piece))
		for i, place := range piece {
			some[i] = keys[place]
		}
		var one [1]Seen
		if err := t.askAbout(view, of, some, []*group{g}, nil, []int{0}, wanted, one[:]); err != nil {
			return Seen{}, err
		}
		s := one[0]
		if s.Undecided && len(piece) > 1 {
			size = len(piece) / 2
			continue
		}
		at += len(piece)
		if s.Code != "" {
			whole.Code, whole.Reason = s.Code, s.Reason
		}
		if s.Undecided {
			whole.Failed = append(whole.Failed, piece...)
			continue
		}
		told = true
		whole.Rewritten = whole.Rewritten || s.Rewritten
		whole.Columns, whole.RowSecurity, whole.All, whole.Refusal, whole.Missing, whole.Gone = s.Columns, s.RowSecurity, s.All, s.Refusal, s.Missing, s.Gone
		for i, n := range s.Visible {
			whole.Visible = append(whole.Visible, piece[n])
			if i < len(s.Texts) {
				whole.Texts = append(whole.Texts, s.Texts[i])
			}
		}
		for _, n := range s.Failed {
			whole.Failed = append(whole.Failed, piece[n])
		}
	}
	g.most = max(1, size)
	if !told {
		return was, nil
	}
	if at < len(places) {
		whole.Failed = append(whole.Failed, places[at:]...)
		whole.Code, whole.Reason = was.Code, was.Reason
	} else if len(whole.Failed) == 0 {
		g.most *= 2 // the next time it may do more
	}
	whole.All = whole.All && len(whole.Failed) == 0
	slices.Sort(whole.Failed)
	return whole, nil
}

// placesOf are the places of the keys that a group is asked about.
func placesOf(about map[*group][]int, g *group, keys int) []int {
	if own := about[g]; own != nil {
		return own
	}
	all := make([]int, keys)
	for i := range all {
		all[i] = i
	}
	return all
}

// countOf is how many these are.
func countOf(about map[*group][]int, g *group, keys int) int {
	if own := about[g]; own != nil {
		return len(own)
	}
	return keys
}
