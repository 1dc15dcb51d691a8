// Package decisions keeps the decision log: who was let in where, with what rights, until when, and why not. It is for
// operators; clients are told by package channel.
//
// Nobody waits for it. Entries wait in a bounded queue; those that find it full, or that the database does not take, are
// counted, and the log says how many it lacks.
package decisions

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/postgres"
)

// Event says what happened.
type Event string

const (
	Admitted  Event = "admitted"  // a join was allowed
	Refused   Event = "refused"   // a join was not
	Changed   Event = "changed"   // the rights of an open channel
	Confirmed Event = "confirmed" // nothing changed; said now and then, so that the log holds those who stay for long
	Ended     Event = "ended"     // a channel that had been admitted
	Answered  Event = "answered"  // a request over REST
	lost      Event = "lost"      // entries that the log lacks
)

// Right is what one extension allows.
type Right struct{ Receive, Send bool }

// Entry is one row of the log.
type Entry struct {
	number              int64     // of all entries of this server
	At                  time.Time // zero: now
	Subscription        int64     // 0 over REST
	Event               Event
	Topic               string
	Subject, Role       string
	Broadcast, Presence Right  // from here on
	Code                string // what the client was told, where it was refused or ended
	SQLState, Reason    string // in Postgres' words
	Generation          int64  // how many times this subscription was asked about
	Latency             time.Duration
}

const (
	// maxQueue is what a second of joins at full speed leaves, some 10 MB at most.
	maxQueue = 20_000
	// maxPage is how many entries share a round trip.
	maxPage = 500
	// every is how long an entry waits for others.
	every = 250 * time.Millisecond
	// maxReason and maxSubject bound what others chose the length of, in characters.
	maxReason, maxSubject = 300, 256
	// lastWords is how long the database is given for what is left when the server stops.
	lastWords = 3 * time.Second
	// confirmAfter has those who stay said again well within the shortest retention there should be, a day.
	confirmAfter = 12 * time.Hour
)

var writeLimits = postgres.Limits{Statement: 5 * time.Second, Lock: 2 * time.Second}

// Options of a Recorder.
type Options struct {
	Log, SQL bool // where entries go
	Pool     *postgres.Pool
	Node     string
	Logger   *slog.Logger
	Metrics  *metrics.Metrics
}

// Recorder takes entries. A nil Recorder takes none.
type Recorder struct {
	options       Options
	subscriptions atomic.Int64  // begun so far
	wake          chan struct{} // holds one when there is a page
	troubled      bool          // the last try to write failed; Run's own

	mu      sync.Mutex // guards all below
	entries int64      // numbered so far
	queue   []Entry    // those being written come first
	lost    int64      // entries that found no place, since the log said so last
}

// New makes a recorder; nil if there is nowhere to record to.
func New(o Options) *Recorder {
	if !o.Log && !o.SQL {
		return nil
	}
	return &Recorder{options: o, wake: make(chan struct{}, 1)}
}

// Record takes an entry without waiting.
func (r *Recorder) Record(e Entry) {
	if r == nil {
		return
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.Topic, e.Subject = text(e.Topic, maxSubject), text(e.Subject, maxSubject)
	e.Role, e.Reason = text(e.Role, maxSubject), text(e.Reason, maxReason)
	r.mu.Lock()
	full := len(r.queue) >= maxQueue
	if full {
		r.lost++
		r.entries++
	} else {
		r.append(e)
	}
	page := len(r.queue) >= maxPage
	r.mu.Unlock()
	if full {
		r.options.Metrics.DecisionsLost.Inc()
	}
	if page {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// text is what Postgres can store, of bounded length.
func text(s string, max int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�")
	if len(s) <= max {
		return s
	}
	n := 0
	for i := range s {
		if n++; n > max {
			return s[:i]
		}
	}
	return s
}

// append numbers an entry; called under r.mu.
func (r *Recorder) append(e Entry) {
	r.entries++
	e.number = r.entries
	r.queue = append(r.queue, e)
}

// first gives the next entries, which stay in the queue until they are dropped.
func (r *Recorder) first() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost > 0 && len(r.queue) < maxQueue {
		r.append(Entry{At: time.Now(), Event: lost, Reason: fmt.Sprintf("%d entries", r.lost)})
		r.lost = 0
	}
	return r.queue[:min(len(r.queue), maxPage)]
}

// drop takes the first entries off the queue.
func (r *Recorder) drop(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil // else the array is kept for ever
	}
}

// Tenure is the recorded life of one subscription. A nil Tenure records nothing.
type Tenure struct {
	recorder *Recorder

	mu    sync.Mutex // guards all below
	last  Entry      // as recorded
	asked time.Time  // when the last question was put
	next  Entry      // who it was about, and what the answer said beside rights
}

// Begin starts the record of a subscription of somebody; nil where nothing is recorded.
func (r *Recorder) Begin(topic, subject, role string) *Tenure {
	if r == nil {
		return nil
	}
	return &Tenure{
		recorder: r, last: Entry{Topic: topic, Subscription: r.subscriptions.Add(1)},
		next: Entry{Subject: subject, Role: role}, // it may be refused before anybody is asked
	}
}

// Asked notes that the policies are asked about somebody.
func (t *Tenure) Asked(subject, role string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next.Subject, t.next.Role, t.asked = subject, role, time.Now()
	t.next.Generation++
}

// Answered notes what the answer said beside the rights.
func (t *Tenure) Answered(sqlstate, reason string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next.SQLState, t.next.Reason, t.next.Latency = sqlstate, reason, time.Since(t.asked)
}

// Decided records rights that are new, or were not said for long.
func (t *Tenure) Decided(broadcast, presence Right) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	event := Changed
	switch same := t.last.Broadcast == broadcast && t.last.Presence == presence && t.last.Subject == t.next.Subject && t.last.Role == t.next.Role; {
	case t.last.Event == "":
		event = Admitted
	case same && time.Since(t.last.At) < confirmAfter:
		return
	case same:
		event = Confirmed
	}
	t.next.Broadcast, t.next.Presence = broadcast, presence
	t.record(event, "")
}

// Ended records the end; code is what the client was told, empty if it went by itself.
func (t *Tenure) Ended(code string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next.Broadcast, t.next.Presence = Right{}, Right{}
	switch {
	case t.last.Event != "":
		t.record(Ended, code)
	case code != "":
		t.record(Refused, code)
	}
}

// record is called under t.mu.
func (t *Tenure) record(event Event, code string) {
	e := t.next
	e.At, e.Event, e.Code = time.Now(), event, code
	e.Topic, e.Subscription = t.last.Topic, t.last.Subscription
	t.last = e
	t.recorder.Record(e)
}
