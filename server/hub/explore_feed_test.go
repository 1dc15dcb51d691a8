package hub

import "slices"

// hear takes the next notification: marks at once, messages behind what is told late.
func (s *state) hear() {
	t := int(s.order[s.heard])
	e, n := s.transactions[t][s.part], s.part
	if s.part++; s.part == len(s.transactions[t]) {
		s.heard, s.part = s.heard+1, 0
	}
	switch {
	case e.clock, e.quiet: // says nothing
	case !e.message:
		e.mark.XID = xidOf(t)
		s.mark(e.mark)
	case s.catchesUp:
		s.late = append(s.late, s.numberOf(t, n))
	default:
		s.publish(s.numberOf(t, n))
	}
}

func (s *state) numberOf(transaction, statement int) int {
	return slices.Index(s.origin, place{transaction, statement})
}

func (s *state) publish(number int) {
	f := s.frames[number]
	p := &Publication{Room: Room{modelTopic, true}, Frame: f}
	if c := number - len(s.origin); c < 0 {
		s.told |= 1 << number
		p.XID = xidOf(s.origin[number].transaction)
	} else {
		s.knownAt[c] = s.known()
		s.expect(number)
	}
	s.append(p)
}

// known is of which commits the server could know: what the next connection tells, too, when there is none.
func (s *state) known() knowledge {
	if s.connected {
		return knowledge{s.heard, s.part}
	}
	return knowledge{len(s.order), 0}
}

// connect begins to catch up: the marks at once, in one order or the other, since nobody knows that of commits.
func (s *state) connect(backwards bool) {
	s.connected, s.catchesUp, s.backlog, s.late = true, true, nil, nil
	s.append(catchingUp{})
	var marks []Mark
	for i, t := range s.order {
		for n, e := range s.transactions[t] {
			switch number := s.numberOf(int(t), n); {
			case e.message && s.told&(1<<number) == 0:
				s.backlog = append(s.backlog, number)
			case !e.message && !e.quiet && !e.mark.Lenient && (i > s.heard || i == s.heard && n >= s.part):
				e.mark.XID = xidOf(int(t))
				marks = append(marks, e.mark)
			}
		}
	}
	if backwards {
		slices.Reverse(marks)
	}
	for _, m := range marks {
		s.mark(m)
	}
	slices.Sort(s.backlog)
	s.heard, s.part, s.proof = len(s.order), 0, len(s.order)
}

// catchUp tells the next late message.
func (s *state) catchUp() {
	switch {
	case len(s.backlog) > 0:
		n := s.backlog[0]
		s.backlog = s.backlog[1:]
		s.publish(n)
	case len(s.late) > 0:
		n := s.late[0]
		s.late = s.late[1:]
		s.publish(n)
	default:
		s.catchesUp = false
		s.append(caughtUp{})
	}
}
