package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"rowcast/server/protocol"
	"rowcast/server/socket"
)

// server names a server with settings of its own. On one server provocations are played one after the other.
type server string

const (
	onPlain   server = "plain"
	onStrict  server = "strict limits"
	onPrivate server = "private only"
	onIssuer  server = "one issuer"
	onKeys    server = "a key set"
	onKeyless server = "keys that cannot be fetched"
	onDeaf    server = "deaf"
	onFlooded server = "flooded"
	onSlow    server = "slow policies"
	onBatches server = "long batches"
	onStopped server = "stopped"
)

type testServer struct {
	name     server
	settings func(*Config)
}

var servers = []testServer{
	{onPlain, func(c *Config) {
		c.MaxPayloadBytes, c.MaxBytesPerSecond, c.MaxRESTBodyBytes = 100_000, 200_000, 1_000_000
		c.MaxPresenceStateBytes, c.MaxPresenceEventsPerSecond = 50_000, 3
	}},
	{onStrict, func(c *Config) {
		c.MaxJoinsPerSecond, c.MaxChannelsPerSocket, c.MaxEventsPerSecond, c.MaxRESTMessages = 2, 1, 1, 1
	}},
	{onPrivate, func(c *Config) { c.PrivateOnly, c.AllowedOrigins = true, []string{"https://app.example.com"} }},
	{onIssuer, func(c *Config) { c.JWTIssuers = []string{"https://example.com"} }},
	{onKeys, func(c *Config) { c.JWTJWKS = octKeySet }},
	{onKeyless, func(c *Config) { c.JWTJWKSURLs = []string{"http://127.0.0.1:1/"} }},
	{onDeaf, nil},
	{onFlooded, func(c *Config) { c.MaxQueueBytes = 1000 }},
	{onSlow, nil},
	{onBatches, func(c *Config) { c.MaxRESTMessages = 0 }},
	{onChanges, func(c *Config) { c.MaxSnapshotRows = 3 }},
	{onStopped, nil},
}

const (
	joinsTotal    = "realtime_joins_total"
	refusedTotal  = "realtime_sends_refused_total"
	channelsTotal = "realtime_channels_closed_total"
	socketsTotal  = "realtime_sockets_closed_total"
)

const (
	inJoin   = protocol.InJoinReply
	inPush   = protocol.InPushReply
	inSystem = protocol.InSystem
	inClose  = protocol.InClose
)

