package hub

import (
	"slices"
	"testing"

	"rowcast/server/protocol"
)

// ordered writes down what it is given and told, in this order.
type ordered struct {
	recorder
	all []string
}

func (o *ordered) Admitted(Rights) { o.all = append(o.all, "admitted") }
func (o *ordered) Withheld(int)    { o.all = append(o.all, "withheld") }
func (o *ordered) Missed(how Loss) { o.all = append(o.all, string(how)) }
func (o *ordered) Deliver(f *protocol.Frame) Outlet {
	o.all = append(o.all, "frame")
	return o.recorder.Deliver(f)
}
func (o *ordered) Ended(End, Verdict) { o.all = append(o.all, "ended") }

// A message that cannot be delivered and comes while the rights are in doubt is not lost in silence: whoever turns out to have
// the right is told, before what follows, and nobody else.
func TestLossInDoubtIsTold(t *testing.T) {
	t.Parallel()
	lose := func(w *worker) { dropped{Room{"a", true}}.apply(w) }
	presence := Rights{Presence: Right{Receive: true}}
	for name, tt := range map[string]struct {
		joining bool
		rights  Rights
		want    []string
	}{
		"allowed":        {false, yes, []string{"dropped", "frame", "dropped"}},
		"revoked":        {false, Rights{}, []string{"ended"}},
		"joining":        {true, yes, []string{"admitted", "dropped", "frame", "dropped"}},
		"joining, no":    {true, Rights{}, []string{"ended"}},
		"presence alone": {true, presence, []string{"admitted"}},
	} {
		w, o := bareWorker(0), &ordered{}
		s := NewSubscription(Room{"a", true}, 0, "u", o)
		join{s}.apply(w)
		if !tt.joining {
			answer{s, Verdict{Round: o.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
			(&marking{mark: Mark{XID: 60, Subject: "u"}}).apply(w)
			o.all = nil
		}
		lose(w)
		msg(w, 70)
		for s.gate.asking { // the first was asked before the mark
			answer{s, Verdict{Round: o.last(), Rights: tt.rights, Snapshot: snap(t, "61:61:")}}.apply(w)
		}
		lose(w)
		if !slices.Equal(o.all, tt.want) {
			t.Errorf("%s: %v, want %v", name, o.all, tt.want)
		}
	}
}

// That something is withheld is told before what follows it: a client whose connection ends in between goes on after what
// it was given last.
func TestWithholdingIsToldFirst(t *testing.T) {
	t.Parallel()
	w, o := bareWorker(0), &ordered{}
	s := NewSubscription(Room{"a", true}, 0, "u", o)
	join{s}.apply(w)
	answer{s, Verdict{Round: o.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
	(&marking{mark: Mark{XID: 60, Subject: "u"}}).apply(w)
	msg(w, 61)
	(&marking{mark: Mark{XID: 62, Subject: "u"}}).apply(w)
	msg(w, 63)
	for s.gate.asking {
		answer{s, Verdict{Round: o.last(), Rights: yes, Snapshot: snap(t, "63:63:")}}.apply(w)
	}
	if want := []string{"admitted", "withheld", "frame"}; !slices.Equal(o.all, want) {
		t.Errorf("%v, want %v", o.all, want)
	}
}
