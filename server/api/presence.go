package api

import (
	"net/http"

	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// presence is GET …/presence/{topic}: who is here, as far as the caller may see it.
func (s *REST) presence(c *call) answer {
	topic := c.PathValue("topic")
	private, a := privateRoom(c)
	if a.code == "" && protocol.TopicProblem(topic) != "" {
		a = invalid(protocol.InvalidBroadcast, "topic", protocol.TopicProblem(topic))
	}
	room := hub.Room{Name: topic, Private: private}
	if a.code == "" {
		if d := s.allowed(c, maySee, room); d.code != "" {
			a = d.answer(topic)
		}
	}
	if a.code != "" {
		a.sends = 0 // it is no send
		return a
	}
	body := s.Presence(room)
	switch { // it may be as large as a body that is sent, and be read as slowly
	case !c.caller.bytes.TakeAny(len(body)):
		return tooMany(c, protocol.TextTooManyBytes, 0)
	case !c.hold(len(body)):
		return busy(c)
	}
	c.w.Header().Set("Cache-Control", "no-store")
	return answer{status: http.StatusOK, body: body}
}
