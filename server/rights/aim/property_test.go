package aim_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/rights/aim"
)

// AIM_CHANGES is how many changes the property test makes, AIM_SEED where its chance begins.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

const changesPerPolicies = 40

// world is a small universe: the sessions of a few people on a few topics, and tables with few different rows.
type world struct {
	t        *testing.T
	conn     *pgx.Conn // changes rows, and asks
	listener *pgx.Conn
	rand     *rand.Rand
	topics   []string // of the sessions, as are subjects
	subjects []string
	claims   []string
	nasty    bool // the policies may raise errors and be beyond understanding
	aimed    int  // proposals with a subject or a topic
	changed  int  // verdicts
	spared   int  // sessions that were not asked again though something changed
}

var people = []string{"a1111111-1111-4111-8111-111111111111", "b2222222-2222-4222-8222-222222222222", "c3333333-3333-4333-8333-333333333333"}

func newWorld(t *testing.T, seed int) *world {
	t.Helper()
	db, admin := setUp(t)
	exec(t, admin, "grant execute on all functions in schema app to authenticated", "set client_min_messages = warning")
	w := &world{t: t, conn: admin, listener: dial(t, db.AdminURL), rand: rand.New(rand.NewPCG(uint64(seed), 0))}
	exec(t, w.listener, "listen realtime")
	// The planner evaluates what it estimates by. So what raises may do so when it is planned, and no more when the plan is used
	// again: a verdict would turn and nothing has changed.
	exec(t, w.conn, "set plan_cache_mode = force_custom_plan")
	// One writes the same id in another way, one has none.
	for _, subject := range []string{"C3333333-3333-4333-8333-333333333333", "-", people[0], people[1]} {
		for _, topic := range []string{"lobby", "room:1", "2"} {
			claims := map[string]string{"role": "authenticated"}
			if subject != "-" {
				claims["sub"] = subject
			}
			text, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			w.subjects, w.topics, w.claims = append(w.subjects, strings.Trim(subject, "-")), append(w.topics, topic), append(w.claims, string(text))
		}
	}
	return w
}

// verdicts asks for every session, as the server does.
func (w *world) verdicts() []string {
	w.t.Helper()
	n := len(w.topics)
	fill := func(s string) []string { return strings.Split(strings.TrimSuffix(strings.Repeat(s+" ", n), " "), " ") }
	rows, err := w.conn.Query(w.t.Context(), "select receive::text || send::text from realtime._decide($1, $2, $3, $4, $5, '{}') order by request",
		w.topics, fill("broadcast"), fill("authenticated"), w.claims, fill("{}"))
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(all) != n {
		w.t.Fatalf("%d verdicts of %d, %v", len(all), n, err)
	}
	return all
}

type mark struct{ S, T string }

// concerns tells whether the hub has a session asked again because of a mark.
func (m mark) concerns(subject, topic string) bool {
	spell := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	return (m.S == "" || spell(m.S) == spell(subject)) && (m.T == "" || m.T == topic)
}

