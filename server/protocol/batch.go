package protocol

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// BatchMessage is one broadcast of a batch that came over REST.
type BatchMessage struct {
	Topic, Event string // the topic without its prefix
	Payload      []byte // valid JSON, shared with the body
	Private      bool
	ID           string // for meta.id; "" for none
}

// BatchLimits bound what DecodeBatch takes. 0 means no limit.
type BatchLimits struct {
	Messages     int
	PayloadBytes int // of one message
}

// InvalidBatch says why nothing of a batch is sent.
type InvalidBatch struct {
	Whole string         // about the batch, or
	Each  []FieldReasons // about each message, in their order; empty for one that is as it should be
}

// FieldReasons says what is wrong with the fields of a message, by their names.
type FieldReasons map[string][]string

func (e *InvalidBatch) Error() string {
	if e.Whole != "" {
		return "messages " + e.Whole
	}
	return "a message of the batch is not as it should be"
}

// ErrTooManyMessages is a batch with more messages than the limit. What is wrong with them is not looked for: the answer
// would be many times as long as the batch.
var ErrTooManyMessages = errors.New("too many messages in a batch")

// DecodeBatch reads {"messages": [{"topic", "event", "payload", "private", "id"}, …]}; other keys mean nothing. The error is
// an InvalidBatch, ErrTooManyMessages, or a DecodeError where the body is no JSON.
func DecodeBatch(body []byte, limits BatchLimits) ([]BatchMessage, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	list, _ := Member(body, "messages")
	switch {
	case len(list) == 0 || isNull(list):
		return nil, &InvalidBatch{Whole: TextBlank}
	case list[0] != '[':
		return nil, &InvalidBatch{Whole: TextInvalid}
	}
	var messages []BatchMessage
	var each []FieldReasons
	valid := true
	for item := range elements(list) {
		if limits.Messages > 0 && len(messages) == limits.Messages {
			return nil, ErrTooManyMessages
		}
		if !IsObject(item) {
			return nil, &InvalidBatch{Whole: TextInvalid}
		}
		m, reasons := decodeBatchMessage(item, limits.PayloadBytes)
		messages, each = append(messages, m), append(each, reasons)
		valid = valid && len(reasons) == 0
	}
	switch {
	case len(messages) == 0:
		return nil, &InvalidBatch{Whole: TextBlank}
	case !valid:
		return nil, &InvalidBatch{Each: each}
	}
	return messages, nil
}

func decodeBatchMessage(item []byte, payloadBytes int) (m BatchMessage, reasons FieldReasons) {
	var topic, event, private, id []byte
	for key, value := range members(item) {
		switch {
		case isText(key, "topic"):
			topic = value
		case isText(key, "event"):
			event = value
		case isText(key, "payload"):
			m.Payload = value
		case isText(key, "private"):
			private = value
		case isText(key, "id"):
			id = value
		}
	}
	reasons = FieldReasons{}
	refuse := func(field, reason string) {
		if reason != "" {
			reasons[field] = []string{reason}
		}
	}
	var reason string
	m.Topic, reason = nameOf(topic, TopicProblem)
	refuse("topic", reason)
	m.Event, reason = nameOf(event, EventProblem)
	refuse("event", reason)
	refuse("payload", payloadProblem(m.Payload, payloadBytes))
	switch string(private) {
	case "true":
		m.Private = true
	case "false", "null", "":
	default: // what may have been meant to be private must not become public
		refuse("private", TextInvalid)
	}
	if len(id) > 0 && !isNull(id) {
		m.ID, reason = nameOf(id, idProblem)
		refuse("id", reason)
	}
	return m, reasons
}

// nameOf decodes a field that is text, and says what is wrong with it.
func nameOf(value []byte, problem func(string) string) (text, reason string) {
	if len(value) == 0 || isNull(value) {
		return "", TextBlank
	}
	text, ok := Text(value)
	if !ok {
		return "", TextInvalid
	}
	return text, problem(text)
}

// TopicProblem says why nothing can be sent to a topic, given without its prefix, or "".
func TopicProblem(name string) string {
	if longest := MaxName - len(TopicPrefix); len(name) > longest {
		return TopicTooLong.Text(longest)
	}
	return textProblem(name)
}

// EventProblem says why a broadcast cannot have this event, or "".
func EventProblem(event string) string {
	if len(event) > MaxName {
		return fmt.Sprintf(TextEventLength, MaxName)
	}
	return textProblem(event)
}

func idProblem(id string) string {
	if len(id) > MaxName {
		return fmt.Sprintf(TextIDLength, MaxName)
	}
	return ""
}

func textProblem(text string) string {
	switch {
	case !utf8.ValidString(text):
		return TextInvalid
	case strings.TrimSpace(text) == "":
		return TextBlank
	}
	return ""
}

func payloadProblem(payload []byte, limit int) string {
	switch {
	case len(payload) == 0 || isNull(payload):
		return TextBlank
	case limit > 0 && len(payload) > limit:
		return TextPayloadSize
	case deeper(payload, MaxDepth):
		return TextTooDeep
	}
	return ""
}

// Frame is the message for its receivers: text for both versions. It shares no memory with the body.
func (m BatchMessage) Frame() *Frame {
	var meta []byte
	if m.ID != "" {
		meta = append(AppendString([]byte(`{"id":`), m.ID), '}')
	}
	return TextBroadcast(TopicPrefix+m.Topic, BroadcastPayload(m.Event, m.Payload, meta))
}
