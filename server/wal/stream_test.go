package wal_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"rowcast/server/metrics"
	"rowcast/server/pgtest"
	"rowcast/server/wal"
)

// patience bounds waits for what is certain to come.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	pgtest.Apart() // replication slots are made
	goleak.VerifyTestMain(m)
}

// recorder is a handler that writes down what it is told.
type recorder struct {
	mu      sync.Mutex // guards what follows
	said    []string
	reached wal.LSN
	commits []wal.LSN
	large   int
	rows    []wal.Change

	more chan struct{}    // something was written down
	hold func(wal.Change) // called before a change is written down
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{}, 1)} }

func (r *recorder) note(write func()) {
	r.mu.Lock()
	write()
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *recorder) say(format string, args ...any) {
	r.note(func() { r.said = append(r.said, fmt.Sprintf(format, args...)) })
}

func (r *recorder) Begin(b wal.Begin) {
	r.note(func() { r.said, r.commits = append(r.said, "begin"), append(r.commits, b.Commit) })
}
func (r *recorder) Commit()               { r.say("commit") }
func (r *recorder) Message(m wal.Message) { r.say("message %v %s", m.Transactional, m.Content) }
func (r *recorder) Reached(lsn wal.LSN)   { r.note(func() { r.reached = max(r.reached, lsn) }) }
func (r *recorder) Truncate(t wal.Truncate) {
	var names []string
	for _, relation := range t.Relations {
		names = append(names, relation.Name)
	}
	slices.Sort(names)
	r.say("truncate %s", strings.Join(names, " "))
}
func (r *recorder) Change(c wal.Change) {
	if r.hold != nil {
		r.hold(c)
	}
	old := ""
	if c.Old != nil {
		old = row(c.Relation, c.Old)
		if c.KeyOnly {
			old = "key" + old
		}
	}
	r.note(func() {
		r.rows = append(r.rows, c)
		r.said = append(r.said, strings.TrimSpace(fmt.Sprintf("%c %s %s", c.Kind, c.Relation.Name, strings.Trim(old+" → "+row(c.Relation, c.New), " →"))))
		if c.Large {
			r.large++
		}
	})
}

// row is a row for people: values by column; - is null, ~ unchanged, # left out.
func row(relation *wal.Relation, values []wal.Value) string {
	if values == nil {
		return ""
	}
	var parts []string
	for i, v := range values {
		text := string(v.Text)
		switch v.Kind {
		case wal.Null:
			text = "-"
		case wal.Unchanged:
			text = "~"
		case wal.TooLarge:
			text = "#"
		}
		parts = append(parts, relation.Columns[i].Name+"="+text)
	}
	return "(" + strings.Join(parts, " ") + ")"
}

// await waits until what was said satisfies the test's wish.
func (r *recorder) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		r.mu.Lock()
		ok := done()
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.more:
		case <-limit:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("wait for %s; told so far (the last 40):\n%s", what, strings.Join(r.said[max(0, len(r.said)-40):], "\n"))
		}
	}
}

// awaitCommits waits for so many transactions and gives what was said, one line each.
func (r *recorder) awaitCommits(t *testing.T, n int) []string {
	t.Helper()
	count := func() (found int) {
		for _, line := range r.said {
			if line == "commit" {
				found++
			}
		}
		return found
	}
	r.await(t, fmt.Sprintf("%d commits", n), func() bool { return count() >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.said)
}

// running is a stream under way.
type running struct {
	*recorder
	from    wal.LSN
	metrics *metrics.Metrics
	stop    context.CancelFunc
	ready   chan struct{} // closed when it is
	err     error         // of the stream
	ended   chan struct{} // closed when it has ended
}

// options of a stream of a test's database.
func options(d *pgtest.DB) wal.Options {
	return wal.Options{
		Name: "test", URL: d.URL, Slot: d.Name, Publication: "pub",
		Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New(),
	}
}

// begin begins one.
func begin(t *testing.T, o wal.Options, h wal.Handler) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &running{metrics: o.Metrics, stop: stop, ready: make(chan struct{}), ended: make(chan struct{})}
	s.recorder, _ = h.(*recorder)
	go func() {
		defer close(s.ended)
		s.err = wal.Stream(ctx, o, h, func(from wal.LSN) {
			s.from = from
			close(s.ready)
		})
	}()
	t.Cleanup(func() { s.end(t) })
	return s
}

// stream begins one and returns when it is ready.
func stream(t *testing.T, o wal.Options, r *recorder) *running {
	t.Helper()
	s := begin(t, o, r)
	select {
	case <-s.ready:
	case <-s.ended:
		t.Fatalf("stream: %v", s.err)
	case <-time.After(patience):
		t.Fatal("the stream does not begin")
	}
	return s
}

// end stops it and gives its error.
func (s *running) end(t *testing.T) error {
	t.Helper()
	s.stop()
	return s.await(t)
}

// await waits until it has ended by itself.
func (s *running) await(t *testing.T) error {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("the stream does not end")
	}
	return s.err
}

func exec(t *testing.T, d *pgtest.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := d.Admin.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// connection is one more of a superuser's.
func connection(t *testing.T, d *pgtest.DB) func(statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// ask gives the answer of the database to a question.
func ask[T any](t *testing.T, d *pgtest.DB, question string, args ...any) (answer T) {
	t.Helper()
	if err := d.Admin.QueryRow(t.Context(), question, args...).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return answer
}

// awaitAnswer asks until the answer is this one.
func awaitAnswer[T comparable](t *testing.T, d *pgtest.DB, want T, question string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		got := ask[T](t, d, question, args...)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v, want %v", question, got, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// slots are those of a database.
const slots = "select count(*) from pg_replication_slots where database = current_database()"

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// awaitThat waits for something of what was told, which stays as it is then.
func (s *running) awaitThat(t *testing.T, done func() bool) {
	t.Helper()
	s.recorder.await(t, "what the test is about", done)
}
