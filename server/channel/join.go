package channel

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rowcast/server/auth"
	"rowcast/server/changes"
	"rowcast/server/decisions"
	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// Channel is one topic on one socket, from its join to its end.
type Channel struct {
	session  *Session
	topic    string // as on the wire
	name     string // without the prefix: what policies see
	joinRef  protocol.Ref
	ref      protocol.Ref // of the join, to be answered
	options  protocol.Join
	room     hub.Room
	sub      *hub.Subscription // set under the session's lock
	refused  bool              // the session was disconnected before there was a sub, and has answered the join; under its lock
	replaced protocol.Ref      // join_ref of the channel whose place this one took, if its client is to be told of its end
	since    time.Time         // when the join came
	tenure   *decisions.Tenure

	mu          sync.Mutex // guards all below
	claims      auth.Claims
	token       string
	user        string      // of the token, if it is another than the socket's
	timer       *time.Timer // of the token's expiry
	rights      hub.Rights
	held        bool           // rights are in doubt: what is sent waits
	refreshed   bool           // the doubt comes from a new token
	generation  int            // of what is asked: the token, and whether presence is a part of it
	asked       int            // the generation that the last question was about
	waiting     *waitingPushes // nil: nothing waits
	ended       bool
	admitted    bool
	leaving     *protocol.Ref // of a phx_leave that came before the join was answered
	cancelReady func()        // takes back the wish to be told that the feed hears
	presence    presenceState
	changes     *changes.Subscription // nil: there is none
	notices     []notice              // to be told when the join is answered: that takes a while where the past is read, joinTime at most

	cancelReplay func()
	awaits       *awaiting // nil: the answer to the join does not wait for changes, or not any more

	void       atomic.Bool  // set: what still waits to leave must not
	muted      atomic.Bool  // its join waits for changes: what is sent on the topic is not for it yet
	complained atomic.Int64 // when a refused send was last told by a system message, Unix nanoseconds
	unreadable atomic.Int64 // when it was last told that there was a message which the client cannot read
}

// noName is the join_ref of clients that give none of their own. What ends under it is to them whatever they have joined.
var noName = protocol.TextRef("")

// join answers phx_join, here or when the hub has the verdict.
func (s *Session) join(m protocol.Message) {
	joinRef := m.JoinRef
	if joinRef == "" {
		joinRef = m.Ref
	}
	c := &Channel{session: s, topic: m.Topic, name: protocol.SubTopic(m.Topic), joinRef: joinRef, ref: m.Ref, since: time.Now(), held: true}
	if old := s.takePlace(c); old != nil && !old.supersede() && old.joinRef != joinRef && old.joinRef != noName {
		c.replaced = old.joinRef
	}
	if code, text := c.prepare(m.Payload); code != "" {
		c.turnAway(code, text)
		return
	}
	if c.room.Private {
		c.tenure = s.Decisions.Begin(c.name, c.claims.Subject, c.claims.Role)
	}
	sub := hub.NewSubscription(c.room, s.number, c.claims.Subject, c)
	if c.wantsReplay() {
		sub.AwaitReplay()
	} else {
		c.muted.Store(c.waitsForChanges())
	}
	if !c.subscribe(sub) {
		c.tenure.Ended(string(protocol.Disconnected))
		c.turnAway(refusal(protocol.Disconnected))
		return
	}
	c.arm()
	s.Hub.Join(c.sub)
}

// takePlace puts a channel on the session and gives the one that was there.
func (s *Session) takePlace(c *Channel) (old *Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old = s.channels[c.topic]
	s.channels[c.topic] = c
	return old
}

// supersede ends a channel whose place another join takes, and answers what it owes; closed tells that its client was
// told phx_close already, because it had asked to leave.
func (c *Channel) supersede() (closed bool) {
	rest, first := c.finish("")
	if !first {
		return false
	}
	c.void.Store(true) // frames name the topic only: the client would take them for the new channel's
	c.refuseAll(rest.waiting, protocol.UnmatchedTopic)
	if c.sub != nil {
		c.session.Hub.Leave(c.sub)
	}
	if !rest.answered {
		c.answer(protocol.JoinSuperseded, protocol.JoinSuperseded.Text())
	}
	if rest.leaving != nil {
		c.session.left(c, *rest.leaving)
	}
	return rest.leaving != nil
}

