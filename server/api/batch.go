package api

import (
	"errors"
	"fmt"
	"net/http"

	"rowcast/server/hub"
	"rowcast/server/protocol"
)

// maxBatch bounds a batch where no rate does: each message has its place in the answer.
const maxBatch = 10000

// batch is POST …/broadcast: {"messages": […]}, whatever the Content-Type says.
//
// Nothing is sent of a batch that is not as it should be. Of one that is, every message for which there is a right is
// sent, public ones at once, private ones as the policies answer; within a topic the order stays.
func (s *REST) batch(c *call) answer {
	body, a := s.body(c)
	if a.code != "" {
		a.sends = 1
		return a
	}
	if !c.caller.bytes.TakeAny(len(body)) {
		return tooMany(c, protocol.TextTooManyBytes, 1)
	}
	most := maxBatch
	if s.MessagesPerSecond > 0 {
		most = min(most, s.MessagesPerSecond)
	}
	messages, err := protocol.DecodeBatch(body, protocol.BatchLimits{Messages: most, PayloadBytes: s.MaxPayloadBytes})
	var wrong *protocol.InvalidBatch
	switch {
	case errors.Is(err, protocol.ErrTooManyMessages):
		return tooMany(c, protocol.TextBatchSize, most+1)
	case errors.As(err, &wrong):
		return invalidBatch(wrong)
	case err != nil:
		return malformed(err)
	case !c.caller.messages.Take(len(messages) - 1): // the request itself was the first
		return tooMany(c, protocol.TextBatchSize, len(messages))
	}
	if why := s.Away(); why != "" {
		return away(why)
	}
	return s.batchAnswer(messages, s.sendAll(c, messages))
}

// sendAll sends what may be sent, and says of each message why not, in their order.
func (s *REST) sendAll(c *call, messages []protocol.BatchMessage) []denial {
	denials := make([]denial, len(messages))
	private := map[string][]int{} // places in the batch, by topic
	var topics []string
	for i, m := range messages {
		switch {
		case m.Private && private[m.Topic] == nil:
			topics = append(topics, m.Topic)
			fallthrough
		case m.Private:
			private[m.Topic] = append(private[m.Topic], i)
		case s.PrivateOnly:
			denials[i] = privateOnly()
		default:
			s.publish(hub.Room{Name: m.Topic}, m.Frame())
		}
	}
	if len(topics) == 0 {
		return denials
	}
	s.decide(c, maySend, topics, func(topic string, d denial) {
		for _, i := range private[topic] {
			if denials[i] = d; d.code == "" {
				s.publish(hub.Room{Name: topic, Private: true}, messages[i].Frame())
			}
		}
	})
	return denials
}

// batchResult is what became of one message of a batch.
type batchResult struct {
	Status  string        `json:"status"`
	Code    protocol.Code `json:"code,omitempty"`
	Message string        `json:"message,omitempty"`
}

// batchAnswer is empty if all was sent. Otherwise it says so of every message, which Supabase Realtime does not: there, what
// is not permitted is dropped in silence.
func (s *REST) batchAnswer(messages []protocol.BatchMessage, denials []denial) answer {
	worst := answer{status: http.StatusAccepted}
	results := make([]batchResult, len(denials))
	refused := 0
	for i, d := range denials {
		if d.code == "" {
			results[i].Status = "sent"
			continue
		}
		refused++
		results[i] = batchResult{"refused", d.code, d.text}
		if d.code == protocol.SendDenied {
			results[i].Message = protocol.SendDenied.Text(messages[i].Topic)
		}
		if worst.code == "" || d.status == http.StatusForbidden && worst.status != http.StatusForbidden {
			worst = d.answer(messages[i].Topic)
			worst.sends = 0 // each is counted under its own code
		}
		s.Metrics.SendsRefused.WithLabelValues(string(d.code)).Inc()
	}
	if refused > 0 {
		worst.body = encode(map[string]any{
			"message": fmt.Sprintf(protocol.TextSomeRefused, refused, len(messages)), "results": results,
		})
	}
	return worst
}

func invalidBatch(wrong *protocol.InvalidBatch) answer {
	if wrong.Whole != "" {
		return invalid(protocol.InvalidBroadcast, "messages", wrong.Whole)
	}
	a := answer{
		status: http.StatusUnprocessableEntity, code: protocol.InvalidBroadcast, sends: len(wrong.Each),
		body: encode(map[string]any{"errors": map[string]any{"messages": wrong.Each}}),
	}
	for _, reasons := range wrong.Each {
		if text := reasons["payload"]; len(text) > 0 && text[0] == protocol.TextPayloadSize {
			a.code = protocol.PayloadSizeExceeded
		}
	}
	return a
}
