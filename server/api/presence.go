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
	c.w.Header().Set("Cache-Control", "no-store")
	return answer{status: http.StatusOK, body: s.Presence(room)}
}
