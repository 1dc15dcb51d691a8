package channel

import (
	"slices"
	"strings"
	"testing"

	"rowcast/server/hub"
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
