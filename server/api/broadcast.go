package api

import (
	"bytes"
	"errors"
	"mime"
	"net/http"

	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// privateRoom reads the query's `private`, the only place where a request about one room says so: a body is the user's.
// What is neither true nor false is refused: it may have been meant to be private.
func privateRoom(c *call) (private bool, a answer) {
	values := c.URL.Query()["private"]
	for _, value := range values {
		if value != "true" && value != "false" || value != values[0] {
			return false, invalid(protocol.InvalidBroadcast, "private", protocol.TextInvalid)
		}
	}
	return len(values) > 0 && values[0] == "true", answer{}
}

// single is POST …/broadcast/{topic}/events/{event}: the body is the payload.
func (s *REST) single(c *call) answer {
	topic, event := c.PathValue("topic"), c.PathValue("event")
	private, a := privateRoom(c)
	switch {
	case a.code != "":
		return a
	case protocol.TopicProblem(topic) != "":
		return invalid(protocol.InvalidBroadcast, "topic", protocol.TopicProblem(topic))
	case protocol.EventProblem(event) != "":
		return invalid(protocol.InvalidBroadcast, "event", protocol.EventProblem(event))
	case c.URL.Query().Has("persist"): // or a message that was meant to be kept would not be
		return refuse(http.StatusUnprocessableEntity, protocol.NotSupported, "persist")
	}
	encoding, ok := payloadEncoding(c.Header)
	if !ok {
		return answer{
			status: http.StatusUnsupportedMediaType, code: protocol.UnsupportedMediaType, sends: 1,
			body: encode(map[string]string{"error": protocol.UnsupportedMediaType.Text()}),
		}
	}
	body, a := s.body(c)
	if a.code != "" {
		a.sends = 1
		return a
	}
	if !c.caller.bytes.TakeAny(len(body)) {
		return tooMany(c, protocol.TextTooManyBytes, 1)
	}
	payload, a := s.payload(body, encoding)
	if a.code != "" {
		return a
	}
	frame, err := protocol.NewUserBroadcast(protocol.TopicPrefix+topic,
		protocol.UserBroadcast{Event: event, Encoding: encoding, Payload: payload})
	if err != nil {
		return invalid(protocol.InvalidBroadcast, "payload", err.Error())
	}
	room := hub.Room{Name: topic, Private: private}
	if d := s.allowed(c, maySend, room); d.code != "" {
		return d.answer(topic)
	}
	if why := s.Away(); why != "" {
		return away(why)
	}
	s.publish(room, frame)
	return answer{status: http.StatusAccepted}
}

// payloadEncoding says what the body is; without a Content-Type it is JSON.
func payloadEncoding(h http.Header) (protocol.Encoding, bool) {
	values := h.Values("Content-Type")
	if len(values) == 0 {
		return protocol.JSON, true
	}
	kind, _, err := mime.ParseMediaType(values[0])
	switch {
	case err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || len(values) > 1:
		return 0, false
	case kind == "application/json":
		return protocol.JSON, true
	case kind == "application/octet-stream":
		return protocol.Binary, true
	}
	return 0, false
}

// payload is the body as receivers get it, verbatim. No JSON at all is an empty object, as with Supabase Realtime.
func (s *REST) payload(body []byte, encoding protocol.Encoding) ([]byte, answer) {
	if s.MaxPayloadBytes > 0 && len(body) > s.MaxPayloadBytes {
		return nil, invalid(protocol.PayloadSizeExceeded, "payload", protocol.TextPayloadSize)
	}
	if encoding == protocol.Binary {
		return bytes.Clone(body), answer{}
	}
	body = bytes.Trim(body, " \t\r\n")
	if len(body) == 0 {
		return []byte("{}"), answer{}
	}
	if err := protocol.CheckJSON(body); err != nil {
		return nil, malformed(err)
	}
	return bytes.Clone(body), answer{}
}

// allowed asks about one room.
func (s *REST) allowed(c *call, q question, room hub.Room) (d denial) {
	switch {
	case room.Private:
		s.decide(c, q, []string{room.Name}, func(_ string, said denial) { d = said })
	case s.PrivateOnly:
		d = privateOnly()
	}
	return d
}

func (s *REST) publish(room hub.Room, frame *protocol.Frame) {
	s.Hub.Publish(hub.Publication{Room: room, Frame: frame})
	s.Metrics.Broadcasts.WithLabelValues("rest").Inc()
}
