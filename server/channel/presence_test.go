package channel

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/bucket"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/presence"
	"rowcast/server/protocol"
)

// presentChannel is a channel that may do everything, on a hub that nobody else uses.
func presentChannel(t *testing.T) (*Channel, *told) {
	c, client := heldChannel()
	m := metrics.New()
	h := hub.New(hub.Options{Workers: 1, Metrics: m})
	t.Cleanup(h.Close)
	c.session.Hub, c.session.Presence = h, presence.NewRegistry(presence.Options{Hub: h, Metrics: m})
	c.room = hub.Room{Name: "a", Private: true}
	c.sub = hub.NewSubscription(c.room, 1, "u", c)
	c.Decided(maySend)
	return c, client
}

func (c *Channel) event(ref, event string) {
	c.pushPresence(protocol.Message{Ref: protocol.TextRef(ref), Topic: c.topic, Event: protocol.EventPresence,
		Payload: fmt.Appendf(nil, `{"event":%q,"payload":{"n":1}}`, event)})
}

func (c *Channel) present() string { return string(c.session.Presence.State(c.room)) }

// The status that each push was answered with, in the order of the answers.
func (t *told) statuses() (all []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.frames {
		if found := regexp.MustCompile(`"(\w+)","realtime:a","phx_reply",\{"status":"(\w+)"`).FindStringSubmatch(f); found != nil {
			all = append(all, found[1]+" "+found[2])
		}
	}
	return all
}

var mayAll = hub.Rights{Broadcast: hub.Right{Receive: true, Send: true}, Presence: hub.Right{Receive: true, Send: true}}

// A channel that was joined without presence has not been asked about it: what was decided before says nothing about a
// track. What is sent behind the track does not overtake it.
func TestTrackWaitsUntilPresenceIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rights hub.Rights
		want   string
	}{"allowed": {mayAll, "ok"}, "denied": {maySend, "error"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, client := presentChannel(t)
				c.event("track", "track")
				c.Decided(mayAll) // about what was asked before
				c.say("behind")
				if got := client.statuses(); len(got) != 0 {
					t.Fatalf("answered %q", got)
				}
				c.asked = c.generation
				c.Decided(tt.rights)
				if got, want := client.statuses(), []string{"track " + tt.want, "behind ok"}; !slices.Equal(got, want) {
					t.Errorf("answered %q, want %q", got, want)
				}
				time.Sleep(time.Second) // for others to be told
				if here := c.present() != "{}"; here != (tt.want == "ok") {
					t.Errorf("present are %s", c.present())
				}
				c.end()
			})
		})
	}
}

// What waits too long is refused; to be present no more needs no decision, but keeps its place.
func TestPresenceThatWaitsTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, client := presentChannel(t)
		c.presence.on = true
		c.Decided(mayAll)
		c.event("before", "track")
		c.Held()
		c.event("again", "track")
		c.event("untrack", "untrack")
		synctest.Wait()
		if got := client.statuses(); !slices.Equal(got, []string{"before ok"}) {
			t.Fatalf("answered %q", got)
		}
		time.Sleep(waitingTime)
		synctest.Wait()
		if got := client.statuses(); !slices.Equal(got, []string{"before ok", "again error", "untrack ok"}) {
			t.Errorf("answered %q", got)
		}
		time.Sleep(time.Second) // for others to be told
		if got := c.present(); got != "{}" {
			t.Errorf("present are %s", got)
		}
		c.event("late", "untrack") // nothing waits: at once
		if got := client.statuses(); got[len(got)-1] != "late ok" {
			t.Errorf("answered %q", got)
		}
		c.end()
		c.event("ended", "track")
		if got := client.statuses(); got[len(got)-1] != "ended error" {
			t.Errorf("answered %q", got)
		}
	})
}

// While marks keep coming, an answer takes a right to send away at once; it gives none.
func TestStillHeldTakesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, client := presentChannel(t)
		c.presence.on = true
		c.Decided(mayAll)
		c.event("one", "track")
		c.Held()
		c.StillHeld(maySend)
		synctest.Wait()
		if got := c.present(); got != "{}" {
			t.Errorf("present are %s, without the right", got)
		}
		c.StillHeld(mayAll)
		c.event("two", "track")
		if got, want := client.statuses(), []string{"one ok"}; !slices.Equal(got, want) {
			t.Errorf("answered %q, want %q", got, want)
		}
		c.Decided(mayAll)
		if got, want := client.statuses(), []string{"one ok", "two ok"}; !slices.Equal(got, want) {
			t.Errorf("answered %q, want %q", got, want)
		}
		c.end()
		time.Sleep(time.Second)
	})
}

// A channel that ends while a decision tells of its rights leaves nothing behind.
func TestDecisionAboutAChannelThatHasEnded(t *testing.T) {
	t.Parallel()
	c, _ := presentChannel(t)
	c.presence.on = true
	c.end()
	c.Decided(mayAll)
	c.Outdated()
	if c.presence.member != nil {
		t.Error("a member of a channel that has ended")
	}
}

// What is tracked counts as bytes of the socket, as messages do.
func TestTracksCountAsBytes(t *testing.T) {
	t.Parallel()
	c, client := presentChannel(t)
	c.presence.on = true
	c.Decided(mayAll)
	c.session.bytes = bucket.New(1) // which a track uses up for seconds
	c.event("one", "track")
	c.event("two", "track")
	if got, want := client.statuses(), []string{"one ok", "two error"}; !slices.Equal(got, want) || !strings.Contains(strings.Join(client.frames, ""), protocol.TextTooManyBytes) {
		t.Errorf("answered %q, want %q: %q", got, want, client.frames)
	}
}
