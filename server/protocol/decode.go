package protocol

import (
	"encoding/json"
	"unicode/utf8"
)

// DecodeError says why a frame could not be understood. Its value is the metric label.
type DecodeError string

const (
	ErrMalformed   DecodeError = "malformed"    // not JSON
	ErrShape       DecodeError = "bad_shape"    // JSON, but an element or key is missing or of the wrong type
	ErrUTF8        DecodeError = "utf8"         // text that is not UTF-8
	ErrTooDeep     DecodeError = "too_deep"     // a payload nested beyond MaxDepth
	ErrRef         DecodeError = "bad_ref"      // a reference too long, or not a string, a number or null
	ErrBinaryOnV1  DecodeError = "binary_on_v1" // version 1.0.0 has no binary frames
	ErrKind        DecodeError = "bad_kind"     // a binary frame of a kind that clients do not send
	ErrTruncated   DecodeError = "truncated"    // a binary frame shorter than its sizes say
	ErrMetadata    DecodeError = "bad_metadata" // metadata that is not a JSON object
	ErrPushPayload DecodeError = "bad_payload"  // a push that says JSON and holds something else
)

// Error is the cause as a sentence that may be shown to the sender.
func (e DecodeError) Error() string {
	switch e {
	case ErrMalformed:
		return "the frame is not JSON"
	case ErrShape:
		return "the frame lacks an element or has one of the wrong type"
	case ErrUTF8:
		return "the frame is not UTF-8"
	case ErrTooDeep:
		return "the payload is nested too deeply"
	case ErrRef:
		return "a reference is too long or neither text, a number nor null"
	case ErrBinaryOnV1:
		return "version 1.0.0 has no binary frames"
	case ErrKind:
		return "a binary frame of an unknown kind"
	case ErrTruncated:
		return "the binary frame is shorter than its sizes say"
	case ErrMetadata:
		return "the metadata is not a JSON object"
	case ErrPushPayload:
		return "the payload is not JSON although the frame says so"
	}
	return string(e)
}

// Label is the name of the cause for metrics and logs.
func (e DecodeError) Label() string { return string(e) }

// maxTextRef bounds a reference in a text frame: clients count upwards, and it is kept and echoed.
const maxTextRef = 64

// Decode reads one frame of a client. Slices of the message may share memory with data. The error is a DecodeError;
// beside it the message holds what could be read before, so that a sender whose Ref is known can be answered.
func Decode(v Version, binary bool, data []byte) (Message, error) {
	switch {
	case binary && v == V1:
		return Message{}, ErrBinaryOnV1
	case binary:
		return decodePush(data)
	}
	err := checkJSON(data)
	switch {
	case err == ErrTooDeep:
		return readHead(v, data), err
	case err != nil:
		return Message{}, err
	}
	return decodeText(v, data)
}

func decodeText(v Version, data []byte) (Message, error) {
	if v == V1 {
		return decodeObject(data)
	}
	return decodeArray(data)
}

// readHead is what can be told of a frame that nests too deep to be checked, so that its sender can be answered. Nothing
// about it is certain: what is to be echoed as it is must be JSON by itself.
func readHead(v Version, data []byte) Message {
	m, _ := decodeText(v, data)
	m.Payload = nil
	for _, ref := range []*Ref{&m.JoinRef, &m.Ref} {
		if !json.Valid([]byte(*ref)) {
			*ref = ""
		}
	}
	return m
}

// decodeArray reads [join_ref, ref, topic, event, payload]; what follows is ignored.
func decodeArray(data []byte) (Message, error) {
	var part [5][]byte
	n := 0
	for value := range elements(data) {
		part[n] = value
		if n++; n == len(part) {
			break
		}
	}
	if n < len(part) {
		return Message{}, ErrShape
	}
	return assemble(part[0], part[1], part[2], part[3], part[4])
}

