package hub

import (
	"iter"
	"time"
)

// private are the subscriptions that live by the database. They may be taken out on the way.
func (w *worker) private() iter.Seq[*Subscription] {
	return func(yield func(*Subscription) bool) {
		for room, members := range w.rooms {
			if !room.Private {
				continue
			}
			for i := len(members) - 1; i >= 0; i-- {
				if !yield(members[i]) {
					return
				}
			}
		}
	}
}

func (w *worker) add(s *Subscription) {
	s.turn = w.turns
	w.turns++
	s.place = len(w.rooms[s.room])
	w.rooms[s.room] = append(w.rooms[s.room], s)
	w.index(s)
	w.options.Metrics.Channels.WithLabelValues(s.room.kind()).Inc()
}

func (w *worker) remove(s *Subscription) {
	s.gate.close()
	s.history.drop()
	w.recount(s)
	w.settle(s)
	w.expire(s, time.Time{})
	w.endRecheck(s)
	w.discount(s)
	members := w.rooms[s.room]
	if s.place >= len(members) || members[s.place] != s {
		return
	}
	last := len(members) - 1
	members[s.place] = members[last]
	members[s.place].place = s.place
	members[last] = nil
	switch {
	case last == 0:
		delete(w.rooms, s.room)
	case cap(members) > keepMembers && last < cap(members)/4:
		w.rooms[s.room] = append([]*Subscription(nil), members[:last]...)
	default:
		w.rooms[s.room] = members[:last]
	}
	w.unindex(s)
	w.options.Metrics.Channels.WithLabelValues(s.room.kind()).Dec()
}

// discount has the log count a subscription as gone, once.
func (w *worker) discount(s *Subscription) {
	if s.counted && w.log != nil {
		w.log.left(w.number, s.room)
	}
	s.counted = false
}

func (r Room) kind() string {
	if r.Private {
		return "private"
	}
	return "public"
}

func (w *worker) index(s *Subscription) {
	if !s.room.Private || s.subject == "" {
		return
	}
	members := w.subjects[s.subject]
	if members == nil {
		members = map[*Subscription]struct{}{}
		w.subjects[s.subject] = members
	}
	members[s] = struct{}{}
}

func (w *worker) unindex(s *Subscription) {
	if members := w.subjects[s.subject]; members != nil {
		delete(members, s)
		if len(members) == 0 {
			delete(w.subjects, s.subject)
		}
	}
}