// provocations are all codes at all the places where they can appear.
var provocations = slices.Concat([]provocation{
	{code: protocol.TopicNameRequired, where: inJoin, counted: joinsTotal, on: onPlain, provoke: refusedJoin("", config(nil))},
	{code: protocol.TopicTooLong, where: inJoin, counted: joinsTotal, on: onPlain, provoke: refusedJoin(strings.Repeat("x", 247), config(nil))},
	{code: protocol.InvalidJoinPayload, where: inJoin, counted: joinsTotal, on: onPlain,
		provoke: refusedJoin("open", config(map[string]any{"private": "yes"}))},
	{code: protocol.PrivateOnly, where: inJoin, counted: joinsTotal, on: onPrivate, provoke: refusedJoin("open", config(nil))},
	{code: protocol.ChannelRateLimitReached, where: inJoin, counted: joinsTotal, on: onStrict, provoke: lastOfJoins("one", "other")},
	{code: protocol.ClientJoinRateLimitReached, where: inJoin, counted: joinsTotal, on: onStrict, provoke: lastOfJoins("a", "a", "a")},
	{code: protocol.Unauthorized, where: inJoin, counted: joinsTotal, on: onPlain, provoke: refusedJoin("elsewhere", config(private()))},
	{code: protocol.UnableToReplayMessages, where: inJoin, counted: joinsTotal, on: onPlain,
		provoke: refusedJoin("open", config(map[string]any{"broadcast": map[string]any{"replay": map[string]any{"since": 1}}}))},
	{code: protocol.JoinSuperseded, where: inJoin, counted: joinsTotal, on: onPlain, provoke: func(s *stage) string {
		c := s.dial(token(s.t, "u1", "authenticated", nil))
		defer s.holdDecisions()()
		first := c.push("", "realtime:a", "phx_join", config(private()))
		c.push("", "realtime:a", "phx_join", config(private()))
		return c.refusal(first)
	}},
	{code: protocol.NotSupported, where: inPush, counted: refusedTotal, on: onPlain, provoke: refusedPush("phx_error", nil)},
	{code: protocol.NotSupported, where: inSystem, counted: refusedTotal, on: onPlain, provoke: refusedUnasked("phx_error", nil)},

	{code: protocol.UnmatchedTopic, where: inPush, counted: refusedTotal, on: onPlain, provoke: func(s *stage) string {
		c := s.dial(token(s.t, "u1", "authenticated", nil))
		return c.refusal(c.push("", "realtime:nowhere", "broadcast", map[string]any{}))
	}},
	{code: protocol.MalformedWebSocketMessage, where: inPush, counted: refusedTotal, on: onPlain, provoke: func(s *stage) string {
		c, joinRef := s.member("open", nil)
		deep := fmt.Sprintf(`[%q,"deep","realtime:open","broadcast",%s1%s]`, joinRef, strings.Repeat(`{"a":`, 600), strings.Repeat("}", 600))
		if err := c.conn.Write(s.t.Context(), websocket.MessageText, []byte(deep)); err != nil {
			s.t.Fatal(err)
		}
		return c.refusal("deep")
	}},
	{code: protocol.PayloadSizeExceeded, where: inPush, counted: refusedTotal, on: onPlain,
		provoke: refusedPush("broadcast", map[string]any{"payload": strings.Repeat("x", 100_000)})},
	{code: protocol.InvalidBroadcast, where: inPush, counted: refusedTotal, on: onPlain, provoke: refusedPush("broadcast", []int{})},
	{code: protocol.InvalidBroadcast, where: inPush, counted: refusedTotal, on: onPlain, provoke: refusedPush("broadcast", map[string]any{"ids": 1})},
	{code: protocol.InvalidBroadcast, where: inSystem, counted: refusedTotal, on: onPlain, provoke: refusedUnasked("broadcast", map[string]any{"event": 1})},
	{code: protocol.SendDenied, where: inPush, counted: refusedTotal, on: onPlain, provoke: func(s *stage) string {
		c, joinRef := s.memberAs("mute", "a", private())
		return c.refusal(c.broadcast(joinRef, "a"))
	}},
	{code: protocol.SendDenied, where: inSystem, counted: refusedTotal, on: onPlain, provoke: func(s *stage) string {
		c, joinRef := s.memberAs("mute", "a", map[string]any{"private": true})
		c.broadcast(joinRef, "a")
		return c.told("a")
	}},
	{code: protocol.MessagePerSecondRateLimitReached, where: inPush, counted: refusedTotal, on: onStrict, provoke: func(s *stage) string {
		c, joinRef := s.member("open", map[string]any{"broadcast": map[string]any{"ack": true}})
		c.broadcast(joinRef, "open")
		return c.refusal(c.broadcast(joinRef, "open"))
	}},
	{code: protocol.MessagePerSecondRateLimitReached, where: inPush, counted: refusedTotal, on: onPlain, provoke: func(s *stage) string {
		c, joinRef := s.member("open", map[string]any{"broadcast": map[string]any{"ack": true}})
		for {
			ref := c.push(joinRef, "realtime:open", "broadcast", map[string]any{"payload": strings.Repeat("x", 90_000)})
			if status, response := c.reply(ref); status != "ok" {
				return reasonOf(response)
			}
		}
	}},
	{code: protocol.MessagesWithheld, where: inSystem, counted: "realtime_messages_dropped_total", label: "too_large", on: onPlain, provoke: func(s *stage) string {
		c, _ := s.member("open", nil)
		s.exec(`insert into realtime.messages (topic, extension, event, payload) values ('open', 'broadcast', 'e', to_jsonb(repeat('x', 100000)))`)
		return c.told("open")
	}},
	{code: protocol.BinaryNotSupported, where: inSystem, counted: "realtime_withheld_total", label: "wire_version", on: onPlain, provoke: func(s *stage) string {
		c := s.dialVersion("1.0.0", token(s.t, "u1", "authenticated", nil))
		if _, status, reason := c.join("open", nil); status != "ok" {
			s.t.Fatal(reason)
		}
		s.exec(`select realtime.send_binary('x', 'e', 'open', false)`)
		return c.told("open")
	}},
	{code: protocol.MessagePerSecondRateLimitReached, where: inSystem, counted: refusedTotal, on: onStrict, provoke: func(s *stage) string {
		c, joinRef := s.member("open", nil)
		c.broadcast(joinRef, "open")
		c.broadcast(joinRef, "open")
		return c.told("open")
	}},
}, presenceProvocations, tokenProvocations, troubleProvocations, restProvocations, restTroubleProvocations, replayProvocations, changesProvocations, endProvocations)

