package main

import (
	"bytes"
	"fmt"
	"strings"
)

// mostMessages is how many a guest may say: as many as bits are kept of them.
const mostMessages = 16

// messageNumber is the number of a guest's nth message, in the stamp of its room.
func messageNumber(seat, n int) int64 { return int64(seat*mostMessages + n) }

// hearing is a text frame of the server. What only a broken server says is an error; what a server under load may get wrong
// is counted.
func (w *crowd) hearing(c *client, payload []byte, size int, now int64) error {
	w.frames++
	v := c.guest
	if v.closed {
		return fmt.Errorf("a message of a channel that is closed: %.300q", payload)
	}
	switch event := eventOf(payload); string(event) {
	case "broadcast":
		return w.broadcast(c, payload, size)
	case "presence_state", "presence_diff":
		w.phase.told.Frames++
		w.phase.told.Bytes += int64(size)
		if !w.plan.Presence || c.stage == joining {
			return fmt.Errorf("presence that nobody asked for: %.300q", payload)
		}
		return w.presence(c, payload, string(event) == "presence_state", now)
	case "phx_reply":
		return w.reply(c, payload)
	case "phx_close":
		v.closed = true
		if c.stage != leaving {
			w.faults.add(closed, 1, string(payload))
			return nil
		}
		w.sendClose(c)
	case "system":
		w.faults.add(system, 1, string(payload))
	default:
		return fmt.Errorf("unexpected message: %.300q", payload)
	}
	return nil
}

// broadcast notes which message of whom that was.
func (w *crowd) broadcast(c *client, payload []byte, size int) error {
	v := c.guest
	_, number, ok := readStamp(payload)
	seat, n := int(number/mostMessages), number%mostMessages
	if !ok || !bytes.HasSuffix(payload, v.party.tail) || seat >= len(v.heard) || int(n) >= w.plan.Messages {
		return fmt.Errorf("a broadcast that nobody sent there: %.300q", payload)
	}
	switch bit := uint16(1) << n; {
	case v.heard[seat]&bit != 0:
		w.faults.add(twice, 1, string(payload))
	case v.heard[seat] >= bit: // a later one came before
		w.faults.add(disordered, 1, string(payload))
		fallthrough
	default:
		v.heard[seat] |= bit
		c.room.deliveries++
		w.deliveries++
		w.bytes += int64(size)
	}
	return nil
}

// presence applies what a client is told to what it knows.
func (w *crowd) presence(c *client, payload []byte, state bool, now int64) error {
	v := c.guest
	r := presenceReader{rest: payload, seats: len(v.heard)}
	joins := func(m presentMeta) {
		if !v.known.join(m) {
			w.faults.add(mistold, 1, "somebody joins again: "+string(payload))
		}
		if !state {
			w.phase.told.Changes++
		}
	}
	if state {
		r.need(`{"event":"presence_state","payload":`)
		w.phase.told.Changes++ // which takes a frame in any case
		v.known = v.known[:0]
		r.present(joins)
	} else {
		r.need(`{"event":"presence_diff","payload":{"joins":`)
		r.present(joins)
		r.need(`,"leaves":`)
		r.present(func(m presentMeta) {
			if !v.known.leave(m) {
				w.faults.add(mistold, 1, "somebody leaves who was not there: "+string(payload))
			}
			if !v.known.has(m.seat) { // else it has changed, which is counted
				w.phase.told.Changes++
			}
		})
		r.need("}")
		if !v.told {
			w.faults.add(mistold, 1, "a diff before the state: "+string(payload))
		}
	}
	if r.wrong || !bytes.Equal(r.rest, v.party.tail) {
		return fmt.Errorf("presence that cannot be read, from %.100q: %.300q", r.rest, payload)
	}
	if state && !v.told {
		v.told = true
		w.track(c, refTrack, '1')
	}
	w.look(c, now)
	return nil
}

// look notes whether a guest knows now who is present.
func (w *crowd) look(c *client, now int64) {
	v := c.guest
	if c.stage != joined {
		return
	}
	right := v.told && v.known.is(v.party.turns)
	switch {
	case right && !v.right:
		w.right++
		w.rightAt = now
	case v.right && !right:
		w.right--
	}
	v.right = right
}

// lookAgain is for when others are to be present.
func (w *crowd) lookAgain() {
	for _, c := range w.clients {
		w.look(c, w.rightAt)
	}
}

func (w *crowd) reply(c *client, payload []byte) error {
	v := c.guest
	_, rest, _ := bytes.Cut(payload, []byte(`"ref":"`))
	if len(rest) < 2 || rest[0] < '0' || rest[0] > '9' || rest[1] != '"' || v.asked&(1<<(rest[0]-'0')) == 0 {
		return fmt.Errorf("a reply that nobody asked for: %.300q", payload)
	}
	if !bytes.Contains(payload, []byte(`"status":"ok"`)) {
		return fmt.Errorf("refused: %.300q", payload)
	}
	ref := int(rest[0] - '0')
	w.asked--
	v.asked &^= 1 << ref
	if ref == refJoin {
		c.stage = joined
		w.joining--
		w.joined++
	}
	return nil
}

// hasLeft is the end of a socket that wanted to: the server has to answer its close frame.
func (w *crowd) hasLeft(c *client, why string) {
	w.gone++
	if !strings.HasPrefix(why, "close frame") {
		w.faults.add(notEnded, 1, why)
	}
}

// judge counts, when all should have been heard, what was not, who does not know who is present, and who knows other
// references than the rest of its party.
func (w *crowd) judge() {
	w.faults.add(lost, int(w.missing()), "messages")
	w.faults.add(lost, w.asked, "answers")
	for _, p := range w.parties {
		var first *guest
		for _, c := range p.guests {
			v := c.guest
			switch {
			case c.stage != joined || !w.plan.Presence:
			case !v.right:
				w.faults.add(wrongPicture, 1, fmt.Sprintf("%s, seat %d knows %s, present are %s", c.as.Topic, v.seat, v.known, bytes.ReplaceAll(p.turns, []byte{0}, []byte{'-'})))
			case first == nil:
				first = v
			case !v.known.same(first.known):
				w.faults.add(wrongPicture, 1, fmt.Sprintf("%s, seat %d has other references than seat %d", c.as.Topic, v.seat, first.seat))
			}
		}
	}
}
