package hub

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// A scene is a small world of which every order of events is explored: its transactions, who is there, and what else may
// happen and how often. It never changes.
type scene struct {
	name         string
	transactions [][]statement
	begin        []uint8 // the right of each subject at first; all of them where there is none
	seats        []seating
	clients      int // frames that clients send

	rollbacks bool // transactions may be given up
	losses    int  // of the listener's connection
	stalls    int  // times that the proof of hearing runs out, with the connection there
	hopeless  bool // what was missed in an outage may be beyond catching up
	forgeries []Mark
	alarms    bool // marks may be told ahead of their place, as lenient ones, and are told again in it
	failures  int  // decisions that cannot be made
	merging   bool // marks may be merged before the worker comes to them
	paced     bool // asking again waits for a timer
	timers    bool // of a silence that lasts
	bound     int  // bytes that may wait for a connection
	replays   bool // members want what was before them

	clock   bool              // there is a moment at which a right ends
	frames  []*protocol.Frame // of the transactions' messages, in the order of transactions and statements, then the clients'
	numbers map[*protocol.Frame]int
	origin  []place // of the messages
	seen    map[uint16]snapshot.Snapshot
}

// statement of a transaction: a message, or a change of somebody's right, with the mark that a trigger makes of it.
type statement struct {
	message bool
	subject int // of the change; -1: nobody's right changes
	right   uint8
	mark    Mark
	clock   bool // no transaction, but a moment at which rights change by themselves
	quiet   bool // DDL: nothing is said of it, and somebody looks from time to time
}

// What a right consists of.
const (
	rightToMessages uint8 = 1 << iota
	rightToPresence
	rightToAll = rightToMessages | rightToPresence
)

// seating is a subscription of the scene.
type seating struct {
	subject   int
	here      bool // from the beginning, and admitted
	after     int  // joins when the seat with this number is left; with itself: at any time
	leaves    bool
	turnsInto int // by a token of another subject; the same: never
}

// place is where a message is.
type place struct{ transaction, statement int }

const firstXID = 100

func xidOf(transaction int) snapshot.XID { return snapshot.XID(firstXID + transaction) }

func subjectName(i int) string { return fmt.Sprintf("u%d", i) }

func sends() statement   { return statement{message: true, subject: -1} }
func touches() statement { return statement{subject: -1, mark: Mark{Topic: modelTopic, Lenient: true}} }

// becomes is a row of a table that is watched with subject and topic.
func becomes(subject int, right uint8) statement {
	return statement{subject: subject, right: right, mark: Mark{Subject: subjectName(subject), Topic: modelTopic}}
}

// revokes and grants are of the first subject.
func revokes() statement { return becomes(0, 0) }
func grants() statement  { return becomes(0, rightToAll) }

// by is a change that is marked otherwise: for a whole topic, say.
func (s statement) by(m Mark) statement {
	s.mark = m
	return s
}

// quietly is a change that is not marked, but noticed. What it takes is gone then.
func (s statement) quietly() statement {
	s.quiet = true
	return s
}

// ends is when the first subject's right does. Nobody can say whether what is sent then comes before it.
func ends() statement { return statement{subject: 0, clock: true, mark: Mark{Lenient: true}} }

func transaction(s ...statement) []statement { return s }

// prepare makes what all states of a scene share.
func (c *scene) prepare() {
	c.numbers, c.seen = map[*protocol.Frame]int{}, map[uint16]snapshot.Snapshot{}
	frame := func() {
		f := protocol.TextBroadcast("realtime:"+modelTopic, []byte(`{}`))
		c.numbers[f] = len(c.frames)
		c.frames = append(c.frames, f)
	}
	for i, t := range c.transactions {
		for j, s := range t {
			c.clock = c.clock || s.clock
			if s.message {
				c.origin = append(c.origin, place{i, j})
				frame()
			}
		}
	}
	for range c.clients {
		frame()
	}
	for over := range uint16(1) << len(c.transactions) {
		c.seen[over] = snapshotOf(over)
	}
}

// snapshotOf is one that is taken when these transactions are over: the others run, or have not begun.
func snapshotOf(over uint16) snapshot.Snapshot {
	n := bits.Len16(over)
	xmin, running := firstXID+n, []string{}
	for i := range n {
		if over&(1<<i) == 0 {
			if len(running) == 0 {
				xmin = firstXID + i
			}
			running = append(running, fmt.Sprint(firstXID+i))
		}
	}
	s, err := snapshot.Parse(fmt.Sprintf("%d:%d:%s", xmin, firstXID+n, strings.Join(running, ",")))
	if err != nil {
		panic(err)
	}
	return s
}

// right of a subject after so many commits.
func (s *state) right(subject, commits int) uint8 {
	right := rightToAll
	if s.begin != nil {
		right = s.begin[subject]
	}
	for _, t := range s.order[:commits] {
		right = after(right, subject, s.transactions[t])
	}
	return right
}

func after(right uint8, subject int, statements []statement) uint8 {
	for _, s := range statements {
		if s.subject == subject {
			right = s.right
		}
	}
	return right
}

// committed is the place of a message among the commits; -1: none yet.
func (s *state) committed(message int) int {
	for i, t := range s.order {
		if int(t) == s.origin[message].transaction {
			return i
		}
	}
	return -1
}

// quiet tells whether a commit is DDL, and noticedBy whether that had been noticed so many commits later.
func (s *state) quiet(commit int) bool { return s.transactions[s.order[commit]][0].quiet }

func (s *state) noticedBy(commit, commits int) bool {
	return slices.ContainsFunc(s.notices, func(n uint8) bool { return int(n) > commit && int(n) <= commits })
}

// rightAt is the right by which messages are judged: what DDL took away is still there until that is noticed.
func (s *state) rightAt(subject, commits int) uint8 {
	right := s.right(subject, 0)
	for i, t := range s.order[:commits] {
		if now := after(right, subject, s.transactions[t]); now&^right != 0 || !s.quiet(i) || s.noticedBy(i, commits) {
			right = now
		}
	}
	return right
}

// had tells whether a subject had the right when a message was sent. A transaction that takes it and gives it back never
// took it away: rights are lost at COMMIT.
func (s *state) had(subject, message int) bool {
	at, p := s.committed(message), s.origin[message]
	before, statements := s.rightAt(subject, at), s.transactions[p.transaction]
	then := after(before, subject, statements[:p.statement])
	return (then|before&after(before, subject, statements))&rightToMessages != 0
}

// changed is how many commits an answer must have seen to know of every change of a subject's right before a message.
func (s *state) changed(subject, message int) int {
	at, p := s.committed(message), s.origin[message]
	if changes(subject, s.transactions[p.transaction][:p.statement]) {
		return at + 1
	}
	return s.changedAmong(subject, at)
}

// changedAmong is the same for the first commits.
func (s *state) changedAmong(subject, among int) int {
	commits := among
	for ; commits > 0; commits-- {
		if changes(subject, s.transactions[s.order[commits-1]]) && !(s.quiet(commits-1) && !s.noticedBy(commits-1, among)) {
			break
		}
	}
	return commits
}

func changes(subject int, statements []statement) bool {
	for _, s := range statements {
		if s.subject == subject && !s.clock {
			return true
		}
	}
	return false
}

// leniently tells whether a subject's right ever changes with a mark that withholds nothing: then a frame of the time
// between the loss and the gain may be given once the gain was seen.
func (c *scene) leniently(subject int) bool {
	for _, t := range c.transactions {
		for _, s := range t {
			if s.subject == subject && s.mark.Lenient {
				return true
			}
		}
	}
	return false
}
