// Package explain tells an operator why somebody may or may not receive and send on a topic: what realtime.explain() finds,
// as values and as text. It is for operators alone; what clients are told is elsewhere.
package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/protocol"
	"rowcast/sql"
)

// Question is about one person and one topic.
type Question struct {
	Topic   string          `json:"topic"`
	Subject string          `json:"sub,omitempty"`    // becomes the claim sub
	Role    string          `json:"role,omitempty"`   // "": the claim role, else authenticated
	Claims  json.RawMessage `json:"claims,omitempty"` // a JSON object; null: none
}

// Row is one finding. What does not apply to it is empty.
type Row struct {
	Subject    string `json:"subject"`
	Action     string `json:"action,omitempty"`
	Extension  string `json:"extension,omitempty"`
	Name       string `json:"name,omitempty"`
	Value      string `json:"value,omitempty"`
	Sentence   string `json:"sentence,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Roles      string `json:"roles,omitempty"`
	Expression string `json:"expression,omitempty"`
}

// Subjects of rows that are read here.
const (
	subjectServer     = "server"
	subjectDifference = "difference"
	subjectSummary    = "summary"
)

// Report is the whole answer.
type Report struct {
	Summary string `json:"summary"`
	Receive bool   `json:"receive"` // broadcasts, as the server decides
	Send    bool   `json:"send"`
	Differs bool   `json:"differs"` // what is listed leads to another verdict than the server's
	Rows    []Row  `json:"rows"`
}

// ErrQuestion is a question that makes no sense; the error says why.
var ErrQuestion = errors.New("the question")

// defaultRole is that of users who are signed in.
const defaultRole = "authenticated"

// limits are wider than those of a decision: each policy is executed several times. The lock is waited for as long.
var limits = postgres.Limits{Statement: 8 * time.Second, Lock: time.Second}

// Ask has Postgres explain. Nothing of it stays.
func Ask(ctx context.Context, pool *postgres.Pool, q Question) (Report, error) {
	claims, role, err := q.claims()
	if err != nil {
		return Report{}, err
	}
	topic := protocol.SubTopic(q.Topic)
	if topic == "" {
		return Report{}, fmt.Errorf("%w has no topic", ErrQuestion)
	}
	var report Report
	err = postgres.Short(ctx, pool, limits, false,
		func(b *pgx.Batch) { b.Queue(sql.Explain, topic, claims, role) },
		func(results pgx.BatchResults) error {
			rows, err := results.Query()
			if err != nil {
				return err
			}
			report.Rows, err = pgx.CollectRows(rows, scan)
			return err
		})
	switch state := postgres.SQLState(err); {
	case state == "3F000" || state == "42883": // no such schema, no such function
		return Report{}, fmt.Errorf("explain %q: %w: run rowcast migrate up", topic, err)
	case strings.HasPrefix(state, "22"):
		return Report{}, fmt.Errorf("%w cannot be asked: %w", ErrQuestion, err)
	case err != nil:
		return Report{}, fmt.Errorf("explain %q: %w", topic, err)
	}
	report.read()
	return report, nil
}

// claims are those of the question with subject and role in them, and the role to ask as.
func (q Question) claims() (text, role string, err error) {
	all := map[string]any{}
	if len(q.Claims) > 0 {
		decoder := json.NewDecoder(strings.NewReader(string(q.Claims)))
		decoder.UseNumber()
		if err := decoder.Decode(&all); err != nil || decoder.More() {
			return "", "", fmt.Errorf("%w has claims that are no JSON object", ErrQuestion)
		}
		if all == nil {
			all = map[string]any{}
		}
	}
	if q.Subject != "" {
		all["sub"] = q.Subject
	}
	role = q.Role
	if claimed, ok := all["role"].(string); ok && role == "" {
		role = claimed
	}
	if role == "" {
		role = defaultRole
	}
	if all["role"] == nil {
		all["role"] = role
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		return "", "", fmt.Errorf("%w has claims that cannot be written: %w", ErrQuestion, err)
	}
	for _, text := range []string{q.Topic, role} {
		if strings.ContainsRune(text, 0) {
			return "", "", fmt.Errorf("%w holds a NUL character, which Postgres has not", ErrQuestion)
		}
	}
	return string(encoded), role, nil
}

func scan(row pgx.CollectableRow) (Row, error) {
	var r Row
	var cells [9]*string
	into := []*string{&r.Subject, &r.Action, &r.Extension, &r.Name, &r.Value, &r.Sentence, &r.Kind, &r.Roles, &r.Expression}
	targets := make([]any, len(cells))
	for i := range cells {
		targets[i] = &cells[i]
	}
	if err := row.Scan(targets...); err != nil {
		return Row{}, err
	}
	for i, cell := range cells {
		if cell != nil {
			*into[i] = *cell
		}
	}
	return r, nil
}

// read takes the answer out of the rows.
func (r *Report) read() {
	for _, row := range r.Rows {
		switch row.Subject {
		case subjectServer:
			if row.Extension == "broadcast" && row.Action == "receive" {
				r.Receive = row.Value == "true"
			} else if row.Extension == "broadcast" {
				r.Send = row.Value == "true"
			}
		case subjectDifference:
			r.Differs = true
		case subjectSummary:
			r.Summary = row.Sentence
		}
	}
}
