package channel

import (
	"slices"

	"rowcast/server/auth"
	"rowcast/server/decisions"
	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// What the hub tells a channel, on the hub's worker. Nothing here waits.

// Ask has Postgres asked, with the claims of this moment.
func (c *Channel) Ask(sub *hub.Subscription, round uint64, first bool) {
	c.mu.Lock()
	claims, presence := c.claims, c.presence.on
	c.asked = c.generation
	c.mu.Unlock()
	c.tenure.Asked(claims.Subject, claims.Role)
	s := c.session
	request := auth.Request{
		Topic: c.name, Claims: claims, Headers: s.identity.Headers,
		Presence: presence, Fenced: !first,
	}
	if first {
		request.Since = c.since // a join may be asked about more than once
	}
	s.Decider.Ask(request, func(a auth.Answer) {
		c.tenure.Answered(a.Code, a.Reason)
		s.Hub.Answer(sub, hub.Verdict{
			Round:    round,
			Rights:   hub.Rights{Broadcast: hub.Right(a.Broadcast), Presence: hub.Right(a.Presence)},
			Snapshot: a.Snapshot, Until: a.Until, Code: a.Code, Reason: a.Reason, Err: a.Err,
		})
	})
}

// Admitted answers the join, at once or when the past that the client asked for is there.
func (c *Channel) Admitted(r hub.Rights) {
	c.Decided(r)
	switch {
	case c.wantsReplay():
		c.beginReplay(r)
	case c.waitsForChanges():
		c.awaitChanges(func() {})
	default:
		c.welcome()
	}
}

// welcome answers the join; false: the channel has ended.
func (c *Channel) welcome() bool {
	c.mu.Lock()
	if c.ended { // superseded, and answered so
		c.mu.Unlock()
		return false
	}
	c.admitted = true
	leaving := c.leaving
	c.answer("", "") // under the lock: whoever ends the channel next finds the join answered
	asked, subscribed := c.options.Changes, c.changes != nil
	c.options.Changes = nil // they were echoed, and are not needed any more
	c.muted.Store(false)
	for _, n := range c.notices {
		c.system(n.extension, protocol.StatusError, n.text)
	}
	c.notices = nil
	c.letGo()
	c.mu.Unlock()
	if leaving != nil {
		c.end()
		c.session.left(c, *leaving)
		return false
	}
	if !subscribed {
		c.subscribeChanges(asked)
	}
	c.announce()
	return true
}

// Paused tells the client that private delivery stands still.
func (c *Channel) Paused() { c.notify("system", protocol.Deaf.Reason()) }

// announce says what follows a successful join.
func (c *Channel) announce() {
	if c.options.ReplicationReady {
		cancel := c.session.WhenHearing(func() { c.system("system", protocol.StatusOK, protocol.TextReplicationReady) })
		c.mu.Lock()
		c.cancelReady = cancel
		ended := c.ended
		c.mu.Unlock()
		if ended {
			cancel()
		}
	}
}

// Held makes what the client sends wait.
func (c *Channel) Held() {
	c.mu.Lock()
	c.held = true
	c.mu.Unlock()
}

// Decided lets what waited go, or refuses it, in its order.
func (c *Channel) Decided(r hub.Rights) {
	c.mu.Lock()
	defer c.mu.Unlock() // until all is published: what comes now must not overtake what waited
	if c.ended || c.asked != c.generation {
		return // about an older token; the next decision is on its way
	}
	c.rights, c.held, c.refreshed = r, false, false
	c.tenure.Decided(decisions.Right(r.Broadcast), decisions.Right(r.Presence))
	c.letGo()
}

// StillHeld takes away what the client may not send any more. While marks keep coming, Decided may be far off.
func (c *Channel) StillHeld(r hub.Rights) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.asked != c.generation {
		return
	}
	c.rights.Broadcast.Send = c.rights.Broadcast.Send && r.Broadcast.Send
	c.rights.Presence.Send = c.rights.Presence.Send && r.Presence.Send
	if c.admitted {
		c.settlePresence()
	}
}

// letGo publishes the sends that waited, once the join is answered and unless the rights are in doubt; called under c.mu.
func (c *Channel) letGo() {
	if c.held || !c.admitted {
		return
	}
	c.settlePresence()
	for _, p := range c.takeWaiting() {
		if p.presence != nil {
			c.act(p)
			continue
		}
		c.publish(p, c.rights, c.session.Hub.TryPublish)
	}
}

// Withheld tells the client that it missed something, and why.
func (c *Channel) Withheld(frames int) {
	c.notify("broadcast", protocol.MessagesWithheld.Reason(frames, "your rights changed while they were sent"))
}

// Outdated has the client told again who is present: it was not told of some who came or went.
func (c *Channel) Outdated() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.presence.watch()
}

// Missed tells the client that it lacks something that will not come any more.
func (c *Channel) Missed(how hub.Loss) {
	text := protocol.TextMessagesLost
	if how == hub.LossDropped {
		text = protocol.TextMessageDropped
	}
	c.notify("broadcast", protocol.MessagesWithheld.Because(text))
}

// notice is what the client is to know of its channel.
type notice struct{ extension, text string }

// notify tells the client of something that it lacks, and not before its join is answered: that waits for the past. What it
// lacks more than once meanwhile it is told once.
func (c *Channel) notify(extension, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
	case c.admitted:
		c.system(extension, protocol.StatusError, text)
	default:
		c.notice(notice{extension, text})
	}
}