// heard returns the marks until now.
func (w *world) heard() []mark {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	exec(w.t, w.conn, "notify realtime, 'end'")
	var all []mark
	for {
		n, err := w.listener.WaitForNotification(ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		if n.Payload == "end" {
			return all
		}
		if payload, ok := strings.CutPrefix(n.Payload, "r "); ok {
			var m mark
			if err := json.Unmarshal([]byte(payload), &m); err != nil {
				w.t.Fatal(err)
			}
			all = append(all, m)
		}
	}
}

func (w *world) pick(of ...string) string { return of[w.rand.IntN(len(of))] }
func (w *world) chance(percent int) bool  { return w.rand.IntN(100) < percent }

// policies makes new policies, and has the tables watched as is proposed for them.
func (w *world) policies() (proposed map[aim.Name]aim.Proposal, text string) {
	w.t.Helper()
	statements := []string{"drop policy if exists r on realtime.messages", "drop policy if exists r2 on realtime.messages", "drop policy if exists s on realtime.messages",
		"drop policy if exists own on app.members", "alter table app.members disable row level security",
		"drop policy if exists own on app.rooms", "alter table app.rooms disable row level security"}
	w.nasty = w.chance(35)
	made := []string{"create policy r on realtime.messages for select using (" + w.decision(2) + ")", "create policy s on realtime.messages for insert with check (" + w.decision(1) + ")"}
	if w.chance(30) {
		made = append(made, "create policy r2 on realtime.messages for select using ("+w.decision(1)+")")
	}
	if w.chance(40) {
		made = append(made, "alter table app.members enable row level security", "create policy own on app.members using ("+w.pick(
			"user_id = auth.uid() or not muted", "muted is not true", "user_id = auth.uid()", "1 / hits >= 0", "1 / hits >= 0", "exists (select from app.rooms r where r.id = members.room_id)")+")")
	}
	if w.chance(15) {
		made = append(made, "alter table app.rooms enable row level security", "create policy own on app.rooms using ("+w.pick(
			"open", "exists (select from app.members m where m.user_id = auth.uid() and m.room_id = rooms.id)", "slug::integer > 0")+")")
	}
	exec(w.t, w.conn, append(statements, made...)...)
	proposed = aim.Propose(facts(w.t, w.conn))
	for _, table := range []string{members, rooms, "app.bans"} {
		p := proposed[name(table)]
		if p.Subject != "" || p.Topic != "" {
			w.aimed++
		}
		var subject, topic *string
		if p.Subject != "" {
			subject = &p.Subject
		}
		if p.Topic != "" {
			topic = &p.Topic
		}
		// As the server does it by itself, or as one does by hand.
		if _, err := w.conn.Exec(w.t.Context(), "select realtime._watch($1::text::regclass, $2, $3, $4, $5)", table, subject, topic, p.Columns, w.chance(50)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.heard()
	return proposed, strings.Join(made, ";\n")
}

// Whoever loses or gains a right by the change of a row is aimed at by a mark of that change.
func TestEveryoneConcernedIsAimedAt(t *testing.T) {
	t.Parallel()
	changes, seed := setting(t, "AIM_CHANGES", 2000), setting(t, "AIM_SEED", 5)
	w := newWorld(t, seed)
	start := time.Now()
	var proposed map[aim.Name]aim.Proposal
	var policies string
	var before []string
	for i := range changes {
		if i%changesPerPolicies == 0 {
			proposed, policies = w.policies()
			exec(t, w.conn, "truncate app.members, app.rooms, app.bans")
			for range w.rand.IntN(8) {
				exec(t, w.conn, w.insert())
			}
			w.heard()
			before = w.verdicts()
		}
		change := w.change()
		exec(t, w.conn, change)
		after, marks := w.verdicts(), w.heard()
		for s, verdict := range after {
			concerned := false
			for _, m := range marks {
				concerned = concerned || m.concerns(w.subjects[s], w.topics[s])
			}
			if !concerned {
				w.spared++
			}
			if verdict == before[s] {
				continue
			}
			w.changed++
			if !concerned {
				t.Fatalf("seed %d, change %d: %s turned %s into %s for %s, which %+v do not aim at\nproposed: %+v\n%s",
					seed, i, change, before[s], verdict, w.claims[s]+" on "+w.topics[s], marks, proposed, policies)
			}
		}
		before = after
	}
	t.Logf("%d changes in %v: %d proposals with an aim, %d verdicts changed, %d sessions not asked again", changes, time.Since(start).Round(time.Millisecond), w.aimed, w.changed, w.spared)
	if w.aimed < changes/changesPerPolicies/4 || w.changed < changes/4 || w.spared < changes {
		t.Errorf("only %d proposals, %d verdicts changed, %d sessions not asked again: this test tells too little", w.aimed, w.changed, w.spared)
	}
}

func quote(s string) string { return fmt.Sprintf("'%s'", s) }
