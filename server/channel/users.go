package channel

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// users are the sessions by the user ids of their tokens: of the socket's, and of its channels' where these are others.
type users struct {
	mu       sync.Mutex                  // guards sessions
	sessions map[string]map[*Session]int // how many tokens
}

// add counts a token of a session. A token without a user id is nobody's.
func (u *users) add(subject string, s *Session) {
	if subject == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sessions == nil {
		u.sessions = map[string]map[*Session]int{}
	}
	if u.sessions[subject] == nil {
		u.sessions[subject] = map[*Session]int{}
	}
	u.sessions[subject][s]++
}

// remove takes back what add counted.
func (u *users) remove(subject string, s *Session) {
	if subject == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.sessions[subject]
	if all[s] > 1 {
		all[s]--
		return
	}
	if delete(all, s); len(all) == 0 {
		delete(u.sessions, subject)
	}
}

// of gives the sessions that have a token of a user.
func (u *users) of(subject string) (all []*Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s := range u.sessions[subject] {
		all = append(all, s)
	}
	return all
}

// other is the user of a channel's token; empty if it is the socket's, who is counted for it.
func (s *Session) other(subject string) string {
	subject = hub.CanonicalSubject(subject)
	if subject == s.user {
		return ""
	}
	return subject
}

// Disconnect closes all sockets of a user, whoever's the other channels on them are. When it returns nothing reaches them
// any more.
func (o *Options) Disconnect(subject, reason string) {
	text := protocol.Disconnected.Text()
	if reason != "" {
		text = fmt.Sprintf(protocol.TextDisconnected, reason)
	}
	sessions := o.users.of(hub.CanonicalSubject(subject))
	for _, s := range sessions {
		s.disconnect(text)
	}
	level := slog.LevelInfo
	if len(sessions) == 0 { // one transaction may name thousands who are not here
		level = slog.LevelDebug
	}
	o.Logger.Log(context.Background(), level, "user disconnected", "sub", subject, "sockets", len(sessions), "detail", reason)
}

// disconnect ends all channels, the public ones too, and closes the socket. What waits to leave on any of them is given up.
func (s *Session) disconnect(text string) {
	s.mu.Lock()
	s.disconnected = text
	channels := make([]*Channel, 0, len(s.channels))
	for _, c := range s.channels {
		c.void.Store(true)
		switch {
		case c.sub != nil:
			channels = append(channels, c)
		case !c.refused: // it is about to subscribe, and will not: behind the close there is no answer
			c.refused = true
			c.refuseJoin(protocol.Disconnected, text)
		}
	}
	s.mu.Unlock()
	for _, c := range channels {
		c.close(protocol.Disconnected, text, protocol.EventClose)
	}
	s.sender.Disconnect()
}

// subscribe gives a channel that has been checked its subscription; false: the session has been disconnected meanwhile.
func (c *Channel) subscribe(sub *hub.Subscription) bool {
	s, user := c.session, c.session.other(c.claims.Subject)
	s.users.add(user, s) // first: who looks for the user from here on finds the session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disconnected != "" {
		s.users.remove(user, s)
		return false
	}
	c.sub, c.user = sub, user
	return true
}
