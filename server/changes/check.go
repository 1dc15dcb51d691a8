package changes

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rowcast/server/postgres"
	"rowcast/server/protocol"
)

const (
	// checkers is how many connections of the pool checks use at a time; and one more those that have Postgres read a pattern, which may
	// take its time: whoever subscribes writes it.
	checkers = 2
	// maxSlowChecks is how often a subscription is checked whose check takes too long.
	maxSlowChecks = 3
	// checkWave is how many subscriptions are checked together: those of the same role and entries cost no more than one.
	checkWave = 500
	// minRecheck and maxRecheck are between checks of a subscription while the database does not answer.
	minRecheck, maxRecheck = time.Second, 10 * time.Second
)

// checks are the subscriptions that wait to be checked, and the workers that do it.
type checks struct {
	plain, patterns lane
	running         sync.WaitGroup
}

// lane is a queue of subscriptions that wait to be checked.
type lane struct {
	waiting []*Subscription
	busy    int // workers
}

// laneOf is where a subscription waits.
func (c *checks) laneOf(s *Subscription) *lane {
	for _, e := range s.Entries {
		if slices.ContainsFunc(e.Filter, func(c Condition) bool { return c.Op == Match || c.Op == IMatch }) {
			return &c.patterns
		}
	}
	return &c.plain
}

// inquiry is what is asked about one subscription.
type inquiry struct {
	sub     *Subscription
	round   int
	role    string
	entries []Entry
	last    bool // it is not asked again if this takes too long
}

// finding is the answer.
type finding struct {
	inquiry
	problem     string // what is wrong with the entries, for the client
	missing     string // the grant without which it is told of no row
	lacks       uint32 // of which table
	rows        bool   // it wants rows as they were before, of a table with row level security
	partitioned bool   // it wants changes of a partitioned table
	err         error
}

// check has a subscription looked at; an older check does not count any more.
func (l *loop) check(s *Subscription) {
	s.round++
	waits := l.checks.laneOf(s)
	waits.waiting = append(waits.waiting, s)
	l.wake()
}

func (l *loop) startChecks() {
	l.startLane(&l.checks.plain, checkers)
	l.startLane(&l.checks.patterns, 1)
}

func (l *loop) startLane(c *lane, workers int) {
	for len(c.waiting) > 0 && c.busy < workers {
		var asked []inquiry
		n := min(len(c.waiting), checkWave)
		for _, s := range c.waiting[:n] {
			if !s.ended.Load() {
				asked = append(asked, inquiry{s, s.round, s.Role, s.Entries, s.failures >= maxSlowChecks-1 && !s.active})
			}
		}
		if c.waiting = slices.Clone(c.waiting[n:]); len(asked) == 0 {
			continue
		}
		c.busy++
		l.checks.running.Go(func() {
			findings := newWave(l.Options).all(l.ctx, asked)
			l.mail.post(func() {
				c.busy--
				for _, f := range findings {
					l.settleCheck(f)
				}
			})
		})
	}
}

// settleCheck does what a check found.
func (l *loop) settleCheck(f finding) {
	s := f.sub
	if s.ended.Load() || s.round != f.round {
		return
	}
	switch {
	case f.err != nil:
		l.say(slog.LevelWarn, postgres.SQLState(f.err), "a subscription to changes could not be checked", "err", f.err)
		if !s.active {
			l.complain(s, away)
		}
		round := s.round
		l.later(backOff(minRecheck, maxRecheck, s.failures), func() {
			if s.round == round && !s.ended.Load() {
				l.check(s)
			}
		})
		s.failures++
	case f.problem != "":
		if s.good {
			l.lower(s)
		}
		l.complain(s, notice{protocol.PostgresChangesRefused, f.problem})
	default:
		l.accept(s, f)
	}
}

// accept has a subscription whose entries are good told of changes.
func (l *loop) accept(s *Subscription, f finding) {
	s.failures = 0
	if !s.good {
		l.raise(s)
	}
	l.setRows(s, f.rows)
	s.partitioned = f.partitioned
	maps.DeleteFunc(s.warnings, func(w warningOf, _ string) bool { return w.warning == warningGrant && w.table != f.lacks })
	if f.missing != "" {
		s.warn(warningOf{warningGrant, f.lacks}, f.missing)
	}
	switch {
	case s.active && s.reading == nil:
		s.trouble = notice{}
		l.welcome(s)
	case !s.active && !s.waits:
		if l.wait(s); l.stream.trouble != (notice{}) {
			l.complain(s, l.stream.trouble)
		}
	}
}

// publicationChanged has every subscription looked at again: tables may have come or gone.
func (l *loop) publicationChanged() {
	if s := &l.stream; s.restart != nil && len(l.subs) > 0 { // there may have been none
		s.restart.Stop()
		s.restart = nil
		l.startStream()
	}
	for s := range l.subs {
		l.check(s)
	}
}

