package presence

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testRoom = hub.Room{Name: "a"}

// world is a registry on a hub, in a bubble of its own.
type world struct {
	t        *testing.T
	registry *Registry
	clients  int
}

// inWorld runs a test whose time passes only while everyone waits.
func inWorld(t *testing.T, maxBytes int, play func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New()
		h := hub.New(hub.Options{Workers: 3, Metrics: m})
		defer h.Close()
		play(&world{t: t, registry: NewRegistry(Options{Hub: h, MaxBytes: maxBytes, Metrics: m})})
	})
}

func (w *world) metric(name string) int {
	return int(metricstest.Value(w.t, w.registry.Metrics, name, ""))
}

// client is a channel of a client that keeps up who is present, as it is told.
type client struct {
	t        *testing.T
	world    *world
	sub      *hub.Subscription
	member   *Member
	ignorant bool // reads nothing: that takes time

	mu    sync.Mutex                 // guards all below
	heard []string                   // payloads
	known map[string]map[string]bool // references by key; nil before the state
}

// join makes a client of the room that is told who is present.
func (w *world) join(key string) *client { return w.joinAs(key, &client{}) }

func (w *world) joinAs(key string, c *client) *client {
	w.clients++
	c.t, c.world = w.t, w
	c.sub = hub.NewSubscription(testRoom, uint32(w.clients), "", c)
	w.registry.Hub.Join(c.sub)
	c.member = w.registry.Enter(c.sub, key)
	c.member.Watch()
	return c
}

func (c *client) leave() {
	c.member.Leave()
	c.world.registry.Hub.Leave(c.sub)
}

func (c *client) track(payload string) {
	c.t.Helper()
	if err := c.member.Track([]byte(payload)); err != nil {
		c.t.Error(err)
	}
}

func (*client) Ask(*hub.Subscription, uint64, bool) {}
func (*client) Admitted(hub.Rights)                 {}
func (*client) Held()                               {}
func (*client) Paused()                             {}
func (*client) StillHeld(hub.Rights)                {}
func (*client) Decided(hub.Rights)                  {}
func (*client) Withheld(int)                        {}
func (*client) Outdated()                           {}
func (*client) Missed(hub.Loss)                     {}
func (*client) Ended(hub.End, hub.Verdict)          {}

type people map[string]struct {
	Metas []struct {
		Ref string `json:"phx_ref"`
	}
}

// Deliver takes the payload out of a frame and applies it. A diff must fit what is known.
func (c *client) Deliver(f *protocol.Frame) hub.Outlet {
	if c.ignorant {
		return nil
	}
	text := f.Bytes(protocol.V2)
	text = text[map[byte]int{125: 2, 126: 4, 127: 10}[max(text[1], 125)]:] // without the header
	var parts []json.RawMessage
	c.parse(text, &parts)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, string(parts[4]))
	if f.IsPresenceState() {
		var state people
		c.parse(parts[4], &state)
		c.known = map[string]map[string]bool{}
		c.apply(state, true)
		return nil
	}
	var diff struct{ Joins, Leaves people }
	c.parse(parts[4], &diff)
	if c.known == nil {
		c.t.Error("a diff before the state")
		return nil
	}
	c.apply(diff.Joins, true)
	c.apply(diff.Leaves, false)
	return nil
}

func (c *client) parse(payload []byte, into any) {
	if err := json.Unmarshal(payload, into); err != nil {
		c.t.Errorf("%.200q: %v", payload, err)
	}
}

func (c *client) apply(who people, here bool) {
	for key, p := range who {
		if c.known[key] == nil {
			c.known[key] = map[string]bool{}
		}
		for _, meta := range p.Metas {
			if meta.Ref == "" || c.known[key][meta.Ref] == here {
				c.t.Errorf("%s %q is told again, or was never there (here: %v)", key, meta.Ref, here)
			}
			c.known[key][meta.Ref] = here
		}
	}
}

// knows is who is present as the client has been told: keys with their number of metas.
func (c *client) knows() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		return "nothing"
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(c.known)) {
		n := 0
		for _, here := range c.known[key] {
			if here {
				n++
			}
		}
		if n > 0 {
			all = append(all, fmt.Sprint(key, "×", n))
		}
	}
	return strings.Join(all, " ")
}

// said is what has been heard since the last call, references by their order: ref1, ref2.
func (c *client) said() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.Join(c.heard, "\n")
	c.heard = nil
	return text
}

// naming replaces references by names, the same for the same.
type naming map[string]string

func (n naming) of(text string) string {
	const before = `"phx_ref`
	for rest := text; ; {
		i := strings.Index(rest, before)
		if i < 0 {
			return text
		}
		rest = rest[i+len(before):]
		value := rest[strings.IndexByte(rest, ':')+2:]
		ref := value[:strings.IndexByte(value, '"')]
		if len(ref) == 16 && n[ref] == "" {
			n[ref] = fmt.Sprint("ref", len(n)+1)
		}
		if n[ref] != "" {
			text = strings.ReplaceAll(text, ref, n[ref])
		}
	}
}
