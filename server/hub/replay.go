package hub

import (
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// history is what a subscription is given before anything else: messages that its admission saw. Until the last of them has
// been given, what has passed the gate waits behind them.
type history struct {
	awaited bool
	last    bool              // no more pages follow
	page    []*protocol.Frame // came, and is not given because the rights are in doubt
	given   []func()          // to be called when it is, or never will be
	behind  []*protocol.Frame
	bytes   int // of behind
}

// AwaitReplay has a private subscription be given nothing before its history, which its owner reads when it is Admitted and
// gives with Replay. To be called before Join.
func (s *Subscription) AwaitReplay() { s.history.awaited = true }

// Admission is the snapshot that divides history from what is given live. To be called by Member.Admitted alone.
func (s *Subscription) Admission() snapshot.Snapshot { return s.gate.since }

// Replay gives a page of a subscription's history, as soon as its rights are not in doubt; last: what has waited behind it
// follows. given is called when the page is in the member's queue, or never will be; it must not block. The owner bounds the
// page, and how many are on their way.
func (h *Hub) Replay(s *Subscription, page []*protocol.Frame, last bool, given func()) {
	h.log.appendTo(h.workerOf(s), replay{s, page, last, given})
}

type replay struct {
	sub   *Subscription
	page  []*protocol.Frame
	last  bool
	given func()
}

func (e replay) apply(w *worker) {
	s := e.sub
	if s.gate.state == gateEnded || !s.history.awaited {
		e.given()
		return
	}
	w.listen()
	s.history.page = append(s.history.page, e.page...)
	s.history.last = e.last
	s.history.given = append(s.history.given, e.given)
	w.replay(s)
}

// replay gives what there is of a subscription's history, unless its rights are in doubt.
func (w *worker) replay(s *Subscription) {
	h := &s.history
	if !h.awaited || s.gate.state != gateOpen {
		return
	}
	for _, f := range h.page {
		w.hand(s, f)
	}
	h.page = nil
	if h.last {
		for _, f := range h.behind {
			w.hand(s, f)
		}
		h.awaited, h.behind, h.bytes = false, nil, 0
		w.recount(s)
	}
	h.tell()
}

// wait puts a frame behind the history.
func (h *history) wait(f *protocol.Frame) {
	h.behind = append(h.behind, f)
	h.bytes += f.Size()
}

// tell says of what came that it has been given, or never will be.
func (h *history) tell() {
	for _, given := range h.given {
		given()
	}
	h.given = nil
}

// drop gives all up: the subscription has ended.
func (h *history) drop() {
	h.tell()
	*h = history{}
}
