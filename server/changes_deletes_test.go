package main

import (
	"fmt"
	"testing"
	"time"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// A DELETE that takes the right with it is told, whatever the server itself has written since the last change, and soon after
// others have.
func TestCascadesAreToldOnAQuietDatabase(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"autovacuum": "off"}}).DB(t), func(c *Config) { c.DeafAfter = 2 * time.Second })
	table := r.followed("id int primary key", `create table TABLE_of (id int, who text); grant select on TABLE_of to authenticated;
		alter table TABLE enable row level security; create policy own on TABLE using (exists (select from TABLE_of o where o.id = TABLE.id and o.who = (select current_setting('request.jwt.claim.sub'))))`)
	r.exec("create table other (n int)")
	f := r.follow(table, nil)
	f.subscribed(1)
	for i, between := range []string{"select", "insert into other values (1)", "begin; savepoint a; insert into other values (2); rollback to a; insert into other values (3); commit"} {
		r.exec(fmt.Sprintf("insert into %s_of values (%d, 'u1'); insert into %[1]s values (%[2]d)", table, i))
		f.toldOf(i)
		r.exec(between)
		r.awaitHeartbeats(7) // a lease, too
		r.exec(fmt.Sprintf("begin; delete from %s_of where id = %d; delete from %[1]s where id = %[2]d; commit", table, i))
		f.wait("the end of the row", func(m frame) bool {
			if isEvent(f.topic, "system")(m) && messageOf(m) == protocol.TextGapUndecided {
				t.Fatalf("after %q a gap", between)
			}
			return isEvent(f.topic, "postgres_changes")(m) && changeOf(m).Data.Type == "DELETE" && changeOf(m).Data.Old["id"] == float64(i)
		})
	}
}
