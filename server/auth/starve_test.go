package auth_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/pgtest"
	"rowcast/server/snapshot"
)

// held has the first two verdicts not count, and what follows wait for the test.
type held struct {
	void    atomic.Int32
	finding chan chan struct{}
}

func (h *held) Counts(string, snapshot.Snapshot) bool { return h.void.Add(-1) < 0 }
func (h *held) Find(context.Context) error {
	found := make(chan struct{})
	h.finding <- found
	<-found
	return nil
}
func (h *held) Observes() bool   { return false }
func (h *held) Observed([]int64) {}

// Whose verdict does not count is asked again before who came later. Otherwise those who come all the time keep everybody
// from being answered whose verdicts are void now and then.
func TestVoidVerdictsLoseNobodyHisPlace(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	rights := &held{finding: make(chan chan struct{})}
	rights.void.Store(2)
	d, run := deciderBy(t, db, 5, rights)
	run()
	first, other := make(chan int32), make(chan struct{})
	const later = 300
	var answered atomic.Int32
	d.Ask(request("t-2", "2"), func(a auth.Answer) { first <- answered.Load() })
	found := <-rights.finding
	d.Ask(request("t-4", "4"), func(auth.Answer) { close(other) }) // the other worker's
	foundToo := <-rights.finding
	all := make(chan struct{})
	for i := range later {
		d.Ask(request("t-2", fmt.Sprint(100+i)), func(auth.Answer) {
			if answered.Add(1) == later {
				close(all)
			}
		})
	}
	close(found)
	if before := <-first; before >= 50 { // those who share its round trip may be told before it
		t.Errorf("%d of %d who came later were answered before", before, later)
	}
	<-all
	close(foundToo)
	<-other
}

// Who joins a topic again and again whose policies are slow does not use up the time of the others on it, who are asked alone as well.
func TestRepeatedQuestionsAboutASlowTopicAreOne(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, `create policy r on realtime.messages for select to authenticated
			using (pg_sleep(case current_setting('request.jwt.claim.sub', true) when '0' then 60 else 0.05 end) is not null);
		create policy s on realtime.messages for insert to authenticated with check (true)`)
	d, run := deciderBy(t, db, 5, nil)
	run()
	if a := ask(t, d, request("slow", "0"))[0]; a.Code != "57014" {
		t.Fatalf("a policy that takes too long: %+v", a)
	}
	var requests []auth.Request
	for range 300 {
		requests = append(requests, request("slow", "1"))
	}
	for _, a := range ask(t, d, append(requests, request("slow", "2"))...) {
		if a.Err != nil || !a.Broadcast.Receive {
			t.Fatalf("%+v", a)
		}
	}
}

// never has no verdict count.
type never struct{ lenient }

func (never) Counts(string, snapshot.Snapshot) bool { return false }

// Who is not answered in time because definitions change without pause is not said to have waited for others.
func TestVoidVerdictsAreSaidToBeTheCause(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, policies)
	d, run := deciderBy(t, db, 5, never{})
	run()
	for _, topic := range []string{"t-2", "sleep"} { // a policy that takes too long is not known to be the cause either
		r := request(topic, "2")
		r.Since = time.Now().Add(-1500 * time.Millisecond)
		if a := ask(t, d, r)[0]; a.Err == nil || !strings.Contains(a.Err.Error(), "has changed") || a.Broadcast.Receive {
			t.Errorf("%s: %+v", topic, a)
		}
	}
}
