package migrations_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// patience bounds waits for something that is certain to come.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds a test's statements, so that one that hangs fails by name.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial opens a session that ends with the test.
func dial(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// server opens a session as the server's ordinary role.
func server(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	return dial(t, db.URL)
}

// admin opens a session as a superuser.
func admin(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	return dial(t, db.AdminURL)
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.Exec(within(t), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func value[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(within(t), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func values[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(within(t), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return all
}

// refused runs a statement that must fail with this SQLSTATE and these words. An open transaction stays usable.
func refused(t *testing.T, conn *pgx.Conn, state, words, statement string, args ...any) {
	t.Helper()
	inside := conn.PgConn().TxStatus() == 'T'
	if inside {
		exec(t, conn, "savepoint refused")
	}
	_, err := conn.Exec(within(t), statement, args...)
	var refusal *pgconn.PgError
	switch {
	case !errors.As(err, &refusal):
		t.Errorf("%s: %v, want SQLSTATE %s", statement, err, state)
	case refusal.Code != state || !strings.Contains(refusal.Message, words):
		t.Errorf("%s: %v, want SQLSTATE %s and %q", statement, err, state, words)
	}
	if inside {
		exec(t, conn, "rollback to refused")
	}
}

// heard returns what work notifies the server of.
func heard(t *testing.T, db *pgtest.DB, work func()) []string {
	t.Helper()
	conn := admin(t, db)
	exec(t, conn, "listen realtime")
	work()
	end := "end " + rand.Text()
	if _, err := db.Admin.Exec(within(t), "select pg_notify('realtime', $1)", end); err != nil {
		t.Fatal(err)
	}
	var all []string
	for {
		n, err := conn.WaitForNotification(within(t))
		if err != nil {
			t.Fatalf("wait for the end of notifications: %v (heard %v)", err, all)
		}
		if n.Payload == end {
			return all
		}
		all = append(all, n.Payload)
	}
}

// ask is one request to the decision.
type ask struct {
	topic, extension, role, claims, headers string // extension, role, claims and headers have defaults
}

// answer is one row of the decision; yes and no are the only verdicts but for "", which is none.
type answer struct {
	Receive, Send string
	Code, Reason  string
	ValidFor      bool // there is an instant that it depends on
}

func verdict(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "yes"
	}
	return "no"
}

// decide asks as the server does.
func decide(t *testing.T, conn *pgx.Conn, asks ...ask) []answer {
	t.Helper()
	var topics, extensions, roles, claims, headers []string
	for _, a := range asks {
		if a.extension == "" {
			a.extension = "broadcast"
		}
		if a.role == "" {
			a.role = "authenticated"
		}
		if a.claims == "" {
			a.claims = fmt.Sprintf(`{"sub": "ann", "role": %q}`, a.role)
		}
		if a.headers == "" {
			a.headers = "{}"
		}
		topics, extensions, roles = append(topics, a.topic), append(extensions, a.extension), append(roles, a.role)
		claims, headers = append(claims, a.claims), append(headers, a.headers)
	}
	rows, err := conn.Query(within(t), sql.Decide, topics, extensions, roles, claims, headers, []string{"service_role"})
	if err != nil {
		t.Fatal(err)
	}
	var all []answer
	var request int
	var receive, send *bool
	var code, reason *string
	var snapshot string
	var validFor *float64
	_, err = pgx.ForEachRow(rows, []any{&request, &receive, &send, &code, &reason, &snapshot, &validFor}, func() error {
		a := answer{Receive: verdict(receive), Send: verdict(send), ValidFor: validFor != nil}
		if code != nil {
			a.Code = *code
		}
		if reason != nil {
			a.Reason = *reason
		}
		all = append(all, a)
		if request != len(all) || snapshot == "" {
			t.Errorf("answer %d has number %d and snapshot %q", len(all), request, snapshot)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// allowed is the neighbour of every bad request: a policy must let good:… through to ann, by her claims and the topic.
var allowed = ask{topic: "good:room"}

const goodPolicy = `topic like 'good:%' and topic = realtime.topic()
	and current_setting('request.jwt.claims', true)::jsonb ->> 'sub' = 'ann'`

// between asks for a with an allowed request on either side, checks that these are answered and that nothing is left
// behind, and returns a's answer.
func between(t *testing.T, db *pgtest.DB, conn *pgx.Conn, a ask) answer {
	t.Helper()
	var got []answer
	leavesNothing(t, db, conn, func() { got = decide(t, conn, allowed, a, allowed) })
	if len(got) != 3 {
		t.Fatalf("%d answers, want 3: %+v", len(got), got)
	}
	for _, i := range []int{0, 2} {
		if got[i] != (answer{Receive: "yes", Send: "yes"}) {
			t.Errorf("neighbour %d: %+v", i, got[i])
		}
	}
	return got[1]
}

// leavesNothing checks that work stores no row, sends no notification and changes no setting of the session.
func leavesNothing(t *testing.T, db *pgtest.DB, conn *pgx.Conn, work func()) {
	t.Helper()
	look := func() string {
		return value[string](t, conn, `select concat_ws(' · ',
			current_user, current_setting('role'), current_setting('search_path'), current_setting('row_security'), current_setting('plan_cache_mode'),
			nullif(current_setting('realtime.topic', true), ''), nullif(current_setting('realtime.probe', true), ''), nullif(current_setting('realtime.until', true), ''),
			nullif(current_setting('request.jwt.claims', true), ''), nullif(current_setting('request.jwt.claim.sub', true), ''),
			nullif(current_setting('request.jwt.claim.role', true), ''), nullif(current_setting('request.headers', true), ''))`)
	}
	count := func() (rows int) {
		err := db.Admin.QueryRow(within(t), "select (select count(*) from realtime.messages) + (select count(*) from realtime._journal)").Scan(&rows)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	settings, rows := look(), count()
	if notified := heard(t, db, work); len(notified) > 0 {
		t.Errorf("notified %v", notified)
	}
	if got := look(); got != settings {
		t.Errorf("settings are %s, were %s", got, settings)
	}
	if got := count(); got != rows {
		t.Errorf("%d rows stored", got-rows)
	}
}
