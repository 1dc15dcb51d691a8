package channel

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// told is a client that keeps what it is sent.
type told struct {
	mu     sync.Mutex // guards frames
	frames []string
}

func (t *told) Send(frame []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames = append(t.frames, string(frame))
	return true
}

func (t *told) Queue(frame []byte, _ *atomic.Bool) bool { t.Send(frame); return false }
func (t *told) Flush()                                  {}
func (t *told) WhenDrained(then func())                 { then() }
func (t *told) Disconnect()                             {}

// replies counts the answers to pushes whose ref begins so.
func (t *told) replies(ref string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.frames {
		if strings.Contains(f, `"`+ref) && strings.Contains(f, protocol.EventReply) {
			n++
		}
	}
	return n
}

func heldChannel() (*Channel, *told) {
	client := &told{}
	s := NewSession(&Options{Metrics: metrics.New()}, protocol.V2, Identity{}, client)
	return &Channel{session: s, topic: "realtime:a", name: "a", joinRef: protocol.TextRef("1"), held: true, admitted: true, options: protocol.Join{Ack: true}}, client
}

func (c *Channel) say(ref string) {
	c.broadcast(protocol.Message{Ref: protocol.TextRef(ref), Topic: c.topic, Event: protocol.EventBroadcast, Payload: []byte(`{"event":"e"}`)})
}

func TestSendsThatWaitTooLongAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, client := heldChannel()
		c.say("first")
		time.Sleep(waitingTime - time.Nanosecond)
		c.say("second")
		synctest.Wait()
		if n := client.replies("first") + client.replies("second"); n != 0 {
			t.Fatalf("%d answered early", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if client.replies("first") != 1 || client.replies("second") != 1 {
			t.Fatalf("told %q", client.frames)
		}
		c.say("third") // has a time of its own
		time.Sleep(waitingTime - time.Nanosecond)
		synctest.Wait()
		if client.replies("third") != 0 {
			t.Fatal("answered early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if client.replies("third") != 1 {
			t.Fatal("not answered")
		}
	})
}

// The decision comes at the very moment at which the timer fires, and sends wait anew before the timer gets its turn.
func TestTimerThatFiresLateSparesNewSends(t *testing.T) {
	t.Parallel()
	late := 0
	for i := range 200 {
		synctest.Test(t, func(t *testing.T) {
			c, client := heldChannel()
			c.say("old")
			c.mu.Lock()
			time.Sleep(waitingTime)
			old := c.waiting
			if !old.overdue.Stop() {
				late++ // it has fired, and waits for the lock
			}
			c.takeWaiting()
			c.letWait(waitingPush{frame: protocol.TextBroadcast(c.topic, []byte(`{}`)), ref: protocol.TextRef(fmt.Sprint("new", i))})
			c.mu.Unlock()
			time.Sleep(waitingTime - time.Nanosecond)
			synctest.Wait()
			if n := client.replies("new"); n != 0 {
				t.Fatal("the old timer refused what waits since then")
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if n := client.replies("new"); n != 1 {
				t.Fatalf("%d answers in time", n)
			}
		})
	}
	if late == 0 {
		t.Error("the timer never fired before it was stopped")
	}
}
