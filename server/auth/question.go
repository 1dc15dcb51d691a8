package auth

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/feed"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// maxUntil is after how long at most an answer with an end is asked for again: clocks drift apart.
const maxUntil = 24 * time.Hour

// question is what Postgres is asked. Who asks the same in a batch is given one answer: those of an anonymous role, or
// somebody's windows.
type question struct {
	topic, role, claims, headers string
	presence                     bool
}

// distinct gives the questions of a batch, and which of them each request asks.
func distinct(batch []*ask) (questions []question, which []int) {
	known := make(map[question]int, len(batch))
	for _, a := range batch {
		q := a.question()
		i, asked := known[q]
		if !asked {
			i = len(questions)
			known[q] = i
			questions = append(questions, q)
		}
		which = append(which, i)
	}
	return questions, which
}

// ask is one round trip: limits, the decisions, and the fence that is queued behind them.
func (d *Decider) ask(ctx context.Context, questions []question, fence *feed.Fence) ([]*Answer, error) {
	n := 2 * len(questions)
	topics, extensions, roles := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
	claims, headers := make([]string, 0, n), make([]string, 0, n)
	owner := make([]int, 0, n) // of each array position: its question
	for i, q := range questions {
		for _, extension := range q.extensions() {
			owner = append(owner, i)
			topics = append(topics, q.topic)
			extensions = append(extensions, extension)
			roles = append(roles, q.role)
			claims = append(claims, q.claims)
			headers = append(headers, q.headers)
		}
	}
	answers := make([]*Answer, len(questions))
	var seen snapshot.Snapshot
	err := d.transact(ctx, fence != nil, &seen,
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
				if err := read(rows, &seen, answers, owner, extensions); err != nil {
					return err
				}
			}
			if err := rows.Err(); err != nil {
				return err
			}
			// A request of which one extension was not asked is not answered. Where it is the first, nobody else used up the time:
			// asked like this again, it would have all who wait wait for nothing.
			for _, i := range owner[got:] {
				switch {
				case answers[i] == nil || endsBatch(answers[i].Code):
				case i == 0:
					answers[i] = &Answer{Snapshot: seen, Code: timedOut, Reason: extensions[0] + ": took the time of " + extensions[1] + " too"}
				default:
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

func (q question) extensions() []string {
	if q.presence {
		return []string{"broadcast", "presence"}
	}
	return []string{"broadcast"}
}

// read takes one row into the answer it belongs to. What has been seen is the same in all rows.
func read(rows pgx.Rows, seen *snapshot.Snapshot, answers []*Answer, owner []int, extensions []string) error {
	var request int
	var receive, send *bool
	var code, reason *string
	var text string
	var validFor *float64
	err := rows.Scan(&request, &receive, &send, &code, &reason, &text, &validFor)
	if err == nil && request == 1 {
		*seen, err = snapshot.Parse(text)
	}
	if err != nil {
		return err
	}
	i := owner[request-1]
	if answers[i] == nil {
		answers[i] = &Answer{Snapshot: *seen}
	}
	answer := answers[i]
	right := &answer.Broadcast
	if extensions[request-1] == "presence" {
		right = &answer.Presence
	}
	right.Receive, right.Send = receive != nil && *receive, send != nil && *send
	if validFor != nil {
		answer.endAt(*validFor)
	}
	if reason != nil {
		answer.Reason = strings.TrimPrefix(answer.Reason+"; "+extensions[request-1]+": "+*reason, "; ")
	}
	if code != nil {
		answer.Code = *code
	}
	if answer.Code == timedOut || saysNothing(answer.Code) { // half an answer is none
		answer.Broadcast, answer.Presence = Right{}, Right{}
	}
	return nil
}

// endAt has an answer made again after so many seconds, if not before.
func (a *Answer) endAt(seconds float64) {
	end := time.Now().Add(time.Duration(min(seconds, maxUntil.Seconds()) * float64(time.Second)))
	if a.Until.IsZero() || end.Before(a.Until) {
		a.Until = end
	}
}
