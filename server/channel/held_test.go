package channel

import (
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"rowcast/server/auth"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

var maySend = hub.Rights{Broadcast: hub.Right{Receive: true, Send: true}}

// openChannel is a channel that may send, and its client.
func openChannel(t *testing.T) (*Channel, *told) {
	c, client := heldChannel()
	c.session.Hub = hub.New(hub.Options{Workers: 1, Metrics: metrics.New()})
	t.Cleanup(c.session.Hub.Close)
	c.room = hub.Room{Name: "a", Private: true}
	c.admitted = true
	c.Decided(maySend)
	return c, client
}

// What is sent while the rights are in doubt waits for the next decision, and is refused where it says no.
func TestHeldMakesSendsWait(t *testing.T) {
	t.Parallel()
	c, client := openChannel(t)
	c.say("before")
	if client.replies("before") != 1 {
		t.Fatal("an open channel did not send")
	}
	c.Held()
	c.say("in doubt")
	if client.replies("in doubt") != 0 {
		t.Error("sent while in doubt")
	}
	c.Decided(hub.Rights{Broadcast: hub.Right{Receive: true}})
	if refused := client.frames[len(client.frames)-1]; client.replies("in doubt") != 1 || !regexp.MustCompile(protocol.StatusError).MatchString(refused) {
		t.Errorf("not refused: %q", client.frames)
	}
}

// A decision about the token before says nothing about what is sent under the next.
func TestDecisionAboutAnOlderTokenReleasesNothing(t *testing.T) {
	t.Parallel()
	c, client := openChannel(t)
	c.sub = hub.NewSubscription(c.room, 1, "u", c)
	t.Cleanup(c.end)
	c.session.Verifier = newVerifier(t)
	token, err := auth.Mint([]byte(fuzzSecret), auth.MintOptions{Role: "anon"})
	if err != nil {
		t.Fatal(err)
	}
	c.refresh(protocol.Message{Payload: fmt.Appendf(nil, `{"access_token":%q}`, token)}) // not asked about yet
	c.say("under the new token")
	c.Decided(maySend)
	if client.replies("under") != 0 {
		t.Error("sent with a right of the old token")
	}
	c.asked = c.generation
	c.Decided(maySend)
	if client.replies("under") != 1 {
		t.Error("not sent with a right of the new token")
	}
}

// interrupting is a client that sends something else as soon as it hears an answer.
type interrupting struct {
	told
	begun atomic.Bool
	say   func()
}

func (i *interrupting) Send(frame []byte) bool {
	if i.begun.CompareAndSwap(false, true) {
		go i.say()
		for range 1000 { // let it overtake, if it can
			runtime.Gosched()
		}
	}
	return i.told.Send(frame)
}

// What is sent while sends that waited are let go does not overtake them.
func TestNothingOvertakesWhatWaited(t *testing.T) {
	t.Parallel()
	c, _ := openChannel(t)
	var want []string
	c.Held()
	for n := range 20 {
		ref := fmt.Sprint("waited", n)
		c.say(ref)
		want = append(want, ref)
	}
	want = append(want, "later")
	done := make(chan struct{})
	client := &interrupting{say: func() { defer close(done); c.say("later") }}
	c.session.sender = client
	c.Decided(maySend)
	<-done
	var got []string
	for _, f := range client.frames {
		got = append(got, regexp.MustCompile(`waited\d+|later`).FindString(f))
	}
	if !slices.Equal(got, want) {
		t.Errorf("answered in the order %q", got)
	}
}

// Sessions are dealt out to all workers.
func TestSessionsAreNumbered(t *testing.T) {
	t.Parallel()
	o := &Options{Metrics: metrics.New()}
	for n := range uint32(4) {
		if s := NewSession(o, protocol.V2, Identity{}, &told{}); s.number != n+1 {
			t.Errorf("session %d has the number %d", n+1, s.number)
		}
	}
}
