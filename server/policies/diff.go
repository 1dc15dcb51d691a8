package policies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"rowcast/server/postgres"
)

// Session is a private channel that is open now.
type Session struct {
	Topic, Subject, Role string
	Claims, Headers      string // JSON objects
	Presence             bool   // whether it asked about presence too
	Receives             bool   // what its server knows: it is in the room for broadcasts, or for presence
}

// Sessions are the open ones, each distinct one once, with how many there are of it.
type Sessions struct {
	list   []Session
	places map[Session]int
	counts []int
	total  int
}

// Add adds one.
func (s *Sessions) Add(one Session) {
	place, known := s.places[one]
	if !known {
		if s.places == nil {
			s.places = map[Session]int{}
		}
		place = len(s.list)
		s.places[one] = place
		s.list, s.counts = append(s.list, one), append(s.counts, 0)
	}
	s.counts[place]++
	s.total++
}

// maxExamples is how many sessions of a kind are listed.
const maxExamples = 20

// change is what happens to sessions.
type change struct {
	verb     string
	sessions int
	examples []string
	more     int // sessions that are not among the examples
}

// Diff is what a script would do to the sessions.
type Diff struct {
	Total, Distinct int
	Undecided       int // sessions of which the policies did not say in time what they may do, before or after
	Stale           int // sessions that receive what the policies of today do not let them
	changes         []*change
}

// Changes tells how many gains and losses there would be.
func (d *Diff) Changes() int {
	n := 0
	for _, c := range d.changes {
		n += c.sessions
	}
	return n
}

// ErrHeldTooLong is a diff that would have kept others waiting.
var ErrHeldTooLong = errors.New("not all sessions could be decided in the time for which the script may hold its locks")

// Compare decides about the sessions as things are, and as they would be after the script. The script's locks are held for
// at most hold, and then let go with everything undone.
func Compare(ctx context.Context, url, script string, sessions *Sessions, l postgres.Limits, hold time.Duration) (*Diff, error) {
	questions := sessions.questions()
	var before, after []Answer
	// In a transaction of its own, and before: what is asked in the second waits for nothing but the script's own work.
	err := postgres.Try(ctx, url, l, func(ctx context.Context, t *postgres.Trial) (err error) {
		before, err = decide(ctx, t, questions, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = postgres.Try(ctx, url, l, func(ctx context.Context, t *postgres.Trial) (err error) {
		held, cancel := context.WithTimeoutCause(ctx, hold, ErrHeldTooLong)
		defer cancel()
		if err := t.Script(held, script); err != nil {
			return fmt.Errorf("run the script: %w", err)
		}
		after, err = decide(held, t, questions, nil)
		if err != nil && context.Cause(held) == ErrHeldTooLong {
			err = fmt.Errorf("%w: %d of %d questions in %s", ErrHeldTooLong, len(after), len(questions), hold)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return sessions.compare(before, after), nil
}

// asked are the extensions that a session has rights on.
func (s Session) asked() []string {
	if s.Presence {
		return extensions
	}
	return extensions[:1]
}

// questions are one or two for each distinct session, in order.
func (s *Sessions) questions() (questions []Question) {
	for _, one := range s.list {
		for _, extension := range one.asked() {
			questions = append(questions, Question{Topic: one.Topic, Extension: extension, Role: one.Role, Claims: one.Claims, Headers: one.Headers})
		}
	}
	return questions
}

// compare goes through the answers. A session of whose two extensions one is undecided is undecided.
func (s *Sessions) compare(before, after []Answer) *Diff {
	d := &Diff{Total: s.total, Distinct: len(s.list), changes: []*change{
		{verb: "lose receive"}, {verb: "lose send"}, {verb: "gain receive"}, {verb: "gain send"},
	}}
	for i, one := range s.list {
		n := len(one.asked())
		d.add(one, s.counts[i], before[:n], after[:n])
		before, after = before[n:], after[n:]
	}
	return d
}

func (d *Diff) add(one Session, count int, before, after []Answer) {
	var lost, gained [2]bool // receive, send
	reason, receives := "", false
	for i := range before {
		b, a := before[i], after[i]
		if b.Undecided || a.Undecided {
			d.Undecided += count
			return
		}
		receives = receives || b.Receive
		lost[0], lost[1] = lost[0] || b.Receive && !a.Receive, lost[1] || b.Send && !a.Send
		gained[0], gained[1] = gained[0] || !b.Receive && a.Receive, gained[1] || !b.Send && a.Send
		if reason == "" && (b.Receive && !a.Receive || b.Send && !a.Send) {
			reason = a.Reason
		}
	}
	if one.Receives && !receives {
		d.Stale += count
	}
	for i, happens := range []bool{lost[0], lost[1], gained[0], gained[1]} {
		if happens {
			why := ""
			if i < 2 {
				why = reason
			}
			d.changes[i].add(one, count, why)
		}
	}
}

func (c *change) add(one Session, count int, reason string) {
	c.sessions += count
	if len(c.examples) == maxExamples {
		c.more += count
		return
	}
	text := fmt.Sprintf("%s: %s", one.Topic, Person{Sub: one.Subject, Role: one.Role})
	if count > 1 {
		text += fmt.Sprintf(" (%d sessions)", count)
	}
	if reason != "" {
		text += "; " + reason
	}
	c.examples = append(c.examples, oneLine(text))
}

// Write tells people.
func (d *Diff) Write(out io.Writer) {
	fmt.Fprintf(out, "%d private sessions, %d of them distinct, were decided before and after; everything is undone\n", d.Total, d.Distinct)
	for _, c := range d.changes {
		fmt.Fprintf(out, "would %s: %d\n", c.verb, c.sessions)
		for _, example := range c.examples {
			fmt.Fprintf(out, "  %s\n", example)
		}
		if c.more > 0 {
			fmt.Fprintf(out, "  and %d more\n", c.more)
		}
	}
	if d.Undecided > 0 {
		fmt.Fprintf(out, "could not be decided in time: %d\n", d.Undecided)
	}
	if d.Stale > 0 {
		fmt.Fprintf(out, "have no right any more as things are, and are still open: %d (select realtime.invalidate() has them decided again)\n", d.Stale)
	}
}
