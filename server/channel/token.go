package channel

import (
	"errors"
	"strings"
	"time"

	"rowcast/server/protocol"
)

// refresh handles an access_token event: a new token for this channel. Nothing is answered unless it is refused.
func (c *Channel) refresh(m protocol.Message) {
	if !allows(c.session.events) {
		c.refuse(m.Ref, protocol.SendRateLimitReached)
		return
	}
	token, present, isNull, err := protocol.ParseAccessToken(m.Payload)
	if err != nil {
		var field *protocol.JoinError
		if errors.As(err, &field) {
			c.close(protocol.MalformedJWT, protocol.MalformedJWT.Text())
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
		c.close(protocol.Code(refused.Code), refused.System())
		return
	}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.token, c.claims = token, claims
	if c.room.Private {
		// What is sent from here on is sent under the new token: a decision about the old one lets nothing go.
		c.held, c.refreshed = true, true
		c.generation++
		c.session.Hub.Rebind(c.sub, claims.Subject)
	}
	c.mu.Unlock()
	c.arm()
}

// arm sets the timer of the token's expiry.
func (c *Channel) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.ended {
		return
	}
	token := c.token
	c.timer = time.AfterFunc(time.Until(c.claims.Expires), func() { c.expired(token) })
}

// expired ends the channel, unless it has another token by now.
func (c *Channel) expired(token string) {
	c.mu.Lock()
	stale := c.token != token
	c.mu.Unlock()
	if stale {
		return
	}
	_, refused := c.session.Verifier.Verify(token)
	if refused == nil { // the timer was a moment early
		c.arm()
		return
	}
	c.close(protocol.Code(refused.Code), refused.System())
}

// close ends the channel because of its token.
func (c *Channel) close(code protocol.Code, text string) {
	c.session.Hub.Leave(c.sub)
	c.void.Store(true)
	if c.conclude(code, text, protocol.EventClose) {
		c.logEnd(code)
	}
}
