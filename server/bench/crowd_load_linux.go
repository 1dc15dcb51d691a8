package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// crowd is guests who come to parties together, talk all at once, and go together.
type crowd struct {
	*generator
	plan    crowding
	parties []*party

	phase struct { // counted anew in each
		told   told
		caused int64 // when the last was done that others have to know
	}
	frames  int64 // heard
	staying int   // guests that are neither gone nor going
	right   int   // of these: know exactly who is present
	rightAt int64 // when the last came to know
	gone    int
	asked   int // questions that have no answer yet
	faults  faults
}

// party is a room of a crowd.
type party struct {
	room   *room
	guests []*client
	turns  []byte // by seat: with what it is present; 0: it is not
	tail   []byte // of all that is said there
}

// guest is what a client of a crowd has heard.
type guest struct {
	party  *party
	seat   int
	asked  uint16   // the refs that have none, as bits
	heard  []uint16 // by seat: which of its messages, as bits
	told   bool     // has had presence_state
	known  picture
	right  bool
	closed bool // its channel
}

// The refs of what a guest asks.
const (
	refJoin = 1 + iota
	_       // of broadcasts, which are not answered
	refTrack
	refTrackAgain
	refLeave
)

func newCrowd(g *generator) *crowd {
	w := &crowd{generator: g, plan: *g.plan.Crowd}
	g.hear, g.left = w.hearing, w.hasLeft
	parties := map[*room]*party{}
	for _, c := range g.clients {
		p := parties[c.room]
		if p == nil {
			p = &party{room: c.room, tail: fmt.Appendf(nil, `,"ref":null,"topic":"%s"}`, c.as.Topic)}
			parties[c.room] = p
			w.parties = append(w.parties, p)
		}
		c.guest = &guest{party: p, seat: len(p.guests), asked: 1 << refJoin}
		p.guests = append(p.guests, c)
		p.turns = append(p.turns, 0)
	}
	for _, c := range g.clients {
		c.guest.heard = make([]uint16, len(c.guest.party.guests))
	}
	w.staying, w.asked = len(g.clients), len(g.clients)
	return w
}

// visit goes from phase to phase, as long as nothing is wrong. After the first it waits for stop to say something, so that
// memory can be read.
func (w *crowd) visit(stop int) error {
	for _, phase := range []struct {
		about string
		do    func() error
	}{{reportReady, w.arrive}, {reportTalked, w.talk}, {reportHalved, w.halve}, {reportDone, w.depart}} {
		w.phase.told, w.phase.caused = told{}, 0
		first := w.read()
		if err := phase.do(); err != nil {
			return err
		}
		r := w.generator.report(phase.about, first, w.read())
		r.Told, r.Faults = w.phase.told, w.faults
		if 0 < w.phase.caused && w.phase.caused < w.rightAt {
			r.Settled = time.Duration(w.rightAt - w.phase.caused)
		}
		if err := w.tell(r); err != nil || w.wrong() {
			return err
		}
		if phase.about == reportReady {
			if err := w.pause(stop); err != nil {
				return err
			}
		}
		if phase.about == reportTalked && !w.plan.Presence {
			return nil
		}
	}
	return nil
}

func (w *crowd) wrong() bool { return w.cut > 0 || w.faults.any() }

func (w *crowd) pause(stop int) error {
	if err := w.serveUntil(stop); err != nil {
		return err
	}
	var line [1]byte
	if _, err := unix.Read(stop, line[:]); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}

// await serves the sockets until it is so, or until nothing comes any more.
func (w *crowd) await(so func() bool) error {
	heard, since := w.frames, time.Now()
	for !so() {
		if err := w.turn(100); err != nil {
			return err
		}
		if w.frames != heard {
			heard, since = w.frames, time.Now()
		} else if time.Since(since) > w.plan.Patience {
			return nil
		}
	}
	return nil
}

