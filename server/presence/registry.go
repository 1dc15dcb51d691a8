// Package presence knows who is present in the rooms of this node, and tells those who want to know.
//
// A member is told first who is present (presence_state), and from then on what changes (presence_diff); the hub keeps that
// order, and the rights. Changes are collected: a room says at most one thing in a window, however many come and go.
//
// It knows no rights and no wire: whoever calls Track has asked whether that is allowed.
package presence

import (
	"errors"
	"sync"

	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// ErrFull says that a room's presence holds as much as it may.
var ErrFull = errors.New("track: the room's presence is full")

// Options of a Registry.
type Options struct {
	Hub      *hub.Hub
	MaxBytes int // what may be tracked in one room, in all, as presence_state tells it; 0: no bound
	Metrics  *metrics.Metrics
}

// Registry is the rooms in which somebody is present, or wants to know who is.
type Registry struct {
	Options

	mu    sync.Mutex // guards rooms, and who uses them
	rooms map[hub.Room]*room
}

// NewRegistry has no rooms yet: they are made at first need, and dropped when empty.
func NewRegistry(o Options) *Registry {
	return &Registry{Options: o, rooms: map[hub.Room]*room{}}
}

// Enter makes a member of a subscription, which neither is present yet nor is told who is. It has to Leave. An empty key
// stands for a new one.
func (g *Registry) Enter(s *hub.Subscription, key string) *Member {
	if key == "" {
		key = newKey()
	}
	r := g.take(s.Room())
	m := &Member{room: r, sub: s, key: key, cost: len(protocol.TextRef(key)) + protocol.PresentOverhead}
	r.mu.Lock()
	r.inside++
	r.mu.Unlock()
	return m
}

// State is the payload of the room's presence_state, not to be changed.
func (g *Registry) State(room hub.Room) []byte {
	g.mu.Lock()
	r := g.rooms[room]
	g.mu.Unlock()
	if r == nil {
		return []byte("{}")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state()
}

// take gives a room to one user more.
func (g *Registry) take(id hub.Room) *room {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.rooms[id]
	if r == nil {
		r = newRoom(g, id)
		g.rooms[id] = r
	}
	r.users++
	return r
}

// release takes back what take gave.
func (g *Registry) release(r *room) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.users--; r.users == 0 {
		delete(g.rooms, r.id)
	}
}
