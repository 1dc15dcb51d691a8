package hub

import (
	"time"

	"golang.org/x/time/rate"

	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// gate stands before one subscription and decides what passes, and when. It is a state machine; the worker
// does what takes time.
//
//	new → joining → open ⇄ held → ended
//
// In doubt (joining, held) everything waits in the order in which it came: frames, and the marks between them.
type gate struct {
	state    gateState
	rights   Rights
	was      Rights            // of old: before the changes among what waits
	since    snapshot.Snapshot // of the admission: what it sees was there before us and is history, not live
	waiting  []waiting         // from the first mark not answered on
	bytes    int               // of the frames among them
	marks    uint64            // marks so far
	markedAt time.Time         // when the first mark in waiting was heard
	round    uint64            // of the last Ask; answers of other rounds are void
	asking   bool              // an Ask is under way
	asked    uint64            // marks when it was sent
	answered uint64            // the first so many marks have been taken into account by an answer
	asks     int               // of a join: how often it was asked
	paced    bool              // the Ask under way has not been sent: it waits for its time
	pace     *rate.Limiter     // of asking again; made when first needed

	picture picture // of who is present
	lost    bool    // while in doubt, a message for the room that cannot be delivered; the member is not told yet

	deafAt    uint64            // marks when the database fell silent; 0 while it is heard
	doubted   bool              // late frames may fall into a time without rights (see frame)
	overtaken snapshot.Snapshot // so may late frames that this sees: the last mark's that has one (see Mark.Seen)
	missed    int               // of those: withheld, and the member not yet told
}

type gateState uint8

const (
	gateNew gateState = iota
	gateJoining
	gateOpen
	gateHeld
	gateEnded
)

// waiting is a frame, or a run of marks if frame is nil.
type waiting struct {
	frame  *protocol.Frame
	xid    snapshot.XID // of the frame
	first  heardMark
	last   heardMark
	mixed  bool              // marks of several transactions, or that say so: anyone can forge one, with any transaction in it
	strict bool              // one of the marks is of the kind that withholds (see allow)
	seen   snapshot.Snapshot // of the last mark that has one (see Mark)
}

// heardMark is a mark as a gate remembers it.
type heardMark struct {
	xid snapshot.XID
	nth uint64 // how many marks there were with it
}

// mark puts everything that follows on hold; false if it does not concern this gate. catchingUp: it may have been
// committed at any time since the database fell silent, and before messages that are told after it.
func (g *gate) mark(m *marking, catchingUp bool) bool {
	switch {
	case g.state == gateNew, g.state == gateEnded:
		return false
	case m.seenBy(g.since):
		return false // the admission saw this change, and nothing older than the admission is ever let through
	case g.state == gateOpen:
		g.state = gateHeld
		g.markedAt = m.heard
	}
	g.marks++
	this, strict := heardMark{m.mark.XID, g.marks}, !m.mark.Lenient
	if !m.mark.Seen.IsZero() {
		g.overtaken = m.mark.Seen
	}
	if strict && g.state == gateHeld {
		g.doubted = g.doubted || catchingUp
		g.doubtSilence()
	}
	if n := len(g.waiting); n > 0 && g.waiting[n-1].frame == nil { // marks with no frame between them are one run
		run := &g.waiting[n-1]
		run.mixed = run.mixed || m.mixed || run.last.xid != this.xid
		run.last, run.strict = this, run.strict || strict
		if !m.mark.Seen.IsZero() {
			run.seen = m.mark.Seen
		}
		return true
	}
	g.waiting = append(g.waiting, waiting{first: this, last: this, mixed: m.mixed, strict: strict, seen: m.mark.Seen})
	return true
}

// doubtSilence has everything since the silence began lie behind a strict mark.
func (g *gate) doubtSilence() {
	for i := range g.waiting {
		if run := &g.waiting[i]; run.frame == nil && g.deafAt > 0 && run.last.nth >= g.deafAt {
			run.strict = true
			return
		}
	}
}

type frameFate uint8

const (
	frameSkip frameFate = iota // not for this subscription
	frameGive
	frameWait
)

// frame says what happens to a frame that arrives now. A late one comes behind marks that may have been committed after
// it, and behind answers that saw more: it takes that there was no strict mark at all.
func (g *gate) frame(f *protocol.Frame, xid snapshot.XID, late bool) frameFate {
	switch {
	case g.state == gateNew, g.state == gateEnded, g.since.Sees(xid), g.state == gateOpen && !g.rights.of(f).Receive:
		return frameSkip
	case !g.picture.wants(f):
		return frameSkip
	case late && (g.doubted || g.overtaken.Sees(xid)):
		g.missed++
		return frameSkip
	case g.state == gateOpen:
		g.picture.add(f)
		return frameGive
	}
	g.bytes += f.Size()
	g.waiting = append(g.waiting, waiting{frame: f, xid: xid})
	return frameWait
}

// passes tells whether a frame may go to a subscription that is not in doubt.
func (g *gate) passes(f *protocol.Frame, xid snapshot.XID) bool {
	return g.rights.of(f).Receive && !g.since.Sees(xid)
}

// released is what an answer lets go.
type released struct {
	frames   []*protocol.Frame
	withheld int
	outdated bool // presence frames were withheld, and nothing has made up for them
	lost     bool // a message was
}

// allow takes an answer that allows. Frames up to the first mark that the answer did not see are released; if there is
// such a mark the gate stays as it is, and must be asked about again.
//
// The answer speaks of one moment. A frame that lies between a mark and a later one, of which the answer has seen
// something as well, may fall into a time without rights, lost and regained before we could ask: it is withheld. Only
// lenient marks before it (a table without a subject, touched by every message, say) are too common for that. So may one
// behind a mark that overtook it (see Mark.Seen). And behind a lenient mark a right that is new may come from a strict one that
// follows: the lenient one may be its alarm.
func (g *gate) allow(v Verdict) released {
	g.answered = g.asked
	if g.state == gateJoining {
		return g.admit(v)
	}
	g.rights = v.Rights
	lastSeen, given := -1, -1 // the last run of which the answer saw something, or may have: of what has no transaction nobody can say; and the last strict one
	for i, w := range g.waiting {
		if w.frame == nil && (w.mixed || w.first.xid == 0 || g.saw(v, w.first)) {
			lastSeen = i
			if w.strict {
				given = i
			}
		}
	}
	var out released
	strict, overtaken := false, snapshot.Snapshot{}
	for i, w := range g.waiting {
		if w.frame == nil {
			if !g.sawAll(v, w) {
				if given < i { // else the right may be younger than what is left
					g.was = v.Rights
				}
				g.keep(i)
				g.waiting[0].strict = g.waiting[0].strict || strict && i < lastSeen
				if g.waiting[0].seen.IsZero() {
					g.waiting[0].seen = overtaken
				}
				return out
			}
			strict = strict || w.strict
			if !w.seen.IsZero() {
				overtaken = w.seen
			}
			continue
		}
		isNew := !g.was.of(w.frame).Receive
		doubtful := strict && i < lastSeen || isNew && !strict && i < given || overtaken.Sees(w.xid)
		switch {
		case !g.passes(w.frame, w.xid):
		case doubtful && g.picture.tear(w.frame):
		case doubtful:
			out.withheld++
		case g.picture.add(w.frame):
			out.frames = append(out.frames, w.frame)
		}
	}
	g.open(&out)
	return out
}

// admit takes the first answer. It must have seen every mark; what it has seen of messages was sent before we were here,
// or before we had the right to be.
func (g *gate) admit(v Verdict) released {
	if g.unseen(v) {
		return released{} // still joining: ask again
	}
	g.rights, g.since = v.Rights, v.Snapshot
	given := -1 // the last change that may have given the right
	for i, w := range g.waiting {
		if w.strict {
			given = i
		}
	}
	var out released
	for i, w := range g.waiting {
		// What the database sent before then, the snapshot has seen. What clients sent has only its place.
		if w.frame != nil && g.passes(w.frame, w.xid) && (w.xid != 0 || i > given) && g.picture.add(w.frame) {
			out.frames = append(out.frames, w.frame)
		}
	}
	g.open(&out)
	return out
}

// unseen tells whether a mark waits that the answer does not take into account.
func (g *gate) unseen(v Verdict) bool {
	for _, w := range g.waiting {
		if w.frame == nil && !g.sawAll(v, w) {
			return true
		}
	}
	return false
}

// saw tells whether the answer takes a mark into account: it was asked after the mark was heard, when its change was
// visible to everyone, or its snapshot happened to see the change already.
func (g *gate) saw(v Verdict, mark heardMark) bool {
	return mark.nth <= g.asked || v.Snapshot.Sees(mark.xid)
}

// sawAll tells whether the answer takes a whole run into account. Of several transactions the last says nothing about
// the others: it may be forged.
func (g *gate) sawAll(v Verdict, run waiting) bool {
	return run.last.nth <= g.asked || !run.mixed && v.Snapshot.Sees(run.last.xid)
}

// rewind forgets an admission that the database may have forgotten. What comes late was then perhaps not after it.
func (g *gate) rewind(to snapshot.Snapshot, catchingUp bool) {
	if !g.since.IsZero() && !g.since.OlderThan(to) {
		g.since = snapshot.Snapshot{}
		g.doubted = g.doubted || catchingUp
	}
}

// caughtUp ends all lateness, and gives how many frames were withheld because of it.
func (g *gate) caughtUp() (withheld int) {
	withheld = g.missed
	g.doubted, g.missed = false, 0
	return withheld
}

// open lets frames pass at once.
func (g *gate) open(out *released) {
	g.state, g.was, g.waiting, g.bytes = gateOpen, g.rights, nil, 0
	if !g.rights.Presence.Receive {
		g.picture = picture{}
	}
	out.outdated = g.picture.settle()
	out.lost, g.lost = g.lost && g.rights.Broadcast.Receive, false
}

// lose tells whether a message that cannot be delivered is to be told as lost now. In doubt that waits for the answer: who
// has no right any more is not concerned.
func (g *gate) lose() bool {
	g.lost = g.lost || g.state == gateJoining || g.state == gateHeld
	return g.state == gateOpen && g.rights.Broadcast.Receive
}

// keep drops what has been dealt with.
func (g *gate) keep(from int) {
	for _, w := range g.waiting[:from] {
		if w.frame != nil {
			g.bytes -= w.frame.Size()
		}
	}
	g.waiting = append([]waiting(nil), g.waiting[from:]...)
}

func (g *gate) close() {
	g.state, g.waiting, g.bytes = gateEnded, nil, 0
}
