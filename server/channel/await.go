package channel

import (
	"context"
	"fmt"
	"time"

	"rowcast/server/changes"
	"rowcast/server/protocol"
)

// A join may ask not to be answered until changes of rows are subscribed to: whoever is told that he has joined then misses none
// that is committed later. Until then he is not on the channel. What is sent there is not for him, and nothing waits for him but
// a timer.

// awaiting is a join that is not answered yet.
type awaiting struct {
	timer    *time.Timer
	trouble  string // what is in the way, as far as it is known
	answered func() // called when the join has been answered with ok
}

// waitsForChanges tells whether the join is to be answered when changes are subscribed to.
func (c *Channel) waitsForChanges() bool { return c.options.ChangesWait > 0 }

// awaitChanges subscribes to changes, and answers the join when that is done, or cannot be. answered is called behind an answer
// that is good, and must not block.
func (c *Channel) awaitChanges(answered func()) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	if c.leaving != nil {
		c.mu.Unlock()
		c.leaveUnanswered()
		return
	}
	a := &awaiting{answered: answered}
	a.timer = time.AfterFunc(c.options.ChangesWait, func() { c.awaitedTooLong(a) })
	c.awaits = a
	asked := c.options.Changes
	c.mu.Unlock()
	c.subscribeChanges(asked)
}

// admit answers a join once what it asks for is there, of which changes are the last; false: the channel has ended.
func (c *Channel) admit(ctx context.Context) bool {
	if !c.waitsForChanges() {
		return c.welcome()
	}
	answered := make(chan struct{})
	c.awaitChanges(func() { close(answered) })
	return await(ctx, answered)
}

// stopAwaiting has a join that waits be answered by the caller alone. Called under c.mu.
func (c *Channel) stopAwaiting() (a *awaiting) {
	if a = c.awaits; a != nil {
		a.timer.Stop()
		c.awaits = nil
	}
	return a
}

// awaited takes what is said of a subscription that a join waits for; false: none does, or it is for its client all the same.
func (c *Channel) awaited(code protocol.Code, text string) bool {
	c.mu.Lock()
	a := c.awaits
	if a == nil {
		c.mu.Unlock()
		return false
	}
	switch {
	case code == "" && text == protocol.TextSubscribed:
		c.stopAwaiting()
		c.mu.Unlock()
		if c.welcome() {
			a.answered()
		}
		return false
	case code == protocol.PostgresChangesRefused:
		c.stopAwaiting()
		c.mu.Unlock()
		c.refuseAwaited(protocol.RealtimeDisabledForConfiguration, text)
		return true
	case code == protocol.PostgresChangesUnavailable && !changes.Passes(code, text):
		c.stopAwaiting()
		c.mu.Unlock()
		c.refuseAwaited(code, text)
		return true
	case code == protocol.PostgresChangesUnavailable || code == protocol.PostgresChangesSnapshot:
		a.trouble = text
	default: // what is to be known of a subscription that is on its way
		c.notice(notice{"postgres_changes", code.Because(text)})
	}
	c.mu.Unlock()
	return true
}

// awaitedTooLong refuses a join that has waited as long as it may.
func (c *Channel) awaitedTooLong(a *awaiting) {
	c.mu.Lock()
	if c.awaits != a {
		c.mu.Unlock()
		return
	}
	c.stopAwaiting()
	trouble, after := a.trouble, c.options.ChangesWait.Milliseconds()
	c.mu.Unlock()
	text := protocol.PostgresChangesSubscribeTimeout.Text(after)
	if trouble != "" {
		text = fmt.Sprintf(protocol.TextChangesTimeoutWhy, after, trouble)
	}
	c.refuseAwaited(protocol.PostgresChangesSubscribeTimeout, text)
}

// refuseAwaited refuses a join that nobody else answers any more. Its client joins again by itself.
func (c *Channel) refuseAwaited(code protocol.Code, text string) {
	c.session.Hub.Leave(c.sub)
	if c.conclude(code, text, protocol.EventError) {
		c.logEnd(code, "detail", text)
	}
}

// leaveUnanswered ends a channel whose client leaves while its join waits.
func (c *Channel) leaveUnanswered() {
	c.session.Hub.Leave(c.sub)
	c.conclude(protocol.JoinSuperseded, protocol.TextJoinLeft, protocol.EventClose)
}
