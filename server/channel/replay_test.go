package channel

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/hub"
	"rowcast/server/messages"
	"rowcast/server/protocol"
)

// While the past is read the join is not answered. What is told of the channel meanwhile follows the answer, each thing once.
func TestNothingIsToldBeforeTheJoinIsAnswered(t *testing.T) {
	t.Parallel()
	c, client := openChannel(t)
	c.admitted, c.ref = false, c.joinRef
	c.Missed(hub.LossUnheard)
	c.Paused()
	c.Missed(hub.LossUnheard)
	c.Withheld(3)
	if len(client.frames) > 0 {
		t.Fatalf("told before the answer: %q", client.frames)
	}
	c.welcome()
	c.Missed(hub.LossUnheard)
	var got []string
	for _, frame := range client.frames {
		for name, part := range map[string]string{
			"answer": protocol.EventReply, "lost": protocol.TextMessagesLost, "paused": protocol.Deaf.Reason(), "withheld": "3 message",
		} {
			if strings.Contains(frame, part) {
				got = append(got, name)
			}
		}
	}
	if want := []string{"answer", "lost", "paused", "withheld", "lost"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v: %q", got, want, client.frames)
	}
}

// A track waits for the answer to the join, as everything that is sent does, though the rights are known before.
func TestTrackWaitsUntilTheJoinIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, client := presentChannel(t)
		c.presence.on, c.admitted, c.ref = true, false, c.joinRef
		c.Decided(mayAll)
		c.event("track", "track")
		if got := client.statuses(); len(got) > 0 || c.presence.member != nil {
			t.Errorf("answered %q", got)
		}
		c.welcome()
		if got, want := client.statuses(), []string{"1 ok", "track ok"}; !slices.Equal(got, want) {
			t.Errorf("answered %q, want %q", got, want)
		}
		c.end()
		time.Sleep(time.Second) // the room's window ends
	})
}

// undrained is a client for whom something always waits.
type undrained struct{ told }

func (*undrained) WhenDrained(func()) {}

// A replay ends with its channel, whatever it waits for.
func TestReplayEndsWithItsChannel(t *testing.T) {
	t.Parallel()
	c, _ := openChannel(t)
	c.session.sender = &undrained{}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancelReplay = cancel
	ended := make(chan error)
	go func() { ended <- c.replay(ctx, &messages.Past{}, &messages.Page{}) }()
	c.end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Nothing is read for a channel that has ended meanwhile.
func TestNoReplayForAChannelThatHasEnded(t *testing.T) {
	t.Parallel()
	c, client := openChannel(t)
	c.end()
	c.beginReplay(maySend)
	if c.cancelReplay == nil || len(client.frames) > 0 { // there is nothing that could read: it would panic
		t.Errorf("told %q", client.frames)
	}
}