// settled tells whether all has been answered, and all who stay know who is present.
func (w *crowd) settled() bool { return w.asked == 0 && (!w.plan.Presence || w.right == w.staying) }

// arrive has all join, and be present.
func (w *crowd) arrive() error {
	if w.plan.Presence {
		for _, p := range w.parties {
			for seat := range p.turns {
				p.turns[seat] = '1'
			}
		}
	}
	if err := w.connectAll(); err != nil {
		return err
	}
	if err := w.await(w.settled); err != nil {
		return err
	}
	w.judge()
	return nil
}

// talk has everyone say all it has to say, before anybody listens, while every second is present with something else.
func (w *crowd) talk() error {
	if w.plan.Presence {
		for _, p := range w.parties {
			for seat := 0; seat < len(p.turns); seat += 2 {
				p.turns[seat] = '2'
			}
		}
		w.lookAgain()
	}
	for n := range w.plan.Messages {
		for _, c := range w.clients {
			if c.stage != joined {
				continue
			}
			w.send(c, c.room.broadcast.at(time.Now().UnixNano(), messageNumber(c.guest.seat, n)))
			c.room.published++
			if w.plan.Presence && n == w.plan.Messages/2 && c.guest.seat%2 == 0 {
				w.track(c, refTrackAgain, '2')
			}
		}
	}
	if err := w.await(func() bool { return w.missing() == 0 && w.settled() }); err != nil {
		return err
	}
	w.judge()
	return nil
}

// halve has half of all go at once: of some parties nobody, of some everyone.
func (w *crowd) halve() error {
	var going []*client
	for i, p := range w.parties {
		seats := len(p.guests)
		for seat, c := range p.guests {
			if (seat*7+i)%seats < i%(seats+1) {
				going = append(going, c)
				p.turns[seat] = 0
			}
		}
	}
	return w.sendAway(going)
}

// depart has the rest go.
func (w *crowd) depart() error {
	var going []*client
	for _, c := range w.clients {
		if c.stage == joined {
			going = append(going, c)
		}
	}
	return w.sendAway(going)
}

func (w *crowd) sendAway(going []*client) error {
	w.phase.caused = time.Now().UnixNano()
	gone := w.gone + len(going)
	for _, c := range going {
		if c.guest.right {
			w.right--
		}
		c.stage = leaving
		w.staying--
	}
	w.lookAgain()
	for _, c := range going {
		w.leave(c)
	}
	if err := w.await(func() bool { return w.gone == gone && w.settled() }); err != nil {
		return err
	}
	w.faults.add(notEnded, gone-w.gone, "sockets that wanted to leave are there still")
	w.judge()
	return nil
}

// leave ends a guest's visit in one of the three ways there are.
func (w *crowd) leave(c *client) {
	switch c.guest.seat % 3 {
	case 0:
		w.ask(c, refLeave, "phx_leave", "{}")
	case 1:
		w.sendClose(c)
	case 2:
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // so the kernel sends a reset
		_ = unix.Close(c.fd)
		w.byFD[c.fd] = nil
		c.stage = ended
		w.gone++
	}
}

func (w *crowd) sendClose(c *client) { w.send(c, appendFrame(nil, opClose, []byte{0x03, 0xe8}, true)) }

func (w *crowd) track(c *client, ref int, turn byte) {
	w.ask(c, ref, "presence", `{"type":"presence","event":"track","payload":`+seatMeta(c.guest.seat, turn)+`}`)
	w.phase.caused = time.Now().UnixNano()
}

// ask sends what wants an answer.
func (w *crowd) ask(c *client, ref int, event, payload string) {
	w.asked++
	c.guest.asked |= 1 << ref
	w.send(c, appendFrame(nil, opText,
		fmt.Appendf(nil, `{"topic":"%s","event":"%s","payload":%s,"ref":"%d","join_ref":"1"}`, c.as.Topic, event, payload, ref), true))
}