// tokenProvocations are tokens that are refused, in a join and as the new token of a channel.
var tokenProvocations = slices.Concat(
	badToken(protocol.InvalidJWTToken, onPlain, func() string { return signed(`{"alg":"HS256"}`, `{"role":"authenticated","exp":1}`) }),
	badToken(protocol.InvalidJWTToken, onPlain, func() string { return signed(`{"alg":"HS256"}`, `{"role":"authenticated"}`) }),
	badToken(protocol.InvalidJWTToken, onPlain, aboutToExpire),
	badToken(protocol.InvalidJWTToken, onIssuer, func() string { return claiming(`,"iss":"https://example.org"`) }),
	badToken(protocol.MalformedJWT, onPlain, func() string { return "no token" }),
	badToken(protocol.JwtSignatureError, onPlain, func() string { return claiming("") + "x" }),
	badToken(protocol.JwtSignerError, onPlain, func() string { return signed(`{"alg":"RS256"}`, `{}`) }),
	badToken(protocol.JwtSignerError, onKeys, func() string { return signed(`{"alg":"RS256","kid":"k1"}`, `{}`) }),
	badToken(protocol.JwtKeysMissing, onKeyless, func() string { return signed(`{"alg":"RS256","kid":"k1"}`, `{}`) }),
	badToken(protocol.RoleNotAllowed, onPlain, func() string { return signed(`{"alg":"HS256"}`, `{"role":"postgres","exp":4000000000}`) }),
)

