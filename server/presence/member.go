package presence

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// Member is one channel of one socket in its room. Several may have the same key.
type Member struct {
	room *room
	sub  *hub.Subscription
	key  string
	cost int // of the key in a state, about

	// Guarded by the room's lock.
	current   *meta // what it tracks; nil: it is not present
	published *meta // what others have been told of it
	changed   bool  // is among the room's changed
	waits     bool  // is among those who wait for a state
	left      bool
}

// meta is something tracked.
type meta struct {
	ref  string
	sum  [sha256.Size]byte // of the payload: to know it again without keeping it twice
	json []byte
}

func newMeta(payload []byte, sum [sha256.Size]byte, prev string) *meta {
	ref := newRef()
	return &meta{ref: ref, sum: sum, json: protocol.PresenceMeta(payload, ref, prev)}
}

// newRef is the form of references that clients know.
func newRef() string {
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// newKey is a random UUID.
func newKey() string {
	var u [16]byte
	_, _ = rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // version 4, variant of RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Watch has the member told who is present, now or at the end of the window, and then of every change.
func (m *Member) Watch() {
	r := m.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.left || m.waits {
		return
	}
	m.waits = true
	r.waiting = append(r.waiting, m)
	r.tell()
}

// Track makes the member present with a JSON object, or present with another one. The same again changes nothing.
func (m *Member) Track(payload []byte) error {
	r, sum := m.room, sha256.Sum256(payload) // takes a while, so not under the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.left || m.current != nil && m.current.sum == sum {
		return nil
	}
	var prev string
	if m.published != nil {
		prev = m.published.ref
	}
	next := newMeta(payload, sum, prev)
	bytes := r.bytes - m.size(m.current) + m.size(next)
	if limit := r.registry.MaxBytes; limit > 0 && bytes > limit {
		return ErrFull
	}
	if m.current == nil {
		r.registry.Metrics.PresenceTracked.Inc()
	}
	r.registry.Metrics.PresenceEvents.WithLabelValues("track").Inc()
	r.bytes, m.current = bytes, next
	r.change(m)
	return nil
}

// Untrack ends the member's presence.
func (m *Member) Untrack() { m.absent("untrack") }

// Revoke is Untrack against the member's will; false if it was not present.
func (m *Member) Revoke() bool { return m.absent("revoked") }

func (m *Member) absent(event string) bool {
	r := m.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if !m.drop() {
		return false
	}
	r.registry.Metrics.PresenceEvents.WithLabelValues(event).Inc()
	r.change(m)
	return true
}

// Leave ends everything about the member. Others are told if it was present.
func (m *Member) Leave() {
	r := m.room
	r.mu.Lock()
	if m.left {
		r.mu.Unlock()
		return
	}
	m.left = true
	r.leave(m)
	r.mu.Unlock()
	r.registry.release(r)
}

// drop forgets what is tracked; called under the room's lock.
func (m *Member) drop() bool {
	if m.current == nil {
		return false
	}
	m.room.registry.Metrics.PresenceTracked.Dec()
	m.room.bytes -= m.size(m.current)
	m.current = nil
	return true
}

// size is about what a meta takes in a state.
func (m *Member) size(of *meta) int {
	if of == nil {
		return 0
	}
	return m.cost + len(of.json)
}
