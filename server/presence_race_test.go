package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"rowcast/server/pgtest"
)

// People come, go, track, lose their sockets and their rights, all at once. When it is over, everyone knows exactly who is
// present.
func TestPresenceAmongRevocations(t *testing.T) {
	t.Parallel()
	const actions = 300
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxPresenceEventsPerSecond, c.MaxJoinsPerSecond = 0, 0 })
	r.exec(presenceRights)
	for n := range people {
		r.grant(fmt.Sprint("u", n), "a", allRights)
	}
	r.grant("watcher", "a", "sees")
	watcher := r.dial(token(t, "watcher", "authenticated", nil)) // is there all the time
	watcher.joined("a", withPresence("", true))
	actors := make([]*actor, people)
	var group sync.WaitGroup
	for n := range actors {
		actors[n] = &actor{r: r, number: n, rng: rand.New(rand.NewPCG(uint64(n), 7))}
		group.Go(func() {
			for range actions {
				actors[n].act()
			}
		})
	}
	group.Wait()
	want := ""
	for n, a := range actors {
		r.grant(fmt.Sprint("u", n), "a", allRights)
		a.arrive()
		want += fmt.Sprintf(" k%d:final", n)
	}
	watcher.learns("a", strings.TrimSpace(want))
	for _, a := range actors {
		a.client.learns("a", strings.TrimSpace(want))
	}
	for _, event := range []string{"track", "untrack", "revoked"} {
		t.Logf("%s: %v times", event, labelled(t, r, "realtime_presence_events_total", event))
	}
	t.Logf("%v states, %v diffs", labelled(t, r, "realtime_presence_states_total", ""), labelled(t, r, "realtime_presence_diffs_total", ""))
}

const (
	people    = 6
	allRights = "hears speaks sees appears"
)

// actor is somebody who does what comes to mind.
type actor struct {
	r       *running
	number  int
	rng     *rand.Rand
	client  *client
	joinRef string
}

func (a *actor) act() {
	if a.client == nil || a.rng.IntN(12) == 0 {
		a.connect()
	}
	switch a.rng.IntN(16) {
	case 0:
		a.joinRef, _, _ = a.client.join("a", withPresence(fmt.Sprint("k", a.number), true))
	case 1:
		config := private()
		config["presence"] = map[string]any{"key": fmt.Sprint("k", a.number)}
		a.joinRef, _, _ = a.client.join("a", config)
	case 2:
		a.client.reply(a.client.push(a.joinRef, "realtime:a", "phx_leave", map[string]any{}))
	case 3:
		a.client.presence(a.joinRef, "a", "untrack", nil)
	case 4, 5:
		rights := ""
		for right := range strings.FieldsSeq(allRights) {
			if a.rng.IntN(4) > 0 {
				rights += right + " "
			}
		}
		a.r.grant(fmt.Sprint("u", a.rng.IntN(people)), "a", rights)
	case 6, 7, 8:
		a.r.grant(fmt.Sprint("u", a.number), "a", allRights)
		a.joinRef, _, _ = a.client.join("a", withPresence(fmt.Sprint("k", a.number), true))
	default:
		a.client.presence(a.joinRef, "a", "track", map[string]any{"n": a.rng.IntN(3)})
	}
}

// connect drops the socket and opens another.
func (a *actor) connect() {
	if a.client != nil {
		a.client.conn.CloseNow()
	}
	a.client = a.r.dialVersion(versions[a.rng.IntN(2)], token(a.r.t, fmt.Sprint("u", a.number), "authenticated", nil))
}

// arrive makes somebody present who has every right by now. A decision about the rights before may still be under way: then
// the next attempt does.
func (a *actor) arrive() {
	a.r.await("everyone to arrive", func() bool {
		if a.client == nil || a.client.presence(a.joinRef, "a", "track", map[string]any{"n": "final"}) != "ok" {
			a.connect()
			a.joinRef, _, _ = a.client.join("a", withPresence(fmt.Sprint("k", a.number), true))
			return false
		}
		return true
	})
}
