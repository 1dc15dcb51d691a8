package decisions

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// Run writes entries until ctx ends, and then those that are left.
func (r *Recorder) Run(ctx context.Context) {
	if r == nil {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-tick.C:
		}
		r.flush(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	r.flush(ctx)
}

// flush writes all there is, page by page.
func (r *Recorder) flush(ctx context.Context) {
	for page := r.first(); len(page) > 0; page = r.first() {
		if r.options.SQL {
			if err := r.write(ctx, page); err != nil && (ctx.Err() != nil || !r.refused(page, err)) {
				return // until the database is there again
			}
		}
		if r.options.Log {
			for _, e := range page {
				r.line(e)
			}
		}
		r.drop(len(page))
	}
}

// refused tells whether the database will never take a page, and counts it then.
func (r *Recorder) refused(page []Entry, err error) bool {
	if state := postgres.SQLState(err); state == "" || len(state) == 5 && slices.Contains(passing, state[:2]) {
		if !r.troubled {
			r.options.Logger.Warn("decision log waits for the database", "err", err, "waiting", len(page))
		}
		r.troubled = true
		return false
	}
	r.options.Logger.Error("decision log entries refused", "err", err, "entries", len(page))
	r.options.Metrics.DecisionsLost.Add(float64(len(page)))
	return true
}

// passing are the classes of SQLSTATE that say nothing about what was asked: connections, transactions, resources,
// operators, locks.
var passing = []string{"08", "25", "40", "53", "55", "57"}

// line is an entry as a log line.
func (r *Recorder) line(e Entry) {
	r.options.Logger.Info("decision", "event", e.Event, "at", e.At.UTC(), "subscription", e.Subscription, "topic", e.Topic, "sub", e.Subject, "role", e.Role,
		"receive", e.Broadcast.Receive, "send", e.Broadcast.Send, "presence_receive", e.Presence.Receive, "presence_send", e.Presence.Send,
		"code", e.Code, "sqlstate", e.SQLState, "detail", e.Reason, "generation", e.Generation, "latency_ms", e.Latency.Milliseconds())
}

// write puts a page into the table.
func (r *Recorder) write(ctx context.Context, page []Entry) error {
	var c columns
	for _, e := range page {
		c.add(e)
	}
	err := postgres.ShortFresh(ctx, r.options.Pool, writeLimits,
		func(b *pgx.Batch) {
			b.Queue(sql.RecordDecisions, r.options.Node, c.number, c.at, c.subscription, c.event, c.topic, c.subject, c.role,
				c.receive, c.send, c.presenceReceive, c.presenceSend, c.code, c.sqlstate, c.reason, c.generation, c.latency)
		},
		func(results pgx.BatchResults) error {
			_, err := results.Exec()
			return err
		})
	if err == nil {
		r.troubled = false
	}
	return err
}

// columns are entries as Postgres takes many at a time.
type columns struct {
	at                                           []time.Time
	number, subscription, generation             []int64
	event, topic, subject, role                  []string
	receive, send, presenceReceive, presenceSend []bool
	code, sqlstate, reason                       []string
	latency                                      []time.Duration
}

func (c *columns) add(e Entry) {
	c.number = append(c.number, e.number)
	c.at = append(c.at, e.At)
	c.subscription = append(c.subscription, e.Subscription)
	c.event = append(c.event, string(e.Event))
	c.topic = append(c.topic, e.Topic)
	c.subject = append(c.subject, e.Subject)
	c.role = append(c.role, e.Role)
	c.receive = append(c.receive, e.Broadcast.Receive)
	c.send = append(c.send, e.Broadcast.Send)
	c.presenceReceive = append(c.presenceReceive, e.Presence.Receive)
	c.presenceSend = append(c.presenceSend, e.Presence.Send)
	c.code = append(c.code, e.Code)
	c.sqlstate = append(c.sqlstate, e.SQLState)
	c.reason = append(c.reason, e.Reason)
	c.generation = append(c.generation, e.Generation)
	c.latency = append(c.latency, e.Latency)
}
