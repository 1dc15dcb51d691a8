package channel

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/auth"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// behind is a client whose frames all wait: it keeps their flags.
type behind struct {
	told
	queued map[string]*atomic.Bool // by payload
	asked  bool                    // somebody was asked to flush
}

func (b *behind) Queue(frame []byte, void *atomic.Bool) (flush bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queued[string(frame)] = void
	flush, b.asked = !b.asked, true
	return flush
}

func (b *behind) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = false
}

// What still waits for a client when its channel ends is given up, by whichever way it ends; what waits for its other
// channels is not, and nothing of the channel that takes its place.
func TestEndOfAChannelGivesUpItsFrames(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *Session, c *Channel){
		"leave": func(s *Session, c *Channel) {
			s.Frame(false, []byte(`["1","9","realtime:a","phx_leave",{}]`))
		},
		"another join": func(*Session, *Channel) {},
		"revocation": func(s *Session, c *Channel) {
			s.Hub.Leave(c.sub) // the hub has taken it out
			c.Ended(hub.EndRevoked, hub.Verdict{})
		},
		"token's expiry": func(_ *Session, c *Channel) { c.close(protocol.MalformedJWT, "", protocol.EventClose) },
		"socket's end":   func(s *Session, _ *Channel) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := hub.New(hub.Options{Workers: 2, Metrics: metrics.New()})
				defer h.Close()
				client := &behind{queued: map[string]*atomic.Bool{}}
				s := NewSession(&Options{Hub: h, Verifier: &auth.Verifier{}, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)}, protocol.V2,
					Identity{Claims: auth.Claims{Expires: time.Now().Add(time.Hour)}}, client)
				defer s.Close()
				join := func(ref, room string) {
					s.Frame(false, fmt.Appendf(nil, `[%q,%q,"realtime:%s","phx_join",{}]`, ref, ref, room))
				}
				say := func(room, payload string) *atomic.Bool {
					t.Helper()
					f := protocol.TextBroadcast("realtime:"+room, fmt.Appendf(nil, `{"event":%q}`, payload))
					h.Publish(hub.Publication{Room: hub.Room{Name: room}, Frame: f})
					synctest.Wait()
					client.mu.Lock()
					defer client.mu.Unlock()
					if client.asked {
						t.Error("nobody flushed")
					}
					return client.queued[string(f.Bytes(protocol.V2))]
				}
				join("1", "a")
				join("2", "b")
				synctest.Wait()
				gone, stays := say("a", "gone"), say("b", "stays")
				if gone == nil || stays == nil || gone == stays || gone.Load() || stays.Load() {
					t.Fatal("not delivered, or given up at once")
				}
				s.mu.Lock()
				c := s.channels["realtime:a"]
				s.mu.Unlock()
				end(s, c)
				if name == "socket's end" {
					if !gone.Load() || !stays.Load() {
						t.Error("the frames of a socket that is gone still wait")
					}
					return
				}
				join("3", "a")
				synctest.Wait()
				if !gone.Load() {
					t.Error("the frame still waits to leave")
				}
				if again := say("a", "again"); again == nil || again.Load() || stays.Load() {
					t.Error("a frame of another channel, or of the next, was given up")
				}
			})
		})
	}
}
