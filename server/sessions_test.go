package main

import (
	"fmt"
	"sync"
	"testing"

	"rowcast/server/pgtest"
)

// The list of sessions can be asked for while people join: what the race detector says is what this test is about.
func TestSessionsWhilePeopleJoin(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxJoinsPerSecond = 0 })
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	c := r.dial(token(t, "u1", "authenticated", nil))
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			for s := range r.sessions() {
				if s.Topic != "a" || s.Subject != "u1" {
					t.Errorf("listed: %q %q", s.Subject, s.Topic)
				}
			}
		}
	})
	for i := range 100 { // most are refused: the room is another's
		room := "a"
		if i%10 > 0 {
			room = fmt.Sprint("elsewhere", i)
		}
		c.reply(c.push("", "realtime:"+room, "phx_join", map[string]any{"config": private()}))
	}
	close(done)
	group.Wait()
}
