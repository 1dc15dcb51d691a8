package presence

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"rowcast/server/hub"
	"rowcast/server/protocol"
)

const (
	// window is how long changes are collected once one has been told: too short to be noticed by people, and long enough
	// that thousands who come at once cost each of them twenty frames a second and not thousands.
	window = 50 * time.Millisecond
	// maxDiff is about how large a diff may be; more is told in several. So nobody's queue is filled by one change of a
	// large room.
	maxDiff = 256 << 10
)

// room is the presence of one room.
type room struct {
	registry *Registry
	id       hub.Room
	users    int // guarded by the registry's lock

	mu      sync.Mutex           // guards all below, and what changes in members
	inside  int                  // members that have not left
	present map[string][]*Member // by key: those that others have been told of
	changed []*Member            // since the last that was told
	waiting []*Member            // for a state
	bytes   int                  // tracked
	busy    bool                 // something was told less than a window ago
	cached  []byte               // the state; nil: to be built
}

func newRoom(g *Registry, id hub.Room) *room {
	return &room{registry: g, id: id, present: map[string][]*Member{}}
}

// change has others told of a member.
func (r *room) change(m *Member) {
	if !m.changed {
		m.changed = true
		r.changed = append(r.changed, m)
	}
	r.tell()
}

// leave counts a member as gone. When it was the last, nobody is there to be told anything.
func (r *room) leave(m *Member) {
	wasPresent := m.drop()
	r.inside--
	switch {
	case r.inside == 0:
		clear(r.present)
		r.changed, r.waiting, r.cached = nil, nil, nil
	case wasPresent:
		r.change(m)
	}
}

// tell says what there is to say: at once after a quiet time, else at the end of the window. It may be called on a worker
// of the hub, so nothing in it waits.
func (r *room) tell() {
	if r.busy {
		return
	}
	r.busy = true
	time.AfterFunc(window, r.endWindow)
	r.flush()
}

func (r *room) endWindow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	if len(r.changed)+len(r.waiting) > 0 {
		r.tell()
	}
}

// flush gives those who wait the state as others know it, and then tells all of them what has changed. The lock is held for
// both, so what the hub is given is in this order for everyone.
func (r *room) flush() {
	r.giveStates()
	for diff := range chunks(r.takeChanges()) {
		// Not Publish, which may wait for the workers, which may wait for this room. What is published is bounded all the
		// same: by the window, and by what a room may hold.
		r.registry.Hub.TryPublish(hub.Publication{Room: r.id, Frame: r.frame(protocol.EventPresenceDiff, diff)})
		r.registry.Metrics.PresenceDiffs.Inc()
	}
}

func (r *room) giveStates() {
	waiting := r.waiting
	r.waiting = nil
	var state *protocol.Frame // the same for all
	for _, m := range waiting {
		m.waits = false
		if m.left {
			continue
		}
		if state == nil {
			state = r.frame(protocol.EventPresenceState, r.state())
		}
		r.registry.Hub.Give(m.sub, state)
		r.registry.Metrics.PresenceStates.Inc()
	}
}

// state is the payload of presence_state: what others have been told.
func (r *room) state() []byte {
	if r.cached == nil {
		var all []protocol.Present
		for _, key := range slices.Sorted(maps.Keys(r.present)) {
			p := protocol.Present{Key: key}
			for _, m := range r.present[key] {
				p.Metas = append(p.Metas, m.published.json)
			}
			all = append(all, p)
		}
		r.cached = protocol.PresenceState(all)
	}
	return r.cached
}

func (r *room) frame(event string, payload []byte) *protocol.Frame {
	return protocol.TextEvent(protocol.TopicPrefix+r.id.Name, event, payload)
}

// difference is what others are to be told of one member; either may be nil.
type difference struct {
	key           string
	joins, leaves *meta
}

// takeChanges makes current what others know, and gives what that changes for them: nothing, for who came and went.
func (r *room) takeChanges() []difference {
	var all []difference
	for _, m := range r.changed {
		m.changed = false
		if m.current == m.published {
			continue
		}
		all = append(all, difference{m.key, m.current, m.published})
		if m.published == nil {
			r.present[m.key] = append(r.present[m.key], m)
		}
		m.published = m.current
		r.cached = nil
	}
	r.changed = nil
	slices.SortStableFunc(all, func(a, b difference) int { return cmp.Compare(a.key, b.key) })
	for i, d := range all {
		if i == 0 || all[i-1].key != d.key {
			r.sweep(d.key)
		}
	}
	return all
}

// sweep takes those out of a key who are not present any more: once for all that have left.
func (r *room) sweep(key string) {
	stay := slices.DeleteFunc(r.present[key], func(m *Member) bool { return m.published == nil })
	if len(stay) == 0 {
		delete(r.present, key)
		return
	}
	r.present[key] = stay
}
