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
	"rowcast/sql"
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

// discovered has verdicts count that were made by what it has found, as package rights does. It begins with what was there before.
type discovered struct {
	db     *pgtest.DB
	digest atomic.Value // a string
	xid    atomic.Uint64
	finds  atomic.Int32
}

func (r *discovered) Counts(digest string, seen snapshot.Snapshot) bool {
	return digest == r.digest.Load() && seen.Sees(snapshot.XID(r.xid.Load()))
}

func (r *discovered) Find(ctx context.Context) error {
	r.finds.Add(1)
	var digest, xid string
	err := r.db.Admin.QueryRow(ctx, sql.Discover, false).Scan(&digest, &xid)
	if err != nil {
		return err
	}
	number, err := snapshot.ParseXID(xid)
	r.digest.Store(digest)
	r.xid.Store(uint64(number))
	return err
}

func (*discovered) Observes() bool   { return false }
func (*discovered) Observed([]int64) {}

// A verdict that does not count is nobody's answer: what has changed is found out first, and then it is asked again.
func TestStaleVerdictsAreNoAnswers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	for name, spoil := range map[string]func(*discovered){
		"the digest":  func(r *discovered) { r.digest.Store("of before") },
		"what it saw": func(r *discovered) { r.xid.Store(1 << 62) },
	} {
		t.Run(name, func(t *testing.T) {
			rights := &discovered{db: db}
			if err := rights.Find(t.Context()); err != nil {
				t.Fatal(err)
			}
			d, run := deciderBy(t, db, 2, rights)
			run()
			if a := ask(t, d, request("t-2", "2"))[0]; a.Err != nil || !a.Broadcast.Receive {
				t.Fatalf("before: %+v", a)
			}
			found := rights.finds.Load()
			spoil(rights)
			if a := ask(t, d, request("t-2", "2"))[0]; a.Err != nil || !a.Broadcast.Receive || a.Snapshot.IsZero() {
				t.Errorf("%+v", a)
			}
			if rights.finds.Load() == found {
				t.Error("answered by a verdict that does not count")
			}
		})
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
