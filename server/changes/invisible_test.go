package changes

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// The stream shows a commit before others see it, for as long as a synchronous standby is away. Nothing is judged by a snapshot
// without it, nobody begins with one, and then nothing was lost.
func TestCommitsThatNobodySeesYet(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t)
	th := newTheaterOn(newStageOn(t, db, "create publication supabase_realtime", notes, "create table probe (n int); create table other (id int primary key); alter publication supabase_realtime add table other; grant select on other to service_role"), nil)
	root, ann := th.subscribed(service, all), th.subscribed(user(annID), all)
	th.exec("set synchronous_commit = local", "alter system set synchronous_standby_names = 'away'", "select pg_reload_conf()")
	th.until("select current_setting('synchronous_standby_names') = 'away'")

	hanging := make(chan error, 3)
	var held atomic.Bool
	for i, statement := range []string{"insert into probe values (1)", "insert into other values (1)", "insert into notes values (1, '" + annID + "', 'a')"} {
		conn, err := pgx.Connect(t.Context(), db.AdminURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		go func() {
			_, err := conn.Exec(t.Context(), statement)
			for err == nil && !held.Load() { // until the checkpointer has read the setting no COMMIT waits
				_, err = conn.Exec(t.Context(), statement)
			}
			hanging <- err
		}()
		th.until(fmt.Sprintf("select count(*) = %d from pg_stat_activity where wait_event = 'SyncRep'", i+1))
		held.Store(true)
	}
	late := th.seat(service, `{"event":"*","schema":"public","table":"other"}`)
	th.exec("insert into notes values (2, '" + annID + "', 'b')") // is seen at once
	looks := func() float64 {
		return metricstest.Value(t, th.engine.options.Metrics, "realtime_changes_questions_total", "begin")
	}
	for before, limit := looks(), time.Now().Add(askPatience); looks() < before+5; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it is not looked for what nobody sees yet")
		}
	}
	for _, who := range []*spectator{root, ann, late} {
		who.mu.Lock()
		if len(who.told) > 0 {
			t.Errorf("told too early: %q", who.told)
		}
		who.mu.Unlock()
	}
	th.exec("alter system reset synchronous_standby_names", "select pg_reload_conf()")
	for range 3 {
		if err := <-hanging; err != nil {
			t.Fatal(err)
		}
	}
	for _, who := range []*spectator{root, ann} {
		who.await(`"id":1`)
		who.await(`"id":2`)
	}
	late.expect("+Subscribed to PostgreSQL") // what was committed before is seen by its beginning
}
