package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"rowcast/server/auth"
	"rowcast/server/decisions"
	"rowcast/server/protocol"
)

const (
	// decideTime is less than the ten seconds after which the official client gives a request up, and more than the
	// decider tries.
	decideTime = 8 * time.Second
	// hearTime is how long a request waits for the database to be heard: as long as a broadcast does on a socket.
	hearTime = 5 * time.Second
	// maxPolicyHeaders is what policies may read of a request: as much as it may have.
	maxPolicyHeaders = 64 << 10
	// queryCanceled is Postgres' code for a policy that took too long.
	queryCanceled = "57014"
)

// denial says why a room is closed to the caller. The zero denial is none.
type denial struct {
	status int
	code   protocol.Code
	text   string // for the caller
	reason string // for the log
}

// answer is that to a request about one topic.
func (d denial) answer(topic string) answer {
	a := answer{status: d.status, body: message(d.text), code: d.code, sends: 1}
	if d.reason != "" {
		a.reason = topic + ": " + d.reason
	}
	return a
}

// denialOf is a denial in the usual words of its code.
func denialOf(status int, code protocol.Code, args ...any) denial {
	return denial{status: status, code: code, text: code.Text(args...)}
}

// privateOnly is the denial of every public room, where the operator wants so.
func privateOnly() denial { return denialOf(http.StatusForbidden, protocol.PrivateOnly) }

// question is what the policies are asked about the caller.
type question struct {
	presence bool
	allowed  func(auth.Answer) bool
	denied   protocol.Code
}

var (
	maySend = question{allowed: func(a auth.Answer) bool { return a.Broadcast.Send }, denied: protocol.SendDenied}
	maySee  = question{presence: true, allowed: func(a auth.Answer) bool { return a.Presence.Receive }, denied: protocol.Unauthorized}
)

// decide asks Postgres about private topics, all at once, and calls each for every one of them, as the answers come.
//
// The answer is of this moment: nothing is remembered, so that a right that was taken away is gone with the COMMIT.
func (s *REST) decide(c *call, q question, topics []string, each func(topic string, d denial)) {
	all := func(d denial) {
		for _, topic := range topics {
			each(topic, d)
		}
	}
	headers := policyHeaders(c.Request)
	if len(headers) > maxPolicyHeaders {
		all(denialOf(http.StatusRequestHeaderFieldsTooLarge, protocol.HeadersTooLarge, maxPolicyHeaders))
		return
	}
	if !c.caller.asks.take(len(topics)) {
		c.later()
		all(denialOf(http.StatusTooManyRequests, protocol.ServerBusy))
		return
	}
	defer c.caller.asks.give(len(topics))
	ctx, cancel := context.WithTimeout(c.Context(), decideTime)
	defer cancel()
	if !s.hears(ctx) {
		all(undecided(protocol.Deaf, "the database is not heard"))
		return
	}
	type decided struct {
		topic  string
		answer auth.Answer
	}
	answers := make(chan decided, len(topics)) // nobody who answers has to wait
	began := time.Now()
	open := make(map[string]bool, len(topics))
	for _, topic := range topics {
		open[topic] = true
		s.Decider.Ask(auth.Request{Topic: topic, Claims: c.claims, Headers: headers, Presence: q.presence, OverREST: true},
			func(a auth.Answer) { answers <- decided{topic, a} })
	}
	for len(open) > 0 {
		select {
		case d := <-answers:
			delete(open, d.topic)
			denial := q.denial(d.answer)
			s.record(c, d.topic, d.answer, denial, time.Since(began))
			each(d.topic, denial)
		case <-ctx.Done():
			why := "the database did not answer in time"
			if c.Context().Err() != nil { // the caller has gone, which is no trouble of ours
				why = ""
			}
			for topic := range open {
				each(topic, undecided(protocol.UnableToConnectToProject, why))
			}
			return
		}
	}
}

// record puts an answer into the decision log.
func (s *REST) record(c *call, topic string, a auth.Answer, d denial, took time.Duration) {
	reason := a.Reason
	if a.Err != nil {
		reason = a.Err.Error()
	}
	s.Decisions.Record(decisions.Entry{
		Event: decisions.Answered, Topic: topic, Subject: c.claims.Subject, Role: c.claims.Role,
		Broadcast: decisions.Right(a.Broadcast), Presence: decisions.Right(a.Presence),
		Code: string(d.code), SQLState: a.Code, Reason: reason, Generation: 1, Latency: took,
	})
}

// hears waits until the database is heard: what is said on private channels before that reaches nobody for sure.
func (s *REST) hears(ctx context.Context) bool {
	ctx, stop := context.WithTimeout(ctx, hearTime)
	defer stop()
	heard := make(chan struct{})
	cancel := s.WhenHearing(sync.OnceFunc(func() { close(heard) }))
	defer cancel()
	select {
	case <-heard:
		return true
	case <-ctx.Done():
		return false
	}
}

// denial tells a policy's plain no from one that failed, and both from a database that could not be asked.
func (q question) denial(a auth.Answer) denial {
	switch {
	case a.Err != nil:
		return undecided(protocol.UnableToConnectToProject, a.Err.Error())
	case q.allowed(a):
		return denial{}
	case a.Code == "":
		return denial{http.StatusForbidden, q.denied, protocol.TextRefused, ""}
	case a.Code == queryCanceled:
		return denial{http.StatusUnprocessableEntity, protocol.QueryCanceled, protocol.QueryCanceled.Text(), a.Reason}
	}
	return denial{http.StatusUnprocessableEntity, protocol.RLSPolicyError, protocol.RLSPolicyError.Text(), a.Reason + " (" + a.Code + ")"}
}

// undecided is no refusal of a right. It is no 5xx either: what stands between would try again by itself, and send twice
// what a batch has sent already.
func undecided(code protocol.Code, reason string) denial {
	return denial{http.StatusUnprocessableEntity, code, protocol.TextNoDatabase, reason}
}