// troubleProvocations are what is said when Postgres cannot be asked, or is not heard.
var troubleProvocations = []provocation{
	{code: protocol.UnableToConnectToProject, where: inJoin, counted: joinsTotal, on: onFlooded, provoke: func(s *stage) string {
		defer s.holdDecisions()()
		return refusedJoin("a", config(private()))(s)
	}},
	{code: protocol.UnableToConnectToProject, where: inPush, counted: refusedTotal, on: onSlow, provoke: func(s *stage) string {
		reply, _ := s.neverDecided()
		return reply
	}},
	{code: protocol.UnableToConnectToProject, where: inSystem, counted: channelsTotal, on: onSlow, provoke: func(s *stage) string {
		_, message := s.neverDecided()
		return message
	}},
	{code: protocol.MessagesWithheld, where: inSystem, counted: "realtime_withheld_total", label: "right_in_doubt", on: onDeaf, provoke: func(s *stage) string {
		c, _ := s.member("a", private())
		s.begin()
		s.exec(`delete from members where user_id = 'u1'`)
		s.exec(`select realtime.send('{}', 'e', 'a')`)
		s.exec(`insert into members (user_id, room) values ('u1', 'a')`)
		s.end()
		return messageOf(c.wait("the word about the message", isWithheld(protocol.MessagesWithheld.Reason(1, "your rights changed while they were sent"))))
	}},
	{code: protocol.MessagesWithheld, where: inSystem, counted: channelsTotal, on: onFlooded, provoke: func(s *stage) string {
		c, _ := s.member("a", private())
		other, joinRef := s.memberAs("u2", "a", private())
		defer s.holdDecisions()()
		s.exec(`select realtime.invalidate('u1', null)`)
		for count(c, isEvent("a", "system")) == 0 { // the mark is on its way
			other.reply(other.broadcast(joinRef, "a"))
		}
		return c.told("a")
	}},
	{code: protocol.MessagesWithheld, where: inSystem, counted: "realtime_feed_missed_total", label: "dropped", on: onDeaf, provoke: func(s *stage) string {
		c, _ := s.member("open", nil)
		s.begin()
		s.exec(`select realtime.send('{}', 'lost', 'open', false)`)
		s.await("it to be forgotten", func() bool { // somebody else may be at it
			var left int
			s.exec(`select realtime._maintain('0')`)
			err := s.db.Admin.QueryRow(s.t.Context(), `select count(*) from realtime._journal`).Scan(&left)
			return err == nil && left == 0
		})
		s.end()
		return c.told("open")
	}},
	{code: protocol.Deaf, where: inJoin, counted: joinsTotal, on: onDeaf, provoke: func(s *stage) string {
		s.begin()
		defer s.end()
		return refusedJoin("a", config(private()))(s)
	}},
	{code: protocol.Deaf, where: inPush, counted: refusedTotal, on: onDeaf, provoke: func(s *stage) string {
		c, joinRef := s.member("a", private())
		s.begin()
		defer s.end()
		s.awaitDeafTo(c)
		return c.refusal(c.broadcast(joinRef, "a"))
	}},
	{code: protocol.Deaf, where: inSystem, counted: refusedTotal, on: onDeaf, provoke: func(s *stage) string {
		c, joinRef := s.member("a", map[string]any{"private": true})
		s.begin()
		defer s.end()
		s.awaitDeafTo(c)
		c.broadcast(joinRef, "a")
		return messageOf(c.wait("the word about the send", func(f frame) bool {
			return isEvent("a", "system")(f) && strings.Contains(string(f.Payload), `"extension":"broadcast"`)
		}))
	}},
}

// endProvocations are what is said when a channel or a socket ends.
var endProvocations = []provocation{
	{code: protocol.Unauthorized, where: inSystem, counted: channelsTotal, on: onPlain, provoke: func(s *stage) string {
		c, joinRef := s.member("a", private())
		c.push(joinRef, "realtime:a", "access_token", map[string]any{"access_token": token(s.t, "stranger", "authenticated", nil)})
		return c.told("a")
	}},
	{code: protocol.NoLongerAuthorized, where: inSystem, counted: channelsTotal, on: onPlain, provoke: func(s *stage) string {
		s.exec(`insert into members (user_id, room) values ('goes', 'a')`)
		c, _ := s.memberAs("goes", "a", private())
		s.exec(`delete from members where user_id = 'goes'`)
		return c.told("a")
	}},
	{code: protocol.Disconnected, where: inJoin, counted: joinsTotal, on: onPlain, provoke: func(s *stage) string {
		c := s.dial(token(s.t, "goes", "authenticated", nil))
		defer s.holdDecisions()()
		ref := c.push("", "realtime:a", "phx_join", config(private()))
		s.await("the join to be there", func() (decided bool) { // else the socket is closed before the join is read, and that is its answer
			const waits = `select exists (select from pg_locks where relation = 'members'::regclass and not granted)`
			if err := s.db.Admin.QueryRow(s.t.Context(), waits).Scan(&decided); err != nil {
				s.t.Fatal(err)
			}
			return decided
		})
		s.exec(`select realtime.disconnect('goes')`)
		return c.refusal(ref)
	}},
	{code: protocol.Disconnected, where: inSystem, counted: channelsTotal, on: onPlain, provoke: func(s *stage) string {
		c, _ := s.memberAs("goes", "open", nil)
		s.exec(`select realtime.disconnect('goes')`)
		return c.told("open")
	}},
	{code: protocol.Disconnected, where: inSystem, counted: channelsTotal, on: onPlain, provoke: func(s *stage) string {
		c, _ := s.memberAs("goes", "open", nil)
		s.exec(`select realtime.disconnect('goes', 'your account was closed')`)
		return c.told("open")
	}},
	{code: protocol.Disconnected, where: inClose, counted: socketsTotal, label: string(socket.Disconnected), on: onPlain, provoke: func(s *stage) string {
		c, _ := s.memberAs("goes", "open", nil)
		s.exec(`select realtime.disconnect('goes')`)
		return c.closedWith()
	}},
	{code: protocol.RealtimeRestarting, where: inJoin, counted: joinsTotal, on: onStopped, provoke: func(s *stage) (told string) {
		c, _ := s.member("a", private())
		s.dismiss(func() { told = c.refusal(c.push("", "realtime:open", "phx_join", map[string]any{})) })
		return told
	}},
	{code: protocol.ServerDisconnect, where: inSystem, counted: socketsTotal, label: string(socket.Restarting), on: onStopped, provoke: func(s *stage) string {
		c, _ := s.member("open", nil)
		s.dismiss(nil)
		return c.told("open")
	}},
	{code: protocol.ServerDisconnect, where: inClose, counted: socketsTotal, label: string(socket.Restarting), on: onStopped, provoke: func(s *stage) string {
		c, _ := s.member("open", nil)
		s.dismiss(nil)
		return c.closedWith()
	}},
	{code: protocol.RealtimeRestarting, where: inClose, counted: socketsTotal, label: string(socket.Restarting), on: onStopped, provoke: func(s *stage) string {
		c := s.dial(token(s.t, "u1", "authenticated", nil))
		s.stop()
		return c.closedWith()
	}},
}