// notice has the client told something behind the answer to its join, once. Called under c.mu.
func (c *Channel) notice(n notice) {
	if !slices.Contains(c.notices, n) {
		c.notices = append(c.notices, n)
	}
}

// Deliver queues a frame for the client, if its wire version can carry it.
func (c *Channel) Deliver(f *protocol.Frame) hub.Outlet {
	frame := f.Bytes(c.session.version)
	switch {
	case c.muted.Load():
	case frame == nil:
		c.session.Metrics.Withheld.WithLabelValues("wire_version").Inc()
		if now(&c.unreadable) {
			c.system("broadcast", protocol.StatusError, protocol.BinaryNotSupported.Reason())
		}
	case c.session.sender.Queue(frame, &c.void):
		return c.session.sender
	}
	return nil
}

// Ended says why, answers what was not answered, and closes the channel.
func (c *Channel) Ended(why hub.End, v hub.Verdict) {
	if why == hub.EndRevoked {
		c.void.Store(true)
	}
	c.mu.Lock()
	refreshed, joining, subject := c.refreshed, !c.admitted, c.claims.Subject
	c.mu.Unlock()
	code, event := verdictCode(why)
	text := code.Text()
	switch {
	case code == protocol.Unauthorized && !joining && (!refreshed || v.Rights.Any()): // a new token may bring less
		code, text = protocol.NoLongerAuthorized, protocol.NoLongerRead(c.topic)
	case code == protocol.Unauthorized:
		text = protocol.DenialRead(c.topic)
	case code == protocol.MessagesWithheld:
		text = protocol.TextTooManyHeld
	}
	if c.conclude(code, text, event) {
		c.logEnd(why, "sub", subject, "sqlstate", v.Code, "detail", v.Reason, "err", v.Err)
	}
}

// conclude ends a channel at the server's wish: it answers what was not answered, the join included, says why, and
// closes. false: it had ended before.
func (c *Channel) conclude(code protocol.Code, text, event string) bool {
	s := c.session
	rest, first := c.finish(string(code))
	if !first {
		return false
	}
	s.forget(c)
	c.refuseAll(rest.waiting, code)
	if !rest.answered {
		c.answer(code, text)
		if rest.leaving != nil {
			s.left(c, *rest.leaving)
		}
		return true
	}
	s.Metrics.ChannelsClosed.WithLabelValues(string(code)).Inc()
	if code == protocol.Disconnected || code == protocol.MessagesWithheld { // no client knows their sentences without the code
		text = code.Because(text)
	}
	c.system("system", protocol.StatusError, text)
	s.sender.Send(protocol.Push(s.version, c.joinRef, c.joinRef, c.topic, event, nil))
	return true
}

// verdictCode is what a client is told, and by which event the channel is closed: phx_close is final for the official
// client, after phx_error it joins again.
func verdictCode(why hub.End) (protocol.Code, string) {
	switch why {
	case hub.EndRefused, hub.EndRevoked:
		return protocol.Unauthorized, protocol.EventClose
	case hub.EndDeaf:
		return protocol.Deaf, protocol.EventError
	case hub.EndHeldTooBig:
		return protocol.MessagesWithheld, protocol.EventError
	}
	return protocol.UnableToConnectToProject, protocol.EventError
}

// system sends a system message on the channel.
func (c *Channel) system(extension, status, message string) {
	payload := protocol.SystemPayload(extension, status, message, c.name)
	c.session.sender.Send(protocol.Push(c.session.version, c.joinRef, "", c.topic, protocol.EventSystem, payload))
}

// refuseAll answers sends that were waiting when the channel ended with code.
func (c *Channel) refuseAll(waiting []waitingPush, code protocol.Code) {
	for _, p := range waiting {
		switch code {
		case protocol.UnmatchedTopic, protocol.Disconnected: // what it was sent on is not there any more
			c.turnDown(p, code)
		case protocol.JoinSuperseded, protocol.RealtimeRestarting, protocol.PostgresChangesSubscribeTimeout, protocol.PostgresChangesUnavailable,
			protocol.RealtimeDisabledForConfiguration: // nor was it ever
			c.turnDown(p, protocol.UnmatchedTopic)
		case protocol.Deaf, protocol.MessagesWithheld, protocol.UnableToConnectToProject, protocol.UnableToReplayMessages:
			c.turnDown(p, protocol.UnableToConnectToProject)
		default:
			c.turnDown(p, protocol.SendDenied, c.name)
		}
	}
}

// end takes the channel out at the client's wish, or because its socket is gone.
func (c *Channel) end() {
	if rest, first := c.finish(""); first {
		c.refuseAll(rest.waiting, protocol.UnmatchedTopic)
		c.void.Store(true)
		c.session.forget(c)
		if c.sub != nil {
			c.session.Hub.Leave(c.sub)
		}
	}
}

// unanswered is what a channel that ends still owes its client.
type unanswered struct {
	waiting  []waitingPush
	answered bool          // the join was
	leaving  *protocol.Ref // of a phx_leave that came before the join was
}

// finish stops everything that could still happen to the channel; code is what its client is told. first is false if that
// was done before.
func (c *Channel) finish(code string) (rest unanswered, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return unanswered{}, false
	}
	c.ended = true
	c.stopAwaiting()
	c.tenure.Ended(code)
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.cancelReady != nil {
		c.cancelReady()
	}
	c.presence.leave()
	if c.changes != nil {
		c.changes.End()
	}
	c.session.users.remove(c.user, c.session)
	if c.cancelReplay != nil {
		c.cancelReplay()
	}
	return unanswered{c.takeWaiting(), c.admitted, c.leaving}, true
}
