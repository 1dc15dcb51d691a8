package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"rowcast/server/protocol"
)

const (
	inREST    = protocol.InREST
	restTotal = "realtime_rest_refused_total"
)

// restAnswer is what a request over REST got.
type restAnswer struct {
	status int
	body   string
	header http.Header
}

// rest sends a request and reads the answer. more are header lines, "Name: value".
func (r *running) rest(method, path, tok, body string, more ...string) restAnswer {
	r.t.Helper()
	return restTo(r, r.public.Addr().String(), method, path, tok, body, more...)
}

func restTo(r *running, address, method, path, tok, body string, more ...string) restAnswer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if tok != "" {
		request.Header.Set("Authorization", "Bearer "+tok)
	}
	for _, line := range more {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return restAnswer{response.StatusCode, string(text), response.Header}
}

// told is what the answer says, as the table of codes has it.
func (a restAnswer) told() string {
	var said struct {
		Message, Error string
		Errors         map[string]json.RawMessage
	}
	_ = json.Unmarshal([]byte(a.body), &said)
	text := said.Message + said.Error
	for field, reasons := range said.Errors {
		var each []map[string][]string
		var whole []string
		if field == "messages" && json.Unmarshal(reasons, &each) == nil {
			for _, message := range each {
				for _, reason := range message {
					text = reason[0]
				}
			}
		} else if json.Unmarshal(reasons, &whole) == nil {
			text = whole[0]
		}
	}
	return a.header.Get("X-Error-Code") + ": " + text
}

// batchOf is the body of a batch with one message for each topic.
func batchOf(isPrivate bool, topics ...string) string {
	messages := make([]map[string]any, len(topics))
	for i, topic := range topics {
		messages[i] = map[string]any{"topic": topic, "event": "e", "payload": map[string]any{}, "private": isPrivate}
	}
	body, _ := json.Marshal(map[string]any{"messages": messages})
	return string(body)
}

// refusedREST sends a request as u1 and gives what the answer says.
func refusedREST(method, path, body string, more ...string) func(*stage) string {
	return func(s *stage) string {
		return s.rest(method, path, token(s.t, "u1", "authenticated", nil), body, more...).told()
	}
}

const (
	batchPath  = "/realtime/v1/api/broadcast"
	openPath   = "/api/broadcast/open/events/e"
	lockedPath = "/api/broadcast/a/events/e?private=true"
)

// refusedToken sends a request with a token that is refused.
func refusedToken(code protocol.Code, on server, tok func() string) provocation {
	return provocation{code: code, where: inREST, counted: restTotal, on: on, provoke: func(s *stage) string {
		return s.rest("POST", openPath, tok(), "{}").told()
	}}
}

