package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"rowcast/server/feed"
	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
)

// Right is what Postgres said about one extension of a topic.
type Right struct{ Receive, Send bool }

// Request asks what somebody may do on a topic.
type Request struct {
	Topic    string // without the wire's prefix
	Claims   Claims
	Headers  string    // request headers that policies may read, a JSON object
	Presence bool      // ask about presence too, not only broadcast
	Fenced   bool      // answer only when the feed has said all that the decision saw, unless nothing may be received any more
	OverREST bool      // for a request, of which one caller can make very many at a time
	Since    time.Time // when somebody began to wait for this; zero: now
}

// Answer is what the policies say. The zero rights are a refusal.
type Answer struct {
	Broadcast, Presence Right
	Snapshot            snapshot.Snapshot // what the decision saw at least
	Until               time.Time         // when it has to be made again, because of valid_until(); zero: never
	Code                string            // SQLSTATE, where it was not a policy's plain no
	Reason              string            // in Postgres' words; for operators, never for clients
	Err                 error             // Postgres could not be asked, or could not tell
}

const (
	// maxBatch is how many requests share a round trip. A round trip costs as much as twenty decisions under a simple policy;
	// more than this makes all wait for the slowest and gains little.
	maxBatch = 100
	// workers is how many batches of each kind are decided at a time: policies take CPU, and two fill a small machine. Those
	// over REST have one: beside joins, they get a third of the database's time.
	workers, restWorkers = 2, 1
	// patience is how long a join that meets database trouble is tried again. With the last try's own limits it stays below
	// the ten seconds after which a client gives it up.
	patience = 4 * time.Second
	// changePatience is the same for those who have been admitted: nothing is delivered to them meanwhile, and they lose
	// nothing by waiting.
	changePatience = 30 * time.Second
	// retryDelay spares a database that has just refused us.
	retryDelay = 200 * time.Millisecond
	// slowFor is how long a topic on which a batch timed out is kept out of the batches, and maxSlow how many such
	// topics are remembered.
	slowFor, maxSlow = 30 * time.Second, 1024
	// lockedFor is the same where a lock was waited for. That says little about the topic, and locks do not last: while one
	// does, whoever is asked alone meets it sooner than that, and prolongs it.
	lockedFor = 2 * time.Second
)

var decideLimits = postgres.Limits{Statement: 2 * time.Second, Lock: time.Second}

// DeciderOptions of a Decider.
type DeciderOptions struct {
	Pool        *postgres.Pool
	Feed        *feed.Feed
	Rights      Rights // nil: every verdict counts
	BypassRoles []string
	Logger      *slog.Logger
	Metrics     *metrics.Metrics
}

// Decider asks the policies. Requests that come while others are under way share the next round trip.
//
// People who join wait for an answer; rights asked about again may be everyone's at once; over REST, one caller asks as
// much as a thousand people who join. None of them waits for the others. And what met trouble is asked alone, where it
// spoils no others.
type Decider struct {
	options  DeciderOptions
	joins    lanes
	changes  lanes
	requests lanes // over REST

	mu   sync.Mutex           // guards slow
	slow map[string]time.Time // topics whose policies take too long, until when
}

// lanes are the queues of one kind of request: what shares round trips, and topics known to be slow, one at a time.
type lanes struct {
	workers     int // of each queue
	quick, slow lane
}

// ask is a request on its way.
type ask struct {
	Request
	done    func(Answer)
	single  bool  // met trouble in a batch: the next question is its own
	trouble error // the last that it met
}

func (a *ask) question() question {
	return question{a.Topic, a.Claims.Role, string(a.Claims.Raw), a.Headers, a.Presence}
}

// NewDecider prepares a decider; Run does the work.
func NewDecider(o DeciderOptions) *Decider {
	d := &Decider{options: o, slow: map[string]time.Time{}}
	d.joins.workers, d.changes.workers, d.requests.workers = workers, workers, restWorkers
	for _, l := range d.kinds() {
		l.quick.init()
		l.slow.init()
	}
	return d
}

// Ask has a request decided; done is called once, from another goroutine, and must not block. A fenced request whose
// fence the feed lost is not answered: the feed goes deaf then, and asks all again.
func (d *Decider) Ask(r Request, done func(Answer)) {
	if strings.ContainsRune(r.Topic, 0) { // Postgres has no such text, and would refuse the whole batch for it
		done(Answer{Code: "22021", Reason: "the topic holds a NUL character"})
		return
	}
	if r.Since.IsZero() {
		r.Since = time.Now()
	}
	d.put(&ask{Request: r, done: done})
}

func (d *Decider) put(a *ask) { d.lane(a).put(a) }

// putBack has requests asked again that were not answered, through no fault of theirs: before all who came later, or those
// who come all the time would keep them from ever being answered.
func (d *Decider) putBack(asks []*ask) {
	for _, a := range slices.Backward(asks) {
		d.lane(a).putFirst(a)
	}
}

func (d *Decider) lane(a *ask) *lane {
	if d.isSlow(a.Topic) {
		return &d.of(a).slow
	}
	return &d.of(a).quick
}

func (d *Decider) of(a *ask) *lanes {
	switch {
	case a.Fenced:
		return &d.changes
	case a.OverREST:
		return &d.requests
	}
	return &d.joins
}

func (d *Decider) kinds() []*lanes { return []*lanes{&d.joins, &d.changes, &d.requests} }

