package channel

import (
	"bytes"
	"sync/atomic"
	"time"

	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// waitingPush is a broadcast or a presence event that waits for a decision.
type waitingPush struct {
	frame    *protocol.Frame // of a broadcast
	presence *presencePush
	ref      protocol.Ref
}

func (p waitingPush) size() int {
	if p.presence != nil {
		return len(p.presence.payload)
	}
	return p.frame.Size()
}

// waitingPushes are those that wait for one decision, in their order.
type waitingPushes struct {
	pushes  []waitingPush
	bytes   int
	overdue *time.Timer // since the first came
}

// full tells whether a frame more is too much; limit 0 means none.
func (w *waitingPushes) full(size, limit int) bool {
	return len(w.pushes) >= maxWaitingPushes || limit > 0 && w.bytes > 0 && w.bytes+size > limit
}

// maxWaitingPushes bounds what waits for a decision, beside its bytes.
const maxWaitingPushes = 1000

// waitingTime is how long a push waits for a decision: half of what the official client waits for its answer.
const waitingTime = 5 * time.Second

// complainEvery paces the system messages about refused sends that nobody asked an answer for, and those about messages
// that the client's wire version cannot carry.
const complainEvery = time.Second

// broadcast handles a push of the client: checks it, encodes it once, and publishes it or lets it wait for a decision.
func (c *Channel) broadcast(m protocol.Message) {
	s := c.session
	if !s.events.Take(1) {
		c.refuse(m.Ref, protocol.MessagePerSecondRateLimitReached)
		return
	}
	frame, code, text := c.frame(m)
	if code != "" {
		c.refuseBecause(m.Ref, code, text)
		return
	}
	if !s.bytes.TakeAny(frame.Size()) {
		c.refuseBecause(m.Ref, protocol.MessagePerSecondRateLimitReached, protocol.TextTooManyBytes)
		return
	}
	p := waitingPush{frame: frame, ref: m.Ref}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		s.unmatched(m)
		return
	}
	if c.admitted && !c.held && c.waiting == nil {
		rights := c.rights
		c.mu.Unlock() // the hub may make us wait, and calls us under this lock
		c.publish(p, rights, s.Hub.Publish)
		return
	}
	waits := c.letWait(p)
	c.mu.Unlock()
	if !waits {
		c.refuse(m.Ref, protocol.MessagePerSecondRateLimitReached)
	}
}

// letWait keeps a push for the decision, unless there are too many; called under c.mu.
func (c *Channel) letWait(p waitingPush) bool {
	w := c.waiting
	if w == nil {
		w = &waitingPushes{}
		w.overdue = time.AfterFunc(waitingTime, func() { c.giveUp(w) })
		c.waiting = w
	}
	if w.full(p.size(), c.session.Limits.WaitingBytes) {
		return false
	}
	w.pushes = append(w.pushes, p)
	w.bytes += p.size()
	return true
}

// takeWaiting empties the queue of sends; called under c.mu.
func (c *Channel) takeWaiting() []waitingPush {
	w := c.waiting
	if w == nil {
		return nil
	}
	w.overdue.Stop()
	c.waiting = nil
	return w.pushes
}

// giveUp refuses what has waited too long: a decision comes in milliseconds, or the database is away. The decision may
// have come while the timer fired; what waits since then has its own.
func (c *Channel) giveUp(w *waitingPushes) {
	c.mu.Lock()
	if c.waiting != w {
		c.mu.Unlock()
		return
	}
	waiting, code := c.takeWaiting(), protocol.Deaf
	if c.awaits != nil {
		code = protocol.UnmatchedTopic // it is not the decision that takes its time: the topic is not joined yet
	}
	c.mu.Unlock()
	for _, p := range waiting {
		c.turnDown(p, code)
	}
}

// frame makes the frame of a push, or says why it cannot be sent.
func (c *Channel) frame(m protocol.Message) (*protocol.Frame, protocol.Code, string) {
	limit := c.session.Limits.PayloadBytes
	payload := m.Payload
	if m.Push != nil {
		payload = m.Push.Payload
	}
	if limit > 0 && len(payload) > limit {
		return nil, protocol.PayloadSizeExceeded, protocol.PayloadSizeExceeded.Text()
	}
	if m.Push != nil {
		push := *m.Push
		push.Payload, push.Meta = bytes.Clone(push.Payload), nil
		frame, err := protocol.NewUserBroadcast(c.topic, push)
		if err != nil {
			return nil, protocol.InvalidBroadcast, err.Error()
		}
		return frame, "", ""
	}
	if problem := protocol.CheckBroadcast(payload); problem != "" {
		return nil, protocol.InvalidBroadcast, problem
	}
	return protocol.TextBroadcast(c.topic, bytes.Clone(payload)), "", ""
}

// publish gives the frame to the room if the rights allow it, and answers.
func (c *Channel) publish(p waitingPush, rights hub.Rights, to func(hub.Publication)) {
	s := c.session
	if !rights.Broadcast.Send {
		c.refuse(p.ref, protocol.SendDenied, c.name)
		return
	}
	publication := hub.Publication{Room: c.room, Frame: p.frame}
	if !c.options.Self {
		publication.Except = c.sub
	}
	to(publication)
	s.Metrics.Broadcasts.WithLabelValues("socket").Inc()
	if c.options.Ack {
		s.sender.Send(protocol.Reply(s.version, c.joinRef, p.ref, c.topic, protocol.StatusOK, nil))
	}
}

// turnDown refuses what has waited. To be present no more needs no decision.
func (c *Channel) turnDown(p waitingPush, code protocol.Code, args ...any) {
	switch {
	case p.presence == nil:
		c.refuse(p.ref, code, args...)
	case p.presence.act == protocol.PresenceUntrack:
		c.mu.Lock()
		c.act(p)
		c.mu.Unlock()
	default:
		c.reject(p.ref, code, args...)
	}
}

// refuse answers a push with an error.
func (c *Channel) refuse(ref protocol.Ref, code protocol.Code, args ...any) {
	c.refuseBecause(ref, code, code.Text(args...))
}

// refuseBecause answers with an error. The official client hears it only if it asked for an answer, so otherwise a
// system message says the same, at most once in a while.
func (c *Channel) refuseBecause(ref protocol.Ref, code protocol.Code, text string) {
	c.rejectBecause(ref, code, text)
	if c.options.Ack {
		return
	}
	if now(&c.complained) {
		c.system("broadcast", protocol.StatusError, code.Because(text))
	}
}

// now tells whether it is time to complain again, and that it was done.
func now(complained *atomic.Int64) bool {
	now, last := time.Now().UnixNano(), complained.Load()
	return now-last >= int64(complainEvery) && complained.CompareAndSwap(last, now)
}

// reject answers with an error one who is sure to wait for the answer.
func (c *Channel) reject(ref protocol.Ref, code protocol.Code, args ...any) {
	c.rejectBecause(ref, code, code.Text(args...))
}

func (c *Channel) rejectBecause(ref protocol.Ref, code protocol.Code, text string) {
	s := c.session
	s.Metrics.SendsRefused.WithLabelValues(string(code)).Inc()
	s.sender.Send(protocol.Reply(s.version, c.joinRef, ref, c.topic, protocol.StatusError, code.ResponseBecause(text)))
}
