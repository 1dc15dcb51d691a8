package protocol

import "fmt"

// CheckBroadcast says what in the payload of a broadcast in text form would harm those who receive it, or "". Everything
// else is relayed as it is. realtime-js takes a payload with ids for a change of a table, and throws on an event that is
// no text, which ends a Node program; meta is the server's word about a message, see UserBroadcast.
func CheckBroadcast(payload []byte) (problem string) {
	if !IsObject(payload) {
		return TextBroadcastNotObject
	}
	var event []byte
	for key, value := range members(payload) {
		switch {
		case isText(key, "event"):
			event = value
		case isText(key, "ids"):
			problem = fmt.Sprintf(TextBroadcastKey, "ids")
		case isText(key, "meta"):
			problem = fmt.Sprintf(TextBroadcastKey, "meta")
		}
	}
	if problem == "" && len(event) > 0 && event[0] != '"' && !isNull(event) { // of several the last counts
		return TextBroadcastEvent
	}
	return problem
}