func (d *Decider) isSlow(topic string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.slow[topic])
}

func (d *Decider) setSlow(topic, code string) {
	until := time.Now().Add(slowFor)
	if code == lockTimedOut {
		until = time.Now().Add(lockedFor)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if until.Before(d.slow[topic]) {
		return
	}
	if len(d.slow) >= maxSlow {
		clear(d.slow)
	}
	d.slow[topic] = until
}

// Run decides until ctx ends.
func (d *Decider) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		for _, l := range d.kinds() {
			l.quick.close()
			l.slow.close()
		}
	})
	defer stop()
	var group sync.WaitGroup
	for _, l := range d.kinds() {
		for range l.workers {
			group.Go(func() { d.work(ctx, &l.quick, maxBatch) })
			group.Go(func() { d.work(ctx, &l.slow, 1) })
		}
	}
	group.Wait()
}

// work decides what is in a lane.
func (d *Decider) work(ctx context.Context, l *lane, max int) {
	for batch := l.take(max); batch != nil; batch = l.take(max) {
		if batch = d.sift(l, batch); len(batch) > 0 {
			d.decide(ctx, batch)
		}
	}
}

// sift leaves what is to be asked by this lane. What has waited too long, behind slow policies, is given up unasked; what has
// turned out to be slow meanwhile, or not to be, goes to its own lane.
func (d *Decider) sift(l *lane, batch []*ask) []*ask {
	return slices.DeleteFunc(batch, func(a *ask) bool {
		if a.late() {
			d.answer(a, Answer{Err: cmp.Or(a.trouble, errLate)})
			return true
		}
		due := d.lane(a)
		if due != l {
			due.put(a)
		}
		return due != l
	})
}

// decide asks one batch and answers it.
func (d *Decider) decide(ctx context.Context, batch []*ask) {
	// A change of role costs Postgres a new plan for each probe.
	slices.SortStableFunc(batch, func(a, b *ask) int { return strings.Compare(a.Claims.Role, b.Claims.Role) })
	questions, which := distinct(batch)
	var fence *feed.Fence
	if slices.ContainsFunc(batch, func(a *ask) bool { return a.Fenced }) {
		fence = d.options.Feed.NewFence()
	}
	start := time.Now()
	answers, err := d.ask(ctx, questions, fence)
	if !errors.Is(err, errVoid) {
		d.options.Metrics.DecisionSeconds.Observe(time.Since(start).Seconds())
		d.options.Metrics.DecisionBatch.Observe(float64(len(batch)))
	}
	for i, a := range batch { // also where the answers do not count: it would take as long again
		if answer := answers[which[i]]; answer != nil && endsBatch(answer.Code) {
			d.setSlow(a.Topic, answer.Code)
		}
	}
	if err != nil {
		if fence != nil {
			fence.Drop()
		}
		d.afterTrouble(ctx, batch, err)
		return
	}
	var fenced []func()
	var unasked []*ask
	for i, a := range batch {
		answer := answers[which[i]]
		// The batch ended before it; or with it, which does not say by whose policies the time was used up.
		if answer == nil || answer.Code == timedOut && len(questions) > 1 {
			unasked = append(unasked, a)
			continue
		}
		switch {
		case saysNothing(answer.Code), answer.Code == timedOut && time.Since(start) < decideLimits.Statement:
			a.single = true
			d.again(ctx, a, answer.trouble())
		case a.Fenced && answer.Code == timedOut: // the client may join again; that is then refused
			d.answer(a, Answer{Err: answer.trouble()})
		case a.Fenced && answer.allows():
			fenced = append(fenced, func() { d.answer(a, *answer) })
		default:
			d.answer(a, *answer)
		}
	}
	d.putBack(unasked)
	if fence == nil {
		return
	}
	fence.Then(func(reached bool) {
		for _, answer := range fenced {
			if reached {
				answer()
			}
		}
	})
}

// allows tells whether there is anything to receive. Who has lost that need not be told what came before: in a stream that is
// behind, it would take as long.
func (a *Answer) allows() bool { return a.Broadcast.Receive || a.Presence.Receive }

// trouble is an answer that says nothing about rights.
func (a *Answer) trouble() error { return fmt.Errorf("%s (%s)", a.Reason, a.Code) }

// errLate: the requests before it took all of its time.
var errLate = errors.New("not asked in time: the policies of other topics take too long")

// late tells whether a request is not to be asked any more.
func (a *ask) late() bool {
	if a.Fenced {
		return time.Since(a.Since) > changePatience
	}
	return time.Since(a.Since) > patience
}

// again has a request decided after a while that met trouble, or gives it up.
func (d *Decider) again(ctx context.Context, a *ask, err error) {
	if a.late() || ctx.Err() != nil {
		d.answer(a, Answer{Err: err})
		return
	}
	d.options.Logger.Debug("decision not made; trying again", "err", err)
	a.trouble = err
	time.AfterFunc(retryDelay, func() { d.put(a) })
}

func (d *Decider) answer(a *ask, answer Answer) {
	verdict := "denied"
	switch {
	case answer.Err != nil || answer.Code != "":
		verdict = "error"
	case answer.allows():
		verdict = "allowed"
	}
	d.options.Metrics.Decisions.WithLabelValues(verdict).Inc()
	a.done(answer)
}
