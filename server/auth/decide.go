package auth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/server/feed"
	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// Right is what Postgres said about one extension of a topic.
type Right struct{ Receive, Send bool }

// Request asks what somebody may do on a topic.
type Request struct {
	Topic    string // without the wire's prefix
	Claims   Claims
	Headers  string // request headers that policies may read, a JSON object
	Presence bool   // ask about presence too, not only broadcast
	Fenced   bool   // answer only when the feed has said all that the decision saw
}

// Answer is what the policies say. The zero rights are a refusal.
type Answer struct {
	Broadcast, Presence Right
	Snapshot            snapshot.Snapshot // what the decision saw at least
	Code                string            // SQLSTATE, where it was not a policy's plain no
	Reason              string            // in Postgres' words; for operators, never for clients
	Err                 error             // Postgres could not be asked
}

const (
	// maxBatch is how many requests share a round trip; more makes all wait for the slowest and gains little.
	maxBatch = 50
	// workers is how many batches of each kind are decided at a time: policies take CPU, and two fill a small machine.
	workers = 2
	// patience is how long a request that meets database trouble is tried again. With the last try's own limits it stays
	// below the ten seconds after which a client gives a join up.
	patience = 4 * time.Second
	// retryDelay spares a database that has just refused us.
	retryDelay = 200 * time.Millisecond
)

var decideLimits = postgres.Limits{Statement: 2 * time.Second, Lock: time.Second}

// DeciderOptions of a Decider.
type DeciderOptions struct {
	Pool        *pgxpool.Pool
	Feed        *feed.Feed
	BypassRoles []string
	Logger      *slog.Logger
	Metrics     *metrics.Metrics
}

// Decider asks the policies. Requests that come while others are under way share the next round trip.
type Decider struct {
	options DeciderOptions
	joins   lane // people who wait for an answer
	changes lane // rights to be asked about again, perhaps of everyone at once: joins must not wait behind them
	alone   lane // requests that met trouble and must not spoil others again
}

// ask is a request on its way.
type ask struct {
	Request
	done  func(Answer)
	since time.Time
}

// NewDecider prepares a decider; Run does the work.
func NewDecider(o DeciderOptions) *Decider {
	d := &Decider{options: o}
	d.joins.init()
	d.changes.init()
	d.alone.init()
	return d
}

// Ask has a request decided; done is called once, from another goroutine, and must not block. A fenced request whose
// fence the feed lost is not answered: the feed goes deaf then, and asks all again.
func (d *Decider) Ask(r Request, done func(Answer)) {
	if strings.ContainsRune(r.Topic, 0) { // Postgres has no such text, and would refuse the whole batch for it
		done(Answer{Code: "22021", Reason: "the topic holds a NUL character"})
		return
	}
	l := &d.joins
	if r.Fenced {
		l = &d.changes
	}
	l.put(&ask{r, done, time.Now()})
}

// Run decides until ctx ends.
func (d *Decider) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		d.joins.close()
		d.changes.close()
		d.alone.close()
	})
	defer stop()
	var group sync.WaitGroup
	run := func(l *lane, max int) {
		for batch := l.take(max); batch != nil; batch = l.take(max) {
			d.decide(ctx, batch)
		}
	}
	for range workers {
		group.Go(func() { run(&d.joins, maxBatch) })
		group.Go(func() { run(&d.changes, maxBatch) })
	}
	group.Go(func() { run(&d.alone, 1) })
	group.Wait()
}

