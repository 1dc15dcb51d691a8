package auth_test

import (
	"testing"

	"rowcast/server/auth"
	"rowcast/server/pgtest"
)

// Whose first part alone uses up the time of a batch is not asked again before all others, over and over: it is slow.
func TestHalfAnAnswerKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, `create policy slow on realtime.messages for insert to authenticated
			with check (realtime.topic() = 'quick' or extension = 'presence' or pg_sleep(1.85) is not null);
		create policy seen on realtime.messages for select to authenticated using (true)`)
	d, run := deciderBy(t, db, 5, nil)
	for _, topic := range []string{"half-1", "half-2"} { // one for each worker
		r := request(topic, "1")
		r.Presence = true
		d.Ask(r, func(auth.Answer) {})
	}
	got := make(chan auth.Answer, 1)
	d.Ask(request("quick", "1"), func(a auth.Answer) { got <- a })
	run()
	if a := <-got; a.Err != nil || !a.Broadcast.Receive {
		t.Errorf("%+v", a)
	}
}
