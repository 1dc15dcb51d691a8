package channel

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/auth"
	"rowcast/server/changes"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// wantsChanges is what a join says that asks for changes of a table.
const wantsChanges = `{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"t"}]}}`

// hear has a session hear a message of the client's, in its version.
func (s *Session) hear(ref, event, payload string) {
	if s.version == protocol.V1 {
		s.Frame(false, fmt.Appendf(nil, `{"join_ref":%q,"ref":%q,"topic":"realtime:a","event":%q,"payload":%s}`, ref, ref, event, payload))
		return
	}
	s.Frame(false, fmt.Appendf(nil, `[%q,%q,"realtime:a",%q,%s]`, ref, ref, event, payload))
}

// change is a frame as the engine makes it.
var change = protocol.TextEvent("realtime:a", protocol.EventPostgresChanges, []byte(`{"ids":[1],"data":{}}`))

// quietEngine takes subscriptions and does not run: a test says what members are told.
func quietEngine(m *metrics.Metrics) *changes.Engine {
	return changes.New(changes.Options{Metrics: m, Logger: slog.New(slog.DiscardHandler)})
}

// subscribed is a session with a channel that is subscribed to changes.
func subscribed(t *testing.T, version protocol.Version, client Sender) (*Session, *Channel) {
	t.Helper()
	return asksForChanges(t, version, client, wantsChanges)
}

// asksForChanges is a session with a channel whose join has asked for changes.
func asksForChanges(t *testing.T, version protocol.Version, client Sender, join string) (*Session, *Channel) {
	t.Helper()
	m := metrics.New()
	h := hub.New(hub.Options{Workers: 1, Metrics: m})
	s := NewSession(&Options{Hub: h, Changes: quietEngine(m), Verifier: newVerifier(t), Metrics: m, Logger: slog.New(slog.DiscardHandler)}, version,
		Identity{Claims: auth.Claims{Role: "anon", Expires: time.Now().Add(time.Hour)}}, client)
	t.Cleanup(h.Close)
	t.Cleanup(s.Close)
	s.hear("1", protocol.EventJoin, join)
	synctest.Wait()
	s.mu.Lock()
	c := s.channels["realtime:a"]
	s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes == nil {
		t.Fatal("not subscribed")
	}
	return s, c
}

// endsOfChannels are the ways in which a channel ends; closed: the client is told so.
var endsOfChannels = map[string]struct {
	closed bool
	end    func(s *Session, c *Channel)
}{
	"leave":        {true, func(s *Session, _ *Channel) { s.hear("1", protocol.EventLeave, "{}") }},
	"another join": {true, func(s *Session, _ *Channel) { s.hear("3", protocol.EventJoin, wantsChanges) }},
	"revocation": {true, func(s *Session, c *Channel) {
		s.Hub.Leave(c.sub)
		c.Ended(hub.EndRevoked, hub.Verdict{})
	}},
	"deaf": {true, func(s *Session, c *Channel) {
		s.Hub.Leave(c.sub)
		c.Ended(hub.EndDeaf, hub.Verdict{})
	}},
	"token's expiry": {true, func(_ *Session, c *Channel) { c.close(protocol.MalformedJWT, "", protocol.EventClose) }},
	"disconnect":     {true, func(s *Session, _ *Channel) { s.disconnect("you go") }},
	"socket's end":   {false, func(s *Session, _ *Channel) { s.Close() }},
}

// By whichever way a channel ends, its client is told of no change, and nothing about changes, from then on. What comes
// while it ends comes before.
func TestNothingOfChangesFollowsTheEnd(t *testing.T) {
	t.Parallel()
	for name, way := range endsOfChannels {
		for _, version := range []protocol.Version{protocol.V1, protocol.V2} {
			t.Run(name+" on "+version.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					client := &told{}
					s, c := subscribed(t, version, client)
					member := changesMember{c}
					if member.Deliver(change); client.count(`{"ids":[1]`) != 1 {
						t.Fatalf("not delivered: %q", client.frames)
					}
					var engine sync.WaitGroup
					var stop atomic.Bool
					engine.Go(func() {
						for !stop.Load() {
							member.Deliver(change)
							member.Notice("", "a notice")
						}
					})
					way.end(s, c)
					stop.Store(true)
					engine.Wait()
					synctest.Wait()
					member.Deliver(change)
					member.Notice(protocol.PostgresChangesGap, "a notice")
					client.mu.Lock()
					defer client.mu.Unlock()
					closed := false
					for _, f := range client.frames {
						switch {
						case strings.Contains(f, `"phx_close"`) || strings.Contains(f, `"phx_error"`):
							closed = true
						case closed && (strings.Contains(f, "a notice") || strings.Contains(f, string(change.Bytes(version)))):
							t.Errorf("%q follows the end", f)
						}
					}
					if closed != way.closed {
						t.Errorf("closed: %t", closed)
					}
				})
			})
		}
	}
}

// A change that still waits for the client when its channel ends is given up as a broadcast is.
func TestEndGivesUpChangesThatWait(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"leave", "another join", "revocation", "token's expiry", "disconnect", "socket's end"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := &behind{queued: map[string]*atomic.Bool{}}
				s, c := subscribed(t, protocol.V2, client)
				out := changesMember{c}.Deliver(change)
				if out == nil || (changesMember{c}).Deliver(change) != nil {
					t.Fatal("who has to flush is told once")
				}
				out.Flush()
				void := client.queued[string(change.Bytes(protocol.V2))]
				if void == nil || void.Load() {
					t.Fatal("not delivered, or given up at once")
				}
				endsOfChannels[name].end(s, c)
				if !void.Load() {
					t.Error("the frame still waits to leave")
				}
			})
		})
	}
}

// What cannot be understood is told, and the channel stays.
func TestEntriesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := &told{}
		s, _ := subscribed(t, protocol.V2, client)
		s.Frame(false, []byte(`["3","3","realtime:b","phx_join",{"config":{"postgres_changes":[{"event":"*","filter":"a=eq.1"}]}}]`))
		synctest.Wait()
		const want = `"system",{"extension":"postgres_changes","status":"error","message":"No subscription params provided.`
		if last := client.frames[len(client.frames)-1]; !strings.Contains(last, want) {
			t.Errorf("told %q", last)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.channels["realtime:b"] == nil {
			t.Error("the channel is gone")
		}
	})
}

// count is how many frames hold a text.
func (t *told) count(text string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.frames {
		if strings.Contains(f, text) {
			n++
		}
	}
	return n
}
