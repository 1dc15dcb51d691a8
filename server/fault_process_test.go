package main

import (
	"fmt"
	"testing"
	"time"

	"rowcast/server/pgtest"
)

// The whole server is stopped for longer than its hearing is proven, and rights are lost meanwhile. When it wakes up,
// frames wait in its sockets, and notifications in another: none of the frames is delivered before it has heard.
func TestFaultServerStopped(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t) // which nothing happens to
	exec := func(statements string) {
		t.Helper()
		if _, err := db.Admin.Exec(t.Context(), statements); err != nil {
			t.Fatal(err)
		}
	}
	exec(allowMembers + `insert into members select 'u' || i, 'a' from generate_series(1, 10) as i`)
	s := startSeparate(t, db)
	speaker := dial(t, s.public, token(t, "u1", "authenticated", nil))
	joinRef, status, reason := speaker.join("a", private())
	if status != "ok" {
		t.Fatal(reason)
	}
	var listeners []*client
	for i := 2; i <= 10; i++ {
		c := dial(t, s.public, token(t, fmt.Sprint("u", i), "authenticated", nil))
		if _, status, reason := c.join("a", private()); status != "ok" {
			t.Fatal(reason)
		}
		listeners = append(listeners, c)
	}
	s.freeze(t)
	stopped := time.Now()
	exec(`delete from members where user_id <> 'u1'`)
	for i := range 100 {
		speaker.push(joinRef, "realtime:a", "broadcast", map[string]any{"type": "broadcast", "event": fmt.Sprint("secret-", i), "payload": map[string]any{}})
	}
	time.Sleep(time.Until(stopped.Add(minDeafAfter + time.Second))) // nothing else lets a proof grow old
	s.thaw(t)
	for i, c := range listeners {
		c.wait("the cut", isEvent("a", "phx_close"))
		if n := count(c, isEvent("a", "broadcast")); n != 0 {
			t.Errorf("u%d was given %d broadcasts after it had lost the right", i+2, n)
		}
	}
	again := time.NewTicker(50 * time.Millisecond) // what is sent before it hears is not delivered
	defer again.Stop()
	for end := time.Now().Add(patience); count(speaker, broadcastOf("a", "after")) == 0; <-again.C {
		if time.Now().After(end) {
			t.Fatalf("the server does not hear again; the client heard %s", speaker.said())
		}
		exec(`select realtime.send('{}', 'after', 'a')`)
	}
}
