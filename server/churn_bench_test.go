package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// BenchmarkJoinsWhileRolesChange is what joins cost while somebody changes definitions that rights go by, so many times a second:
// each change makes the verdicts void that are being made, and has what policies depend on found out anew.
func BenchmarkJoinsWhileRolesChange(b *testing.B) {
	for _, rate := range []int{0, 10, 100, 500} {
		b.Run(strconv.Itoa(rate)+" a second", func(b *testing.B) {
			db := pgtest.New(b)
			group := db.NewRole(b, "nologin")
			r := start(b, db, func(c *Config) { c.MaxChannelsPerSocket, c.MaxJoinsPerSecond = 0, 0 })
			r.exec(`create table members (user_id text, room text); insert into members values ('1', 'any'); grant select on members to authenticated; grant trigger on members to rowcast;
				create policy receive on realtime.messages for select to authenticated using (exists (select from members
					where user_id = (select current_setting('request.jwt.claim.sub', true))))`)
			c := r.dial(token(b, "1", "authenticated", nil))
			stop := r.change(group, rate)
			refused, longest := 0, time.Duration(0)
			before := metricstest.Value(b, r.metrics, "realtime_decisions_void_total", "")
			for i := range b.N {
				topic, asked := fmt.Sprintf("realtime:room:%d", i), time.Now()
				ref := c.push("", topic, "phx_join", map[string]any{"config": private()})
				if status, _ := c.reply(ref); status != "ok" {
					refused++
				}
				longest = max(longest, time.Since(asked))
				c.push(ref, topic, "phx_leave", nil) // or the question about all who are there is what is measured
			}
			b.ReportMetric(float64(refused)/float64(b.N), "refused/op")
			b.ReportMetric((metricstest.Value(b, r.metrics, "realtime_decisions_void_total", "")-before)/float64(b.N), "void/op")
			b.ReportMetric(float64(longest.Milliseconds()), "ms-longest")
			b.ReportMetric(float64(stop())/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// change grants a role and revokes it, so many times a second on average, until stop is called, which tells how often.
func (r *running) change(role string, rate int) (stop func() (changes int)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int)
	go func() {
		changes := 0
		defer func() { done <- changes }()
		if rate == 0 {
			return
		}
		for ; ; changes++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(rand.ExpFloat64() * float64(time.Second) / float64(rate))): // no beat that joins could fall into
			}
			statement := "grant " + role + " to rowcast"
			if changes%2 == 1 {
				statement = "revoke " + role + " from rowcast"
			}
			if _, err := r.db.Admin.Exec(context.Background(), statement); err != nil {
				r.t.Error(err)
				return
			}
		}
	}()
	return func() int { cancel(); return <-done }
}
