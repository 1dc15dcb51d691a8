// Package policies tries out policies: what they say of people and topics, as they are and as they would be after some
// SQL. It decides nothing itself, and what it tries is undone.
package policies

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// Question is what somebody may do on a topic.
type Question struct {
	Topic, Extension string
	Role             string
	Claims           string // a JSON object
	Headers          string // a JSON object
}

// Answer is what the policies say. Undecided: they take too long, or wait for a lock.
type Answer struct {
	Receive, Send bool
	Undecided     bool
	Known         bool   // whether there is such a role
	Code          string // the SQLSTATE of what refuses, where it is more than a policy's no
	Reason        string // why not
}

// maxBatch is how many questions share a round trip.
const maxBatch = 50

// decide asks all questions, in order, as a server would on which these roles may bypass policies; nil: as the one that
// started last would. When ctx ends first it gives the answers that it has.
func decide(ctx context.Context, t *postgres.Trial, questions []Question, bypass []string) ([]Answer, error) {
	answers := make([]Answer, 0, len(questions))
	for len(answers) < len(questions) {
		got, err := batch(ctx, t, questions[len(answers):min(len(questions), len(answers)+maxBatch)], bypass)
		if err != nil {
			return answers, fmt.Errorf("ask the policies: %w", err)
		}
		answers = append(answers, got...)
	}
	return answers, nil
}

// batch asks one round trip's questions. The answers are fewer when one took all of the time; there is at least one.
func batch(ctx context.Context, t *postgres.Trial, questions []Question, bypass []string) ([]Answer, error) {
	n := len(questions)
	topics, extensions, roles, claims, headers := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, q := range questions {
		topics[i], extensions[i], roles[i], claims[i], headers[i] = q.Topic, q.Extension, q.Role, q.Claims, q.Headers
	}
	rows, err := t.Query(ctx, sql.PolicyDecide, topics, extensions, roles, claims, headers, bypass)
	if err != nil {
		return nil, err
	}
	answers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Answer, error) {
		var request int
		var receive, send *bool
		var code, reason *string
		var known bool
		err := row.Scan(&request, &receive, &send, &code, &reason, &known)
		a := Answer{Receive: receive != nil && *receive, Send: send != nil && *send, Undecided: receive == nil, Known: known}
		if code != nil {
			a.Code = *code
		}
		if reason != nil {
			a.Reason = *reason
		}
		return a, err
	})
	if err == nil && len(answers) == 0 {
		err = fmt.Errorf("%d questions were not answered", n)
	}
	return answers, err
}