// prepare checks everything that needs no database; a code means that the join is refused.
func (c *Channel) prepare(payload []byte) (protocol.Code, string) {
	s := c.session
	s.mu.Lock()
	draining, channels := s.draining, len(s.channels)
	s.mu.Unlock()
	limit := s.Limits.Channels
	switch {
	case draining:
		return refusal(protocol.RealtimeRestarting)
	case c.name == "":
		return refusal(protocol.TopicNameRequired)
	case len(c.topic) > protocol.MaxName:
		return refusal(protocol.TopicTooLong, protocol.MaxName-len(protocol.TopicPrefix))
	case !s.joins.Take(1):
		return refusal(protocol.ClientJoinRateLimitReached)
	case limit > 0 && channels > limit:
		return refusal(protocol.ChannelRateLimitReached)
	}
	var err error
	if c.options, err = protocol.ParseJoin(payload); err != nil {
		var field *protocol.JoinError
		if errors.As(err, &field) {
			return refusal(protocol.InvalidJoinPayload, field.Error())
		}
		return refusal(protocol.InvalidJoinPayload, err.Error())
	}
	c.presence.on = c.options.PresenceEnabled
	c.options.Changes = cloneAll(c.options.Changes) // they share memory with the frame
	if s.PrivateOnly && !c.options.Private {
		return refusal(protocol.PrivateOnly)
	}
	if c.options.HasReplay && !c.options.Private {
		return refusal(protocol.UnableToReplayMessages)
	}
	if c.options.Replay.Asked && !c.options.Replay.Valid {
		return protocol.UnableToReplayMessages, protocol.TextReplayParams
	}
	c.room = hub.Room{Name: c.name, Private: c.options.Private}
	c.token = s.identity.Token
	if c.options.HasToken && !strings.HasPrefix(c.options.Token, "sb_") {
		c.token = c.options.Token
	}
	if c.claims = s.identity.Claims; c.token == s.identity.Token && time.Now().Before(c.claims.Expires) && !s.Verifier.KeysChange() {
		return "", "" // verified when the socket was opened
	}
	claims, refused := s.Verifier.Verify(c.token)
	if refused != nil {
		return refused.Code, refused.Text
	}
	c.claims = claims
	return "", ""
}

func refusal(code protocol.Code, args ...any) (protocol.Code, string) {
	return code, code.Text(args...)
}

func cloneAll(entries [][]byte) [][]byte {
	for i := range entries {
		entries[i] = append([]byte(nil), entries[i]...)
	}
	return entries
}

// turnAway refuses a join that came to nothing.
func (c *Channel) turnAway(code protocol.Code, text string) {
	s := c.session
	s.forget(c) // behind this nobody else answers
	s.mu.Lock()
	answered := c.refused
	s.mu.Unlock()
	if !answered {
		c.answer(code, text)
	}
}

// refuseJoin replies to the join that it is refused.
func (c *Channel) refuseJoin(code protocol.Code, text string) {
	s := c.session
	s.Metrics.Joins.WithLabelValues(string(code)).Inc()
	s.sender.Send(protocol.Reply(s.version, c.joinRef, c.ref, c.topic, protocol.StatusError, code.ResponseBecause(text)))
}

// answer replies to the join: an empty code means success. The channel that was replaced is closed behind it.
func (c *Channel) answer(code protocol.Code, text string) {
	s := c.session
	if code == "" {
		s.Metrics.Joins.WithLabelValues("ok").Inc()
		response := append(append([]byte(`{"postgres_changes":`), protocol.EchoChanges(c.options.Changes)...), '}')
		s.sender.Send(protocol.Reply(s.version, c.joinRef, c.ref, c.topic, protocol.StatusOK, response))
	} else {
		c.refuseJoin(code, text)
	}
	if c.replaced != "" {
		s.sender.Send(protocol.Push(s.version, c.replaced, c.replaced, c.topic, protocol.EventClose, nil))
	}
}