// decodeObject reads {"topic", "event", "payload", "ref"} with an optional "join_ref".
func decodeObject(data []byte) (Message, error) {
	joinRef := []byte("null")
	var ref, topic, event, payload []byte
	for key, value := range members(data) {
		switch {
		case isText(key, "topic"):
			topic = value
		case isText(key, "event"):
			event = value
		case isText(key, "payload"):
			payload = value
		case isText(key, "ref"):
			ref = value
		case isText(key, "join_ref"):
			joinRef = value
		}
	}
	if ref == nil || topic == nil || event == nil || payload == nil {
		return Message{}, ErrShape
	}
	return assemble(joinRef, ref, topic, event, payload)
}

func assemble(joinRef, ref, topic, event, payload []byte) (m Message, err error) {
	var ok bool
	if m.JoinRef, ok = refOf(joinRef); !ok {
		return m, ErrRef
	}
	if m.Ref, ok = refOf(ref); !ok {
		return m, ErrRef
	}
	if m.Topic, ok = Text(topic); !ok {
		return m, ErrShape
	}
	if m.Event, ok = eventOf(event); !ok {
		return m, ErrShape
	}
	if deeper(payload, MaxDepth) {
		return m, ErrTooDeep
	}
	m.Payload = payload
	return m, nil
}

func refOf(token []byte) (Ref, bool) {
	switch {
	case isNull(token):
		return "", true
	case len(token) > maxTextRef:
		return "", false
	case token[0] == '"', token[0] == '-', '0' <= token[0] && token[0] <= '9':
		return Ref(token), true
	}
	return "", false
}

// eventOf decodes an event name; those that arrive all the time cost no allocation.
func eventOf(token []byte) (string, bool) {
	switch string(token) {
	case `"broadcast"`:
		return EventBroadcast, true
	case `"heartbeat"`:
		return EventHeartbeat, true
	case `"presence"`:
		return EventPresence, true
	case `"access_token"`:
		return EventAccessToken, true
	}
	return Text(token)
}

// kindPush is a user broadcast on its way to the server, kindBroadcast one on its way to a client. No other kind is
// understood by both sides.
const (
	kindPush      = 3
	kindBroadcast = 4
)

// pushHeader is kind, five sizes (join_ref, ref, topic, event, metadata) and the encoding.
const pushHeader = 7

// decodePush reads a binary frame: the header, then join_ref, ref, topic, event and metadata, then the payload.
func decodePush(data []byte) (m Message, err error) {
	if len(data) == 0 {
		return m, ErrTruncated
	}
	if data[0] != kindPush {
		return m, ErrKind
	}
	if len(data) < pushHeader {
		return m, ErrTruncated
	}
	var part [5][]byte
	rest := data[pushHeader:]
	for i := range part {
		size := int(data[1+i])
		if size > len(rest) {
			return m, ErrTruncated
		}
		part[i], rest = rest[:size], rest[size:]
	}
	for _, text := range part[:4] {
		if !utf8.Valid(text) {
			return m, ErrUTF8
		}
	}
	m = Message{JoinRef: binaryRef(part[0]), Ref: binaryRef(part[1]), Topic: string(part[2]), Event: EventBroadcast}
	push := &UserBroadcast{Event: string(part[3]), Meta: trimSpace(part[4]), Payload: rest}
	if len(push.Meta) == 0 {
		push.Meta = nil
	} else if checkJSON(push.Meta) != nil || push.Meta[0] != '{' {
		return m, ErrMetadata
	}
	if data[6] != 0 { // upstream takes every value but 0 for JSON
		push.Encoding = JSON
		switch err := CheckJSON(push.Payload); {
		case err == ErrMalformed:
			return m, ErrPushPayload
		case err != nil:
			return m, err
		}
	}
	m.Push = push
	return m, nil
}

// CheckJSON makes sure, once, that a JSON payload can be spliced into every receiver's frame. The error is a DecodeError.
func CheckJSON(payload []byte) error {
	if err := checkJSON(payload); err != nil {
		return err
	}
	if deeper(payload, MaxDepth) {
		return ErrTooDeep
	}
	return nil
}

// binaryRef is the reference of a binary frame, at most 255 bytes by the form of the frame; none means null.
func binaryRef(text []byte) Ref {
	if len(text) == 0 {
		return ""
	}
	return TextRef(string(text))
}
