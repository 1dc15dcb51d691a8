package main

import (
	"slices"
	"testing"
)

// What a client was told while the server caught up is in an order in which it can be cut anywhere, and resumed: what a
// sender could see came before what he sent, whichever transaction began first.
func TestResumeInTheMiddleOfCatchingUp(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(allowMembers + `insert into members (user_id, room) values ('u', 'a')`)
	c := o.back("a", nil)
	early, err := o.db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sendEarly := func(n int) {
		t.Helper()
		if _, err := early.Exec(t.Context(), `select realtime.send(jsonb_build_object('n', $1::int), 'e', 'a')`, n); err != nil {
			t.Fatal(err)
		}
	}
	o.begin()
	sendEarly(1)
	o.send("a", 2)
	sendEarly(3)
	o.send("a", 4)
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.end()
	o.await("all four", func() bool { return len(numbers(c, "a", "e")) == 4 })
	all := ids(broadcasts(c, "a", "e"))
	for cut := range all {
		back := o.back("a", map[string]any{"after": all[:cut+1]})
		if got := ids(broadcasts(back, "a", "e")); !slices.Equal(got, all[cut+1:]) || len(gaps(back)) > 0 {
			t.Errorf("cut after %d: received %v of %v, told %v", cut+1, got, all, gaps(back))
		}
	}
	if got := numbers(o.back("a", map[string]any{"after": all[2]}), "a", "e"); !slices.Equal(got, []int{4}) {
		t.Errorf("after the third alone: received %v", got)
	}
}

// Who comes back during an outage is told so, and tries again; then it lacks nothing.
func TestResumeAfterAnOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(allowMembers + `insert into members (user_id, room) values ('u', 'a')`)
	c := o.back("a", nil)
	o.send("a", 1)
	o.await("the first", func() bool { return len(numbers(c, "a", "e")) == 1 })
	after := map[string]any{"after": ids(broadcasts(c, "a", "e"))}
	o.begin()
	o.send("a", 2)
	if _, status, reason := o.dial(token(t, "u", "authenticated", nil)).join("a", replaying(after)); status != "error" {
		t.Errorf("joined while the database is not heard: %s", reason)
	}
	o.end()
	o.send("a", 3)
	if got := numbers(o.back("a", after), "a", "e"); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("received %v", got)
	}
}
