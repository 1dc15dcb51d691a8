// Package channel is what one client does on its channels: join, broadcast, refresh its token, leave; and what it is told.
//
// A Session is a socket's worth of channels. It knows neither HTTP nor WebSocket: frames come in through Frame and go out
// through a Sender. It makes no decision: it has Postgres asked, and stands between the hub and the client as the
// hub's Member.
package channel

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"rowcast/server/auth"
	"rowcast/server/bucket"
	"rowcast/server/changes"
	"rowcast/server/decisions"
	"rowcast/server/hub"
	"rowcast/server/messages"
	"rowcast/server/metrics"
	"rowcast/server/presence"
	"rowcast/server/protocol"
	"rowcast/server/repeats"
)

// Sender takes complete frames for the client, in order. It never blocks.
type Sender interface {
	// Send writes a frame, and reports whether any are still taken.
	Send(frame []byte) bool
	// Queue keeps a frame for the next write, and reports whether the caller has to Flush. Once void is set the frame
	// does not begin to leave.
	Queue(frame []byte, void *atomic.Bool) (flush bool)
	Flush()
	// WhenDrained calls then once, when nothing waits for the client: at once if so. then must neither block nor send.
	WhenDrained(then func())
	// Disconnect closes the connection behind what was sent: its user is to go.
	Disconnect()
}

// Limits bound what one socket may do; 0 lifts a limit.
type Limits struct {
	Channels        int
	JoinsPerSecond  int
	EventsPerSecond int
	BytesPerSecond  int // of messages from the client
	PayloadBytes    int
	WaitingBytes    int // sends that wait for a decision

	PresenceEventsPerSecond int
}

// Options are the same for all sessions of a server.
type Options struct {
	Hub         *hub.Hub
	Presence    *presence.Registry
	Decider     *auth.Decider
	Decisions   *decisions.Recorder // nil: none is kept
	Replayer    *messages.Replayer
	Changes     *changes.Engine
	Verifier    *auth.Verifier
	WhenHearing func(then func()) (cancel func()) // calls then once the feed hears
	PrivateOnly bool
	Limits      Limits
	Logger      *slog.Logger
	Metrics     *metrics.Metrics

	sessions atomic.Uint32 // opened so far
	ends     endLog
	repeats  repeats.Log
	users    users
}

// Identity is who opened the socket.
type Identity struct {
	Claims  auth.Claims
	Token   string // as given, to tell a refresh from a repetition
	Headers string // the x-… request headers as a JSON object; policies may read them
	ConnID  string // for the log
}

// Session is the channels of one socket.
type Session struct {
	*Options
	version  protocol.Version
	number   uint32
	sender   Sender
	identity Identity
	user     string // of the socket's token, in the hub's spelling
	joins    bucket.Bucket
	events   bucket.Bucket
	bytes    bucket.Bucket
	presence bucket.Bucket // presence events

	mu           sync.Mutex // guards all below
	channels     map[string]*Channel
	draining     bool
	disconnected string        // what the client is told of that; empty: it is not
	turn         chan struct{} // see replayTurn; nil: nobody wanted it
}

// NewSession begins a session for a client that speaks version. Close ends it.
func NewSession(o *Options, version protocol.Version, identity Identity, sender Sender) *Session {
	s := &Session{
		Options: o, version: version, number: o.sessions.Add(1), sender: sender, identity: identity, user: hub.CanonicalSubject(identity.Claims.Subject),
		joins: bucket.New(o.Limits.JoinsPerSecond), events: bucket.New(o.Limits.EventsPerSecond), bytes: bucket.New(o.Limits.BytesPerSecond),
		presence: bucket.New(o.Limits.PresenceEventsPerSecond),
		channels: map[string]*Channel{},
	}
	o.users.add(s.user, s)
	return s
}

// Frame handles one frame of the client. Its data may be changed after the call.
func (s *Session) Frame(binary bool, data []byte) {
	m, err := protocol.Decode(s.version, binary, data)
	if err != nil {
		// As with Supabase Realtime the socket survives. Who can be answered is.
		if m.Topic != "" && m.Ref != "" {
			s.Metrics.SendsRefused.WithLabelValues(string(protocol.MalformedWebSocketMessage)).Inc()
			s.sender.Send(protocol.Reply(s.version, m.JoinRef, m.Ref, m.Topic, protocol.StatusError, protocol.MalformedWebSocketMessage.Response(err.Error())))
		}
		label := "malformed"
		if named, ok := err.(protocol.DecodeError); ok {
			label = named.Label()
		}
		s.Metrics.FramesBad.WithLabelValues(label).Inc()
		s.log().Debug("frame not understood", "err", err)
		return
	}
	s.Metrics.FramesIn.WithLabelValues(s.version.String()).Inc()
	switch {
	case m.Topic == protocol.HeartbeatTopic && m.Event == protocol.EventHeartbeat:
		s.sender.Send(protocol.HeartbeatReply(s.version, m.Ref))
	case !strings.HasPrefix(m.Topic, protocol.TopicPrefix):
		s.unmatched(m)
	case m.Event == protocol.EventJoin:
		apart(func() { s.join(m) })
	default:
		s.push(m)
	}
}

