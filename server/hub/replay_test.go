package hub

import (
	"testing"

	"rowcast/server/protocol"
)

// replaying is a worker with one subscription that was admitted and waits for its past.
func replaying(t *testing.T, maxHeld int) (*worker, *recorder, *Subscription) {
	w, r := bareWorker(maxHeld), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	s.AwaitReplay()
	join{s}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
	return w, r, s
}

func onePage() []*protocol.Frame {
	return []*protocol.Frame{protocol.TextBroadcast("realtime:a", []byte(`{}`))}
}

// What has waited behind the past does not count once it was given: as much may wait again.
func TestWhatWaitedBehindTheReplayIsCountedOff(t *testing.T) {
	t.Parallel()
	w, r, s := replaying(t, 10*onePage()[0].Size())
	for range 10 {
		msg(w, 60)
	}
	if r.delivered != 0 || r.ended != 0 {
		t.Fatalf("delivered %d, ended %d", r.delivered, r.ended)
	}
	replay{s, onePage(), true, func() {}}.apply(w)
	if r.delivered != 11 || len(w.held) > 0 {
		t.Fatalf("delivered %d, held %v", r.delivered, w.held)
	}
	(&marking{mark: Mark{XID: 70}}).apply(w)
	for range 10 {
		msg(w, 80)
	}
	if r.ended != 0 {
		t.Error("what was given still counts")
	}
	msg(w, 80)
	if r.why != EndHeldTooBig || len(w.held) > 0 {
		t.Errorf("one too many: ended %q, held %v", r.why, w.held)
	}
}

// A page of the past is not given on a lapsed proof, any more than what is live.
func TestNoReplayOnALapsedProof(t *testing.T) {
	t.Parallel()
	w, r, s := replaying(t, 0)
	w.options.Hears = func() bool { return false }
	given := 0
	replay{s, onePage(), true, func() { given++ }}.apply(w)
	if r.delivered != 0 || given != 0 {
		t.Errorf("delivered %d, said to be given %d times", r.delivered, given)
	}
}

// Whoever brings a page is told when it was given, and when it never will be.
func TestPagesAreAccountedFor(t *testing.T) {
	t.Parallel()
	w, r, s := replaying(t, 0)
	given := 0
	bring := func() { replay{s, onePage(), false, func() { given++ }}.apply(w) }
	if bring(); given != 1 || r.delivered != 1 {
		t.Fatalf("said to be given %d times, delivered %d", given, r.delivered)
	}
	(&marking{mark: Mark{XID: 70}}).apply(w)
	if bring(); given != 1 {
		t.Fatalf("said to be given %d times in doubt", given)
	}
	answer{s, Verdict{Round: r.last(), Snapshot: snap(t, "80:80:")}}.apply(w)
	if given != 2 || r.why != EndRevoked {
		t.Fatalf("said to be given %d times, ended %q", given, r.why)
	}
	if bring(); given != 3 || r.delivered != 1 {
		t.Errorf("said to be given %d times, delivered %d after the end", given, r.delivered)
	}
}

// What was let go comes off the count once, however often something is let go.
func TestWhatWasLetGoIsCountedOffOnce(t *testing.T) {
	t.Parallel()
	size := onePage()[0].Size()
	w, r, s := admitted(t, 10*size)
	other := &recorder{}
	waiting := NewSubscription(Room{"b", true}, 0, "u", other)
	join{waiting}.apply(w)
	letGo := func(frames int) {
		(&marking{mark: Mark{XID: 70, Topic: "a"}}).apply(w)
		for range frames {
			msg(w, 80)
		}
		answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "90:90:")}}.apply(w)
	}
	letGo(4)
	for range 6 {
		(&Publication{Room: Room{"b", true}, Frame: onePage()[0], XID: 80}).apply(w)
	}
	letGo(1)
	if held := w.held[0]; held != 6*size {
		t.Errorf("%d bytes are said to wait, and six frames of %d do", held, size)
	}
}