// wave is a number of checks. What was asked once is not asked again.
type wave struct {
	*Options
	asker
	tables  map[Name]found
	known   map[uint32]*Table
	entries map[string]checked
}

func newWave(o *Options) *wave {
	return &wave{Options: o, asker: onPool(o.Pool), tables: map[Name]found{}, known: map[uint32]*Table{}, entries: map[string]checked{}}
}

func (c *wave) all(ctx context.Context, wave []inquiry) []finding {
	findings := make([]finding, len(wave))
	for i, in := range wave {
		findings[i] = c.one(ctx, in)
	}
	return findings
}

// one checks all entries of a subscription. One that is bad fails all.
func (c *wave) one(ctx context.Context, in inquiry) (f finding) {
	f.inquiry = in
	for i := range in.entries {
		e := &in.entries[i]
		found, err := c.find(ctx, e)
		if err != nil {
			f.err = err
			return f
		}
		if len(found.Tables) == 0 {
			c.say(slog.LevelInfo, named(Name{e.Schema, e.Table}), "a subscription asks for changes that are not published", "entry", e.Describe(), "mend", found.Mend)
			f.problem = e.Unavailable()
			return f
		}
		for _, oid := range found.Tables {
			if f.problem, f.err = c.table(ctx, &f, e, oid); f.problem != "" || f.err != nil {
				return f
			}
		}
	}
	return f
}

func (c *wave) find(ctx context.Context, e *Entry) (found, error) {
	name := Name{e.Schema, e.Table}
	if known, ok := c.tables[name]; ok {
		return known, nil
	}
	c.Metrics.ChangesQuestions.WithLabelValues("find").Inc()
	f, err := find(ctx, c, c.Publication, e.Schema, e.Table)
	if err == nil {
		c.tables[name] = f
	}
	return f, err
}

// table checks an entry about one of its tables.
func (c *wave) table(ctx context.Context, f *finding, e *Entry, oid uint32) (problem string, err error) {
	t := c.known[oid]
	if t == nil {
		c.Metrics.ChangesQuestions.WithLabelValues("describe").Inc()
		tables, err := describe(ctx, c, c.Publication, []uint32{oid})
		if err != nil || len(tables) == 0 {
			return "", err
		}
		t = tables[0]
		c.known[oid] = t
	}
	f.rows = f.rows || t.RowSecurity && e.wantsRows()
	f.partitioned = f.partitioned || t.Partitioned
	key := checkKey(oid, f.role, e)
	answer, ok := c.entries[key]
	if !ok {
		c.Metrics.ChangesQuestions.WithLabelValues("check").Inc()
		answer, err = check(ctx, c, f.role, c.BypassRoles, t, e)
		if postgres.SQLState(err) == "57014" && f.last { // it is not the database, or not only
			answer, err = checked{Code: "57014", Problem: "canceling statement due to statement timeout"}, nil
		}
		if err != nil {
			return "", err
		}
		c.entries[key] = answer
	}
	switch {
	case answer.Code == "":
	case strings.HasPrefix(answer.Code, "42501"): // why is for the operator
		table := named(Name{t.Schema, t.Name})
		c.say(slog.LevelWarn, table+" "+f.role, "a role may not be told of changes", "role", f.role, "table", table, "why", answer.Problem)
		return e.Refused(exception(answer.Code, "permission denied")), nil
	default:
		return e.Refused(exception(answer.Code, answer.Problem)), nil
	}
	if answer.Missing != "" && f.missing == "" && len(t.Key) > 0 {
		f.lacks = oid
		f.missing = fmt.Sprintf(protocol.TextChangesGrant, t.Schema, t.Name, answer.Missing)
	}
	return "", nil
}

// checkKey is the same for entries of which the same is to be said.
func checkKey(oid uint32, role string, e *Entry) string {
	var b strings.Builder
	writeText(&b, strconv.FormatUint(uint64(oid), 10), role, strconv.Itoa(len(e.Select)))
	writeText(&b, e.Select...)
	for _, c := range e.Filter {
		writeText(&b, c.key())
	}
	return b.String()
}

// exception is an error of Postgres' as clients of Supabase Realtime know it.
func exception(code, message string) string {
	name := conditionNames[code]
	if name == "" {
		name = "error"
	}
	return fmt.Sprintf("ERROR %s (%s) %s", code, name, message)
}

// conditionNames are Postgres' own, of what a filter may be refused with.
var conditionNames = map[string]string{
	"P0001": "raise_exception", "22P02": "invalid_text_representation", "22007": "invalid_datetime_format", "22008": "datetime_field_overflow",
	"22003": "numeric_value_out_of_range", "2201B": "invalid_regular_expression", "42501": "insufficient_privilege", "42601": "syntax_error",
	"42725": "ambiguous_function", "42804": "datatype_mismatch", "42846": "cannot_coerce", "42883": "undefined_function", "22023": "invalid_parameter_value",
	"23514": "check_violation", "57014": "query_canceled",
}