// restProvocations are what requests over REST are refused for.
var restProvocations = []provocation{
	refusedToken(protocol.MissingAPIKey, onPlain, func() string { return "" }),
	refusedToken(protocol.InvalidJWTToken, onPlain, func() string { return signed(`{"alg":"HS256"}`, `{"role":"authenticated","exp":1}`) }),
	refusedToken(protocol.MalformedJWT, onPlain, func() string { return "none" }),
	refusedToken(protocol.JwtSignatureError, onPlain, func() string { return claiming("") + "x" }),
	refusedToken(protocol.JwtSignerError, onPlain, func() string { return signed(`{"alg":"RS256"}`, `{}`) }),
	refusedToken(protocol.JwtKeysMissing, onKeyless, func() string { return signed(`{"alg":"RS256","kid":"k1"}`, `{}`) }),
	refusedToken(protocol.RoleNotAllowed, onPlain, func() string { return signed(`{"alg":"HS256"}`, `{"role":"postgres","exp":4000000000}`) }),

	{code: protocol.PrivateOnly, where: inREST, counted: restTotal, on: onPrivate, provoke: refusedREST("POST", openPath, "{}")},
	{code: protocol.OriginNotAllowed, where: inREST, counted: restTotal, on: onPrivate,
		provoke: refusedREST("POST", openPath, "{}", "Origin: https://evil.example.com")},
	{code: protocol.MethodNotAllowed, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("PUT", openPath, "{}")},
	{code: protocol.NotSupported, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("POST", lockedPath+"&persist=true", "{}")},
	{code: protocol.UnsupportedMediaType, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", openPath, "{}", "Content-Type: text/plain")},
	{code: protocol.MalformedBody, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("POST", openPath, "{")},
	{code: protocol.BodyTooLarge, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", openPath, strings.Repeat("x", 1_000_001))},
	{code: protocol.HeadersTooLarge, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", lockedPath, "{}", "X-Grows: "+strings.Repeat(`"`, 40<<10))},
	{code: protocol.PayloadSizeExceeded, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", batchPath, `{"messages":[{"topic":"t","event":"e","payload":"`+strings.Repeat("x", 100_000)+`"}]}`)},
	{code: protocol.InvalidBroadcast, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("POST", batchPath, "{}")},
	{code: protocol.InvalidBroadcast, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("POST", openPath+"?private=1", "{}")},
	{code: protocol.InvalidBroadcast, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", batchPath, `{"messages":[{"topic":"t","event":"e","payload":`+strings.Repeat("[", 600)+strings.Repeat("]", 600)+`}]}`)},
	{code: protocol.InvalidBroadcast, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", "/api/broadcast/"+strings.Repeat("t", 247)+"/events/e", "{}")},
	{code: protocol.InvalidBroadcast, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", "/api/broadcast/t/events/"+strings.Repeat("e", 256), "{}")},
	{code: protocol.InvalidBroadcast, where: inREST, counted: restTotal, on: onPlain,
		provoke: refusedREST("POST", batchPath, `{"messages":[{"topic":"t","event":"e","payload":1,"id":"`+strings.Repeat("i", 256)+`"}]}`)},
	{code: protocol.SendDenied, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("POST", "/api/broadcast/b/events/e?private=true", "{}")},
	{code: protocol.SendDenied, where: inREST, counted: restTotal, on: onPlain, provoke: refusedREST("POST", batchPath, batchOf(true, "a", "b"))},
	{code: protocol.MessagePerSecondRateLimitReached, where: inREST, counted: restTotal, on: onStrict, provoke: func(s *stage) string {
		s.rest("POST", openPath, token(s.t, "often", "authenticated", nil), "{}")
		return s.rest("POST", openPath, token(s.t, "often", "authenticated", nil), "{}").told()
	}},
	{code: protocol.MessagePerSecondRateLimitReached, where: inREST, counted: restTotal, on: onStrict,
		provoke: refusedREST("POST", batchPath, batchOf(false, "open", "open"))},
	{code: protocol.RealtimeRestarting, where: inREST, counted: restTotal, on: onStopped, provoke: func(s *stage) string {
		if err := s.sockets.Suspend(s.t.Context(), *refusedWaiting, nil, 0); err != nil {
			s.t.Fatal(err)
		}
		defer s.sockets.Resume()
		return refusedREST("POST", openPath, "{}")(s)
	}},
	{code: protocol.BodyTooSlow, where: inREST, counted: restTotal, on: onPlain, provoke: func(s *stage) string {
		server := s.publicServer()
		server.ReadTimeout = 300 * time.Millisecond
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.Serve(listener) }()
		defer func() { server.Close(); <-ended }()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			s.t.Fatal(err)
		}
		defer conn.Close()
		c := newRaw(s.t, conn)
		c.write([]byte(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nApikey: %s\r\n\r\n{", openPath, token(s.t, "u1", "authenticated", nil))))
		got := c.response()
		body, _ := io.ReadAll(got.Body)
		return restAnswer{got.StatusCode, string(body), got.Header}.told()
	}},
}

// restTroubleProvocations are what is said where the policies do not answer, or badly.
var restTroubleProvocations = []provocation{
	{code: protocol.Deaf, where: inREST, counted: restTotal, on: onDeaf, provoke: func(s *stage) string {
		s.begin()
		defer s.end()
		return refusedREST("POST", lockedPath, "{}")(s)
	}},
	{code: protocol.UnableToConnectToProject, where: inREST, counted: restTotal, on: onBatches, provoke: func(s *stage) string {
		defer s.holdDecisions()()
		return refusedREST("POST", lockedPath, "{}")(s)
	}},
	{code: protocol.ServerBusy, where: inREST, counted: restTotal, on: onBatches, provoke: func(s *stage) string {
		release := s.holdDecisions()
		topics := make([]string, 800) // a caller has room for one such batch
		for i := range topics {
			topics[i] = fmt.Sprint("topic ", i)
		}
		answers := make(chan restAnswer, 2)
		for range 2 {
			go func() {
				answers <- s.rest("POST", batchPath, token(s.t, "many", "authenticated", nil), batchOf(true, topics...))
			}()
		}
		busy := <-answers
		release()
		<-answers
		var told struct {
			Results []struct{ Code, Message string }
		}
		if json.Unmarshal([]byte(busy.body), &told) != nil || len(told.Results) != len(topics) || busy.status != http.StatusTooManyRequests {
			return busy.told()
		}
		return told.Results[0].Code + ": " + told.Results[0].Message
	}},
	{code: protocol.RLSPolicyError, where: inREST, counted: restTotal, on: onBatches, provoke: func(s *stage) string {
		s.exec(`create policy raises on realtime.messages as restrictive for insert with check (1 / (length(realtime.topic()) - 1) = 0)`)
		defer s.exec(`drop policy raises on realtime.messages`)
		return refusedREST("POST", lockedPath, "{}")(s)
	}},
	{code: protocol.QueryCanceled, where: inREST, counted: restTotal, on: onBatches, provoke: func(s *stage) string {
		s.exec(`create policy slow on realtime.messages as restrictive for insert with check (pg_sleep(10) is not null)`)
		defer s.exec(`drop policy slow on realtime.messages`)
		return refusedREST("POST", lockedPath, "{}")(s)
	}},
}
