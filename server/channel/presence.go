package channel

import (
	"bytes"
	"fmt"

	"rowcast/server/presence"
	"rowcast/server/protocol"
)

// presenceState is what a channel has to do with presence; guarded by the channel's lock.
type presenceState struct {
	on     bool             // its rights are asked about, and its client is told who is present
	told   bool             // the client is, or will be
	member *presence.Member // made at first need
}

// presencePush is a presence event of the client.
type presencePush struct {
	act     protocol.PresenceAct
	payload []byte // to track
}

// pushPresence handles a presence event: at once, or after the decision that is awaited.
func (c *Channel) pushPresence(m protocol.Message) {
	s := c.session
	if !s.presence.Take(1) {
		c.reject(m.Ref, protocol.ClientPresenceRateLimitReached)
		return
	}
	act, payload, code := protocol.ParsePresence(m.Payload)
	limit := s.Limits.PayloadBytes
	switch {
	case code != "":
		c.reject(m.Ref, code)
		return
	case limit > 0 && len(payload) > limit:
		c.reject(m.Ref, protocol.TrackTooLarge)
		return
	}
	if !s.bytes.TakeAny(len(payload)) {
		c.rejectBecause(m.Ref, protocol.MessagePerSecondRateLimitReached, protocol.TextTooManyBytes)
		return
	}
	p := waitingPush{presence: &presencePush{act, bytes.Clone(payload)}, ref: m.Ref}
	c.mu.Lock()
	defer c.mu.Unlock() // until all is done: what is decided meanwhile comes after it
	if c.ended {
		s.unmatched(m)
		return
	}
	if act == protocol.PresenceTrack && !c.presence.on {
		c.beginPresence()
	}
	needsRight := act == protocol.PresenceTrack
	if c.waiting == nil && !((c.held || !c.admitted) && needsRight) {
		c.act(p)
		return
	}
	if !c.letWait(p) {
		c.reject(m.Ref, protocol.MessagePerSecondRateLimitReached)
	}
}

// beginPresence switches presence on for a channel that was joined without. What it allows in a private room has not been
// asked yet: until that is decided, what is sent waits. Called under c.mu.
func (c *Channel) beginPresence() {
	c.presence.on = true
	if c.room.Private {
		c.held = true
		c.generation++
		c.session.Hub.Rebind(c.sub, c.claims.Subject)
		return
	}
	if !c.held {
		c.settlePresence()
	}
}

// settlePresence applies the rights of this moment: who may know is told, who may not be present is so no more. Called
// under c.mu.
func (c *Channel) settlePresence() {
	right, p := c.rights.Presence, &c.presence
	if !p.on {
		return
	}
	switch {
	case !right.Receive:
		p.told = false
	case !p.told:
		p.told = true
		c.enter().Watch()
	}
	if p.member != nil && !right.Send && p.member.Revoke() {
		c.system("presence", protocol.StatusError, protocol.PresenceDenied.Because(fmt.Sprintf(protocol.TextNoLongerPresent, c.name)))
	}
}

// act does what a presence event asks for, and answers it. Called under c.mu.
func (c *Channel) act(p waitingPush) {
	s := c.session
	switch p.presence.act {
	case protocol.PresenceUntrack:
		if c.presence.member != nil {
			c.presence.member.Untrack()
		}
	case protocol.PresenceTrack:
		if !c.rights.Presence.Send {
			c.reject(p.ref, protocol.PresenceDenied, c.name)
			return
		}
		if err := c.enter().Track(p.presence.payload); err != nil {
			c.reject(p.ref, protocol.PresenceFull, c.name)
			return
		}
	}
	s.sender.Send(protocol.Reply(s.version, c.joinRef, p.ref, c.topic, protocol.StatusOK, nil))
}

// enter is the channel's member of its room. Called under c.mu, while the channel has not ended.
func (c *Channel) enter() *presence.Member {
	if c.presence.member == nil {
		c.presence.member = c.session.Presence.Enter(c.sub, c.options.PresenceKey)
	}
	return c.presence.member
}

// watch has the client told again who is present.
func (p *presenceState) watch() {
	if p.told {
		p.member.Watch()
	}
}

// leave ends the client's presence.
func (p *presenceState) leave() {
	if p.member != nil {
		p.member.Leave()
	}
}
