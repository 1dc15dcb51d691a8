package auth_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"rowcast/server/auth"
	"rowcast/server/metrics"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
)

// deciderBy is a decider that asks rights which verdicts count, on so many connections; run starts it.
func deciderBy(t *testing.T, db *pgtest.DB, connections int32, rights auth.Rights) (d *auth.Decider, run func()) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), db.PoolURL, connections)
	if err != nil {
		t.Fatal(err)
	}
	d = auth.NewDecider(auth.DeciderOptions{Pool: pool, Rights: rights, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: metrics.New()})
	return d, func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done; pool.Close() })
	}
}

// unsettled has the first verdicts not count, as while somebody changes roles again and again.
type unsettled struct{ void atomic.Int32 }

func (u *unsettled) Counts(string, snapshot.Snapshot) bool { return u.void.Add(-1) < 0 }
func (u *unsettled) Find(context.Context) error            { return nil }
func (u *unsettled) Observes() bool                        { return false }
func (u *unsettled) Observed([]int64)                      {}

// Verdicts that do not count tell all the same whose policies take too long: without that, neighbours in the batch were
// asked together with them until their time was up.
func TestWhoIsSlowIsKnownFromVoidVerdicts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	rights := &unsettled{}
	rights.void.Store(2)
	d, run := deciderBy(t, db, 5, rights)
	good := make(chan auth.Answer, 1)
	d.Ask(request("sleep", "1"), func(auth.Answer) {}) // both are there when the first batch is taken
	d.Ask(request("t-2", "2"), func(a auth.Answer) { good <- a })
	run()
	if a := <-good; a.Err != nil || !a.Broadcast.Receive {
		t.Errorf("the neighbour of a slow policy: %+v", a)
	}
}

// lenient has every verdict count by its digest.
type lenient struct{}

func (lenient) Counts(string, snapshot.Snapshot) bool { return true }
func (lenient) Find(context.Context) error            { return nil }
func (lenient) Observes() bool                        { return false }
func (lenient) Observed([]int64)                      {}

// Postgres keeps a session's plans when somebody leaves a group, and with them the group's policies.
func TestPlansFromBeforeAChangeOfRolesDoNotDecide(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	user, group := db.NewRole(t, "nologin"), db.NewRole(t, "nologin")
	exec(t, db.Admin, `grant select, insert on realtime.messages to `+user+`; grant usage on schema realtime to `+user+`;
		grant `+group+` to `+user+`; grant `+user+` to rowcast;
		create policy g on realtime.messages to `+group+` using (true) with check (true);
		set role rowcast; select realtime._discover(true); reset role`)
	d, run := deciderBy(t, db, 1, lenient{})
	run()
	r := request("room", "1")
	r.Claims.Role = user
	for range 2 { // the second is made by the plans of the first
		if a := ask(t, d, r)[0]; a.Err != nil || !a.Broadcast.Receive {
			t.Fatalf("in the group: %+v", a)
		}
	}
	exec(t, db.Admin, "revoke "+group+" from "+user)
	if a := ask(t, d, r)[0]; a.Err != nil || a.Broadcast.Receive || a.Broadcast.Send {
		t.Errorf("out of the group: %+v", a)
	}
}

// A batch whose time is up may end between the parts of one request. Half of an answer would say that the rest is lost.
func TestHalfAnAnswerIsNone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, `create policy slow on realtime.messages for insert to authenticated
		with check (extension = 'presence' or pg_sleep(1.85) is not null);
		create policy seen on realtime.messages for select to authenticated using (true)`)
	d := decider(t, db)
	r := request("room", "1")
	r.Presence = true
	if a := ask(t, d, r)[0]; a.Err == nil && a.Code == "" && a.Broadcast.Receive && !a.Presence.Receive {
		t.Errorf("presence was not asked about, and is said to be denied: %+v", a)
	}
}