// refusedJoin has a member of room a join, and gives the reason why it may not.
func refusedJoin(topic string, payload map[string]any) func(*stage) string {
	return func(s *stage) string {
		c := s.dial(token(s.t, "u1", "authenticated", nil))
		return c.refusal(c.push("", "realtime:"+topic, "phx_join", payload))
	}
}

// lastOfJoins has so many channels joined at once, and gives the reason why the last may not.
func lastOfJoins(topics ...string) func(*stage) string {
	return func(s *stage) (reason string) {
		c, last := s.dial(token(s.t, "u1", "authenticated", nil)), ""
		for _, topic := range topics {
			last = c.push("", "realtime:"+topic, "phx_join", config(nil))
		}
		return c.refusal(last)
	}
}

// refusedPush sends on a public channel, and gives the reason why it is refused.
func refusedPush(event string, payload any) func(*stage) string {
	return func(s *stage) string {
		c, joinRef := s.member("open", map[string]any{"broadcast": map[string]any{"ack": true}})
		return c.refusal(c.push(joinRef, "realtime:open", event, payload))
	}
}

// refusedUnasked does so where no answer is asked for, and gives what the client is told.
func refusedUnasked(event string, payload any) func(*stage) string {
	return func(s *stage) string {
		c, joinRef := s.member("open", nil)
		c.push(joinRef, "realtime:open", event, payload)
		return c.told("open")
	}
}

// badToken provokes a code by a token, at both places.
func badToken(code protocol.Code, on server, bad func() string) []provocation {
	return []provocation{
		{code: code, where: inJoin, counted: joinsTotal, on: on, provoke: func(s *stage) string {
			c := s.dial(claiming(`,"sub":"u1","iss":"https://example.com"`))
			return c.refusal(c.push("", "realtime:open", "phx_join", map[string]any{"access_token": bad()}))
		}},
		{code: code, where: inSystem, counted: channelsTotal, on: on, provoke: func(s *stage) string {
			c := s.dial(claiming(`,"sub":"u1","iss":"https://example.com"`))
			joinRef, _, _ := c.join("open", nil)
			c.push(joinRef, "realtime:open", "access_token", map[string]any{"access_token": bad()})
			return c.told("open")
		}},
	}
}

// aboutToExpire is a token that is good for less than half a second, which is none when seconds are counted. It waits for
// the beginning of one.
func aboutToExpire() string {
	now := time.Now()
	begins := now.Truncate(time.Second).Add(time.Second)
	time.Sleep(begins.Sub(now))
	return signed(`{"alg":"HS256"}`, fmt.Sprintf(`{"role":"authenticated","exp":%d.49}`, begins.Unix()))
}
