package main

import (
	"strings"

	"rowcast/server/protocol"
)

// presenceProvocations are what is said about presence.
var presenceProvocations = []provocation{
	{code: protocol.UnknownPresenceEvent, where: inPush, counted: refusedTotal, on: onPlain, provoke: refusedPush("presence", map[string]any{"event": "tracks"})},
	{code: protocol.InvalidPresencePayload, where: inPush, counted: refusedTotal, on: onPlain,
		provoke: refusedPush("presence", map[string]any{"event": "track", "payload": []int{}})},
	{code: protocol.TrackTooLarge, where: inPush, counted: refusedTotal, on: onPlain, provoke: refusedPush("presence", trackOf(100_000))},
	{code: protocol.PresenceFull, where: inPush, counted: refusedTotal, on: onPlain, provoke: refusedPush("presence", trackOf(60_000))},
	{code: protocol.ClientPresenceRateLimitReached, where: inPush, counted: refusedTotal, on: onPlain, provoke: func(s *stage) (reason string) {
		c, joinRef := s.member("open", nil)
		for reason == "" {
			reason = c.refusal(c.push(joinRef, "realtime:open", "presence", map[string]any{"event": "untrack"}))
		}
		return reason
	}},
	{code: protocol.PresenceDenied, where: inPush, counted: refusedTotal, on: onPlain, provoke: func(s *stage) string {
		c, joinRef := s.memberAs("mute", "a", private())
		return c.refusal(c.push(joinRef, "realtime:a", "presence", trackOf(0)))
	}},
	{code: protocol.PresenceDenied, where: inSystem, counted: "realtime_presence_events_total", label: "revoked", on: onPlain, provoke: func(s *stage) string {
		s.exec(`insert into members (user_id, room) values ('hushed', 'a')`)
		c, joinRef := s.memberAs("hushed", "a", private())
		c.reply(c.push(joinRef, "realtime:a", "presence", trackOf(0)))
		s.exec(`update members set muted = true where user_id = 'hushed'`)
		return c.told("a")
	}},
	{code: protocol.Unauthorized, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("GET", "/api/presence/elsewhere?private=true", "")},
}

// trackOf is a presence event with a payload of more than so many bytes.
func trackOf(bytes int) map[string]any {
	return map[string]any{"type": "presence", "event": "track", "payload": map[string]any{"x": strings.Repeat("x", bytes)}}
}
