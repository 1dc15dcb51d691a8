package channel

import (
	"rowcast/server/auth"
	"rowcast/server/hub"
)

// Standing is what a private channel is decided by, and what it may do at this moment.
type Standing struct {
	Topic    string // as policies see it
	Claims   auth.Claims
	Headers  string // a JSON object
	Presence bool   // whether presence was asked about too
	Rights   hub.Rights
	InDoubt  bool // it is being asked about again
}

// Standings are those of the private channels that have been admitted.
func (s *Session) Standings() []Standing {
	var list []Standing
	for _, c := range s.all() {
		c.mu.Lock()
		if c.admitted && c.room.Private && !c.ended { // in this order: before it is admitted, the room is still its join's
			list = append(list, Standing{
				Topic: c.name, Claims: c.claims, Headers: s.identity.Headers, Presence: c.presence.on, Rights: c.rights, InDoubt: c.held,
			})
		}
		c.mu.Unlock()
	}
	return list
}
