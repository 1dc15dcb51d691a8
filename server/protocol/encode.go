package protocol

import "unicode/utf8"

// frameOverhead is about what a frame needs around its topic, event and payload.
const frameOverhead = 64

// Reply answers a message of a client. The response is JSON, nil for {}; clients of version 1.0.0 are never told a
// join_ref.
func Reply(v Version, joinRef, ref Ref, topic, status string, response []byte) []byte {
	if len(response) == 0 {
		response = emptyObject
	}
	buf := newFrame(len(joinRef) + len(ref) + len(topic) + len(response) + 2*frameOverhead)
	if v == V1 {
		buf = appendReply(appendOpenV1(buf, EventReply), status, response)
		return seal(appendCloseV1(buf, ref, topic), opText)
	}
	buf = appendReply(appendOpenV2(buf, joinRef, ref, topic, EventReply), status, response)
	return seal(append(buf, ']'), opText)
}

// Push is a message to one receiver: system, phx_close, phx_error, presence_state, a replayed broadcast. The payload
// must be a JSON object, nil for {}.
func Push(v Version, joinRef, ref Ref, topic, event string, payload []byte) []byte {
	payload = object(payload)
	buf := newFrame(len(joinRef) + len(ref) + len(topic) + len(event) + len(payload) + frameOverhead)
	if v == V1 {
		buf = append(appendOpenV1(buf, event), payload...)
		return seal(appendCloseV1(buf, ref, topic), opText)
	}
	buf = append(appendOpenV2(buf, joinRef, ref, topic, event), payload...)
	return seal(append(buf, ']'), opText)
}

// HeartbeatReply answers a heartbeat.
func HeartbeatReply(v Version, ref Ref) []byte {
	return Reply(v, "", ref, HeartbeatTopic, StatusOK, nil)
}

// SystemPayload is the payload of a system message. The channel is the sub-topic; without one the key is left out.
func SystemPayload(extension, status, message, channel string) []byte {
	buf := make([]byte, 0, len(extension)+len(status)+len(message)+len(channel)+frameOverhead)
	buf = AppendString(append(buf, `{"extension":`...), extension)
	buf = AppendString(append(buf, `,"status":`...), status)
	buf = AppendString(append(buf, `,"message":`...), message)
	if channel != "" {
		buf = AppendString(append(buf, `,"channel":`...), channel)
	}
	return append(buf, '}')
}

// BroadcastPayload is the payload of a broadcast in its text form, as version 1.0.0, REST batches and replays carry
// it. The user's payload and the metadata (nil for none) are spliced in verbatim.
func BroadcastPayload(event string, payload, meta []byte) []byte {
	return appendBroadcast(make([]byte, 0, len(event)+len(payload)+len(meta)+frameOverhead), event, payload, meta)
}

var emptyObject = []byte("{}")

// object keeps a payload that is no object from reaching a client: realtime-js evaluates `'ids' in payload` on
// every message and throws on anything else. Whoever relays a payload of others refuses it earlier, with IsObject.
func object(payload []byte) []byte {
	if !IsObject(payload) {
		return emptyObject
	}
	return payload
}

func appendReply(buf []byte, status string, response []byte) []byte {
	buf = AppendString(append(buf, `{"status":`...), status)
	buf = append(append(buf, `,"response":`...), response...)
	return append(buf, '}')
}

func appendBroadcast(buf []byte, event string, payload, meta []byte) []byte {
	buf = AppendString(append(buf, `{"event":`...), event)
	buf = append(append(buf, `,"payload":`...), payload...)
	buf = append(buf, `,"type":"broadcast"`...)
	if len(meta) > 0 {
		buf = append(append(buf, `,"meta":`...), meta...)
	}
	return append(buf, '}')
}

// appendOpenV1 and appendCloseV1 stand before and after the payload.
func appendOpenV1(buf []byte, event string) []byte {
	buf = AppendString(append(buf, `{"event":`...), event)
	return append(buf, `,"payload":`...)
}

func appendCloseV1(buf []byte, ref Ref, topic string) []byte {
	buf = appendRef(append(buf, `,"ref":`...), ref)
	buf = AppendString(append(buf, `,"topic":`...), topic)
	return append(buf, '}')
}

// appendOpenV2 stands before the payload; a bracket follows it. Phoenix V2: [join_ref, ref, topic, event, payload].
func appendOpenV2(buf []byte, joinRef, ref Ref, topic, event string) []byte {
	buf = appendRef(append(buf, '['), joinRef)
	buf = appendRef(append(buf, ','), ref)
	buf = AppendString(append(buf, ','), topic)
	buf = AppendString(append(buf, ','), event)
	return append(buf, ',')
}

func appendRef(buf []byte, ref Ref) []byte {
	if ref == "" {
		return append(buf, "null"...)
	}
	return append(buf, ref...)
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Only what JSON demands is escaped; bytes that are not UTF-8 become U+FFFD,
// as text frames must be UTF-8.
func AppendString(buf []byte, s string) []byte {
	buf = append(buf, '"')
	plain := 0 // start of what needs no change
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			buf = append(append(buf, s[plain:i]...), "\ufffd"...)
		} else if c < ' ' || c == '"' || c == '\\' {
			buf = appendEscape(append(buf, s[plain:i]...), c)
		} else {
			i++
			continue
		}
		i++
		plain = i
	}
	return append(append(buf, s[plain:]...), '"')
}

func appendEscape(buf []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(buf, '\\', c)
	case '\n':
		return append(buf, `\n`...)
	case '\r':
		return append(buf, `\r`...)
	case '\t':
		return append(buf, `\t`...)
	}
	return append(buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}
