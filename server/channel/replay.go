package channel

import (
	"context"
	"log/slog"
	"time"

	"rowcast/server/hub"
	"rowcast/server/messages"
	"rowcast/server/protocol"
)

// joinTime is how long a join may take in all: less than the ten seconds after which the official client gives it up.
const joinTime = 9 * time.Second

// wantsReplay tells whether the client asked for what was sent before.
func (c *Channel) wantsReplay() bool { return c.room.Private && c.options.Replay.Asked }

// beginReplay has the past read. The join is answered when its first page is there; the hub keeps everything live behind it.
func (c *Channel) beginReplay(r hub.Rights) {
	if !r.Broadcast.Receive { // somebody who may see who is present, and no more
		c.session.Hub.Leave(c.sub)
		c.conclude(protocol.Unauthorized, protocol.DenialRead(c.topic), protocol.EventClose)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.mu.Lock()
	c.cancelReplay = cancel
	ended := c.ended
	c.mu.Unlock()
	if ended {
		cancel()
		return
	}
	admission := c.sub.Admission()
	go func() {
		defer cancel()
		joining, done := context.WithDeadline(ctx, c.since.Add(joinTime))
		past, err := c.session.Replayer.Find(joining, c.topic, c.joinRef, c.options.Replay, admission)
		var first messages.Page
		if err == nil {
			first, err = c.session.Replayer.Next(joining, past)
		}
		done()
		page := &first
		if c.waitsForChanges() {
			page = nil // as one that has to wait for its turn
		}
		if err == nil && c.admit(ctx) {
			c.tellGap(past.Gap, past.Left())
			err = c.replay(ctx, past, page)
		}
		if err != nil && ctx.Err() == nil {
			c.failReplay(err)
		}
	}()
}

// replay gives page by page, each when all has left that waits for the client: so a long past never makes it a slow reader.
// Of a socket's channels one at a time does so. A first page that has to wait is read again rather than kept.
func (c *Channel) replay(ctx context.Context, past *messages.Past, page *messages.Page) error {
	turn := c.session.replayTurn()
	for last := false; !last; page = nil {
		select {
		case turn <- struct{}{}:
		default:
			page = nil
			select {
			case turn <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		}
		var err error
		last, err = c.replayPage(ctx, past, page)
		<-turn
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// replayPage gives the next page, or, when there is none, lets go what is live; last: that was done.
func (c *Channel) replayPage(ctx context.Context, past *messages.Past, page *messages.Page) (last bool, err error) {
	s := c.session
	drained := make(chan struct{})
	s.sender.WhenDrained(func() { close(drained) })
	if !await(ctx, drained) {
		return false, nil
	}
	if page == nil {
		next, err := s.Replayer.Next(ctx, past)
		if err != nil {
			return false, err
		}
		page = &next
	}
	last = past.Left() == 0
	past.Given(*page)
	c.tellGap(page.Gap, 0)
	s.Metrics.Replayed.Add(float64(len(page.Frames)))
	given := make(chan struct{})
	s.Hub.Replay(c.sub, page.Frames, last, func() { close(given) })
	await(ctx, given)
	return last, nil
}

func await(ctx context.Context, event <-chan struct{}) bool {
	select {
	case <-event:
		return true
	case <-ctx.Done():
		return false
	}
}

// tellGap tells the client that something may be missing between what it was given before and what follows.
func (c *Channel) tellGap(gap messages.Gap, following int) {
	text := ""
	switch gap {
	case messages.GapNone:
		return
	case messages.GapUnknown:
		text = protocol.ReplayGap.Text(following)
	case messages.GapLimit:
		text = protocol.GapLimit(following)
	case messages.GapDropped:
		text = protocol.TextGapDropped
	case messages.GapUnreadable:
		text = protocol.TextGapUnreadable
	}
	c.session.Metrics.ReplayGaps.WithLabelValues(string(gap)).Inc()
	c.system("broadcast", protocol.StatusError, protocol.ReplayGap.Because(text))
}

// failReplay ends a channel whose past cannot be read, so that the client tries again.
func (c *Channel) failReplay(err error) {
	c.session.Hub.Leave(c.sub)
	if c.conclude(protocol.UnableToReplayMessages, protocol.TextReplayFailed, protocol.EventError) {
		c.session.repeats.Say(c.session.log(), slog.LevelWarn, err.Error(), "replay failed", "topic", c.name, "err", err)
	}
}

// replayTurn is held by the one channel of the socket that gives a page of its past.
func (s *Session) replayTurn() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == nil {
		s.turn = make(chan struct{}, 1)
	}
	return s.turn
}