// decide asks one batch and answers it.
func (d *Decider) decide(ctx context.Context, batch []*ask) {
	// A change of role costs Postgres a new plan for both probes.
	slices.SortStableFunc(batch, func(a, b *ask) int { return strings.Compare(a.Claims.Role, b.Claims.Role) })
	var fence *feed.Fence
	if slices.ContainsFunc(batch, func(a *ask) bool { return a.Fenced }) {
		fence = d.options.Feed.NewFence()
	}
	start := time.Now()
	answers, err := d.question(ctx, batch, fence)
	d.options.Metrics.DecisionSeconds.Observe(time.Since(start).Seconds())
	d.options.Metrics.DecisionBatch.Observe(float64(len(batch)))
	if err != nil {
		if fence != nil {
			fence.Drop()
		}
		for _, a := range batch {
			d.again(ctx, a, err)
		}
		return
	}
	var fenced []func()
	for i, a := range batch {
		switch answer := answers[i]; {
		case answer == nil:
			d.again(ctx, a, errUnasked)
		case a.Fenced:
			fenced = append(fenced, func() { d.answer(a, *answer) })
		default:
			d.answer(a, *answer)
		}
	}
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

// errUnasked: an earlier request of the batch timed out, and the batch ended there.
var errUnasked = errors.New("not asked: a policy before it timed out")

// again has a request decided alone, or gives it up.
func (d *Decider) again(ctx context.Context, a *ask, err error) {
	if time.Since(a.since) > patience || ctx.Err() != nil {
		d.answer(a, Answer{Err: err})
		return
	}
	if errors.Is(err, errUnasked) {
		d.alone.put(a)
		return
	}
	d.options.Logger.Debug("decision not made; trying again", "err", err)
	time.AfterFunc(retryDelay, func() { d.alone.put(a) })
}

func (d *Decider) answer(a *ask, answer Answer) {
	verdict := "denied"
	switch {
	case answer.Err != nil || answer.Code != "":
		verdict = "error"
	case answer.Broadcast.Receive || answer.Presence.Receive:
		verdict = "allowed"
	}
	d.options.Metrics.Decisions.WithLabelValues(verdict).Inc()
	a.done(answer)
}

// question is one round trip: limits, the decisions, and the fence that is queued behind them.
func (d *Decider) question(ctx context.Context, batch []*ask, fence *feed.Fence) ([]*Answer, error) {
	var topics, extensions, roles, claims, headers []string
	var owner []int // of each array position: its place in the batch
	for i, a := range batch {
		for _, extension := range a.extensions() {
			owner = append(owner, i)
			topics = append(topics, a.Topic)
			extensions = append(extensions, extension)
			roles = append(roles, a.Claims.Role)
			claims = append(claims, string(a.Claims.Raw))
			headers = append(headers, a.Headers)
		}
	}
	answers := make([]*Answer, len(batch))
	err := postgres.Short(ctx, d.options.Pool, decideLimits, fence != nil,
		func(b *pgx.Batch) {
			b.Queue(sql.Decide, topics, extensions, roles, claims, headers, d.options.BypassRoles)
			if fence != nil {
				b.Queue(sql.Heartbeat, fence.Payload())
			}
		},
		func(results pgx.BatchResults) error {
			rows, err := results.Query()
			if err != nil {
				return err
			}
			defer rows.Close()
			got := 0
			for ; rows.Next(); got++ {
				if err := read(rows, answers, owner, extensions); err != nil {
					return err
				}
			}
			if err := rows.Err(); err != nil {
				return err
			}
			// A request of which one extension was not asked is not answered.
			for _, i := range owner[got:] {
				if answers[i] != nil && answers[i].Code != timedOut {
					answers[i] = nil
				}
			}
			if fence != nil {
				_, err = results.Exec()
			}
			return err
		})
	return answers, err
}

// timedOut is query_canceled.
const timedOut = "57014"

func (a *ask) extensions() []string {
	if a.Presence {
		return []string{"broadcast", "presence"}
	}
	return []string{"broadcast"}
}

// read takes one row into the answer it belongs to.
func read(rows pgx.Rows, answers []*Answer, owner []int, extensions []string) error {
	var request int
	var receive, send *bool
	var code, reason *string
	var seen string
	if err := rows.Scan(&request, &receive, &send, &code, &reason, &seen); err != nil {
		return err
	}
	i := owner[request-1]
	if answers[i] == nil {
		snap, err := snapshot.Parse(seen)
		if err != nil {
			return err
		}
		answers[i] = &Answer{Snapshot: snap}
	}
	answer := answers[i]
	right := &answer.Broadcast
	if extensions[request-1] == "presence" {
		right = &answer.Presence
	}
	right.Receive, right.Send = receive != nil && *receive, send != nil && *send
	if reason != nil {
		answer.Reason = strings.TrimPrefix(answer.Reason+"; "+extensions[request-1]+": "+*reason, "; ")
	}
	if code != nil {
		answer.Code = *code
	}
	if answer.Code == timedOut { // half an answer is none
		answer.Broadcast, answer.Presence = Right{}, Right{}
	}
	return nil
}
