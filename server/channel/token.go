package channel

import (
	"errors"
	"strings"
	"time"

	"rowcast/server/auth"
	"rowcast/server/protocol"
)

// refresh handles an access_token event: a new token for this channel. Nothing is answered unless it is refused.
func (c *Channel) refresh(m protocol.Message) {
	if !c.session.events.Take(1) {
		c.refuse(m.Ref, protocol.MessagePerSecondRateLimitReached)
		return
	}
	token, present, isNull, err := protocol.ParseAccessToken(m.Payload)
	if err != nil {
		var field *protocol.JoinError
		if errors.As(err, &field) {
			c.close(protocol.MalformedJWT, protocol.MalformedJWT.Text(), protocol.EventClose)
		}
		return
	}
	c.mu.Lock()
	same := token == c.token
	c.mu.Unlock()
	// "sb_…" are keys, not tokens: the token of the connection goes on.
	if !present || isNull || same || strings.HasPrefix(token, "sb_") {
		return
	}
	claims, refused := c.session.Verifier.Verify(token)
	if refused != nil {
		c.closeFor(refused)
		return
	}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	s := c.session
	s.users.remove(c.user, s)
	c.token, c.claims, c.user = token, claims, s.other(claims.Subject)
	s.users.add(c.user, s)
	if c.changes != nil {
		c.changes.Rebind(claims.Role, claims.Raw)
	}
	if c.room.Private {
		// What is sent from here on is sent under the new token: a decision about the old one lets nothing go.
		c.held, c.refreshed = true, true
		c.generation++
		c.session.Hub.Rebind(c.sub, claims.Subject)
	}
	c.mu.Unlock()
	c.arm()
}

// recheckEvery is how long a channel may outlive the withdrawal of the key that its token is signed with, beside the time
// until the withdrawal is noticed. Verifying a token takes less than a millisecond with the usual algorithms.
const recheckEvery = 5 * time.Minute

// arm sets the timer of the token: of its expiry, or before that of a look whether its key is still good.
func (c *Channel) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.ended {
		return
	}
	token, next := c.token, time.Until(c.claims.Expires)
	if c.session.Verifier.KeysChange() {
		next = min(next, recheckEvery)
	}
	c.timer = time.AfterFunc(next, func() { c.look(token) })
}

// look ends the channel if its token is not good any more, unless it has another by now.
func (c *Channel) look(token string) {
	c.mu.Lock()
	stale, claims := c.token != token, c.claims
	c.mu.Unlock()
	if stale {
		return
	}
	refused := claims.Expired(time.Now())
	if refused == nil && c.session.Verifier.KeysChange() {
		refused = c.session.Verifier.Recheck(token)
	}
	if refused == nil || refused.Passes() { // what was admitted outlives an outage of who issued it
		c.arm()
		return
	}
	c.closeFor(refused)
}

// closeFor ends the channel because of its token. Where the token may be good all the same, the client is to join again.
func (c *Channel) closeFor(refused *auth.TokenError) {
	event := protocol.EventClose
	if refused.Passes() {
		event = protocol.EventError
	}
	c.close(refused.Code, refused.System(), event)
}

func (c *Channel) close(code protocol.Code, text, event string) {
	c.session.Hub.Leave(c.sub)
	c.void.Store(true)
	if c.conclude(code, text, event) {
		c.logEnd(code)
	}
}