// log is made when it is needed: most sessions log nothing.
func (s *Session) log() *slog.Logger { return s.Logger.With("conn", s.identity.ConnID) }

// apart does something on a stack of its own, and waits for it. What a join needs once would otherwise stay with the
// socket's goroutine for its life: 4 KB of 8. A panic is the caller's, which knows whose socket it has to end.
func apart(do func()) {
	done := make(chan struct{})
	var panicked any
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		do()
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
}

// push handles what a client sends on a channel.
func (s *Session) push(m protocol.Message) {
	s.mu.Lock()
	c := s.channels[m.Topic]
	s.mu.Unlock()
	switch {
	case m.Event == protocol.EventLeave:
		s.leave(c, m)
	case c == nil:
		s.unmatched(m)
	case m.Event == protocol.EventBroadcast:
		c.broadcast(m)
	case m.Event == protocol.EventAccessToken:
		c.refresh(m)
	case !s.events.Take(1):
		c.refuse(m.Ref, protocol.MessagePerSecondRateLimitReached)
	case m.Event == protocol.EventPresence:
		c.pushPresence(m)
	default:
		c.refuse(m.Ref, protocol.NotSupported, fmt.Sprintf("the event %.64q", m.Event))
	}
}

// unmatched answers a push on a topic that is not joined.
func (s *Session) unmatched(m protocol.Message) {
	s.Metrics.SendsRefused.WithLabelValues(string(protocol.UnmatchedTopic)).Inc()
	s.sender.Send(protocol.Reply(s.version, "", m.Ref, m.Topic, protocol.StatusError, protocol.UnmatchedTopic.Response()))
}

// leave ends a channel at the client's wish. The answer is the same where there is none.
func (s *Session) leave(c *Channel, m protocol.Message) {
	if c == nil || m.JoinRef != "" && m.JoinRef != c.joinRef {
		// A client may leave and join again in one breath: what it leaves is the instance it names.
		s.sender.Send(protocol.Reply(s.version, m.JoinRef, m.Ref, m.Topic, protocol.StatusOK, nil))
		return
	}
	c.mu.Lock()
	joining := !c.admitted && !c.ended
	again := joining && c.leaving != nil
	if joining && !again {
		ref := m.Ref     // and not a pointer into m, which would keep the whole frame
		c.leaving = &ref // the join is answered first
	}
	awaited := joining && c.stopAwaiting() != nil
	c.mu.Unlock()
	switch {
	case awaited:
		c.leaveUnanswered()
	case again:
		s.sender.Send(protocol.Reply(s.version, c.joinRef, m.Ref, m.Topic, protocol.StatusOK, nil))
	case !joining:
		c.end()
		s.left(c, m.Ref)
	}
}

// left answers phx_leave and closes the channel.
func (s *Session) left(c *Channel, ref protocol.Ref) {
	s.sender.Send(protocol.Reply(s.version, c.joinRef, ref, c.topic, protocol.StatusOK, nil))
	s.sender.Send(protocol.Push(s.version, c.joinRef, c.joinRef, c.topic, protocol.EventClose, nil))
}

// forget takes a channel off the session, unless another has taken its place.
func (s *Session) forget(c *Channel) {
	s.mu.Lock()
	if s.channels[c.topic] == c {
		delete(s.channels, c.topic)
	}
	s.mu.Unlock()
}

// all is a copy of the channels there are.
func (s *Session) all() []*Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	channels := make([]*Channel, 0, len(s.channels))
	for _, c := range s.channels {
		channels = append(channels, c)
	}
	return channels
}

// InUse tells whether there is a channel.
func (s *Session) InUse() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.channels) > 0
}

// Close ends all channels; the socket is gone.
func (s *Session) Close() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.end()
	}
	s.users.remove(s.user, s)
}

// Drain tells every channel that the server asks the client to go, and takes no more joins.
func (s *Session) Drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.mu.Lock()
		awaited := c.stopAwaiting() != nil
		c.mu.Unlock()
		if awaited {
			c.refuseAwaited(refusal(protocol.RealtimeRestarting))
			continue
		}
		payload := protocol.SystemPayload("system", protocol.StatusOK, protocol.ServerDisconnect.Text(), "")
		s.sender.Send(protocol.Push(s.version, "", "", c.topic, protocol.EventSystem, payload))
	}
}
