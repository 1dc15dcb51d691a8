package socket

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The stress: sockets over TCP, each with a worker that queues and flushes rounds, with others that send, and with a
// client that pings and reads haltingly, until it ends in one of the ways in which sockets end. Whatever happens, what
// arrives is whole frames, those of one sender in order and without a gap; only void ones may be missing.

// ending is how one socket of the stress ends.
type ending int

const (
	endsRead    ending = iota // the client takes everything, and is told to go only then
	endsClosed                // Close, while frames wait
	endsKilled                // Kill, while frames wait
	endsLeft                  // the client says goodbye
	endsVanish                // the client is gone
	endsStalled               // the client stops reading for so long that it is too slow
	endings
)

// stressLimit is what may wait for a socket that is to be too slow; the others have no bound to fall over.
const stressLimit = 256 << 10

func TestSocketsUnderStress(t *testing.T) {
	patient := newRig(t, Options{SendBuffer: 64 << 10, CloseTimeout: time.Minute}) // nobody is hurried
	bounded := newRig(t, Options{SendBuffer: 64 << 10, MaxQueueBytes: stressLimit, CloseTimeout: time.Minute})
	addresses := map[*rig]string{patient: patient.listen(t), bounded: bounded.listen(t)}
	files := openFiles(t)
	run := func(sockets int) {
		var group sync.WaitGroup
		for i := range sockets {
			end, r := ending(i)%endings, patient
			if end == endsStalled {
				r = bounded
			}
			c := dial(t, addresses[r])
			s := <-r.sessions
			group.Go(func() {
				if err := stress(c, s, end, rand.New(rand.NewPCG(uint64(i), 7))); err != nil {
					t.Errorf("socket %d, ending %d: %v", i, end, err)
				}
			})
			if i%8 == 7 {
				group.Wait()
			}
		}
		group.Wait()
		await(t, patient.empty(), "the sockets to be forgotten")
		await(t, bounded.empty(), "the slow sockets to be forgotten")
	}
	run(int(endings))
	goroutines, fds := settledCount(), files()
	run(8 * int(endings))
	if got := settled(goroutines, runtime.NumGoroutine); got > goroutines {
		t.Errorf("%d goroutines, %d before", got, goroutines)
	}
	if got := settled(fds, files); got > fds {
		t.Errorf("%d open files, %d before", got, fds)
	}
}

// stress plays one socket to its end.
func stress(c *client, s *session, end ending, rng *rand.Rand) error {
	defer c.conn.Close()
	if err := c.conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		return err
	}
	const senders, frames = 2, 150
	sent := &tally{accepted: make([]atomic.Int64, senders+1)}
	var writing sync.WaitGroup
	for n := range senders {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		writing.Go(func() {
			for i := range frames {
				if !s.conn.Send(numbered(n, i, rng)) {
					return
				}
				sent.accepted[n].Add(1)
			}
		})
	}
	roundRNG := rand.New(rand.NewPCG(rng.Uint64(), 2))
	writing.Go(func() { rounds(s.conn, senders, frames, roundRNG, sent) })
	told := make(chan struct{})
	go func() {
		defer close(told)
		writing.Wait()
		if end == endsClosed {
			s.conn.Close(codeRestart, Restarting)
		}
	}()
	err := sent.read(c, s, end, rng, told)
	s.conn.Kill(InternalError) // where the end was not its own
	<-told
	for range s.closed {
	}
	return err
}

// tally is what was sent, and what of it has arrived.
type tally struct {
	accepted []atomic.Int64 // frames, by sender; the last is the worker
	next     [8]int         // what is expected of each
}

// rounds queues frames as a worker of the hub does, with void ones among them, and flushes when it was asked to.
func rounds(conn *Conn, id, frames int, rng *rand.Rand, sent *tally) {
	void := new(atomic.Bool)
	for i := 0; i < frames; {
		flush := false
		for range min(1+rng.IntN(20), frames-i) {
			flush = conn.Queue(numbered(id, i, rng), nil) || flush
			flush = conn.Queue(text("void "+strings.Repeat("v", rng.IntN(500))), void) || flush
			sent.accepted[id].Add(1)
			i++
		}
		if flush {
			conn.Flush()
		}
		if rng.IntN(3) == 0 {
			void.Store(true)
			void = new(atomic.Bool)
		}
	}
}

func numbered(sender, i int, rng *rand.Rand) []byte {
	size := rng.IntN(3000)
	if rng.IntN(40) == 0 {
		size = 100_000
	}
	return text(fmt.Sprintf("%d %d %d ", sender, i, size) + strings.Repeat(string(rune('a'+sender)), size))
}

// errEnded is the end of the connection between two frames, or within one.
var errEnded = errors.New("the connection ended")

// read is the client's part.
func (n *tally) read(c *client, s *session, end ending, rng *rand.Rand, told <-chan struct{}) error {
	after := 20 + rng.IntN(100) // frames, before it ends it itself
	for got := 0; ; got++ {
		if rng.IntN(50) == 0 {
			time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
		}
		if rng.IntN(20) == 0 && (end != endsLeft || got < after) { // nothing may follow a close frame
			_ = c.write(opPing, "?")
		}
		if got == after {
			switch end {
			case endsKilled:
				s.conn.Kill(InternalError)
			case endsLeft:
				_ = c.write(opClose, "\x03\xe8")
			case endsVanish:
				return nil
			case endsStalled:
				<-told // all was sent to nobody
			}
		}
		f, err := n.take(c)
		switch {
		case err == errEnded && end == endsKilled:
			return nil
		case err != nil:
			return err
		case f.op == opClose:
			return n.closed(c, s, end)
		}
		if end == endsRead && n.complete() { // nothing was sent behind what was waited for
			s.conn.Close(codeRestart, Restarting)
		}
	}
}

// take reads a frame and holds it against what its sender sent.
func (n *tally) take(c *client) (frame, error) {
	f, err := c.read()
	var broken *net.OpError
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken) {
		return f, errEnded
	}
	if err != nil || f.op != opText || strings.HasPrefix(string(f.payload), "void ") {
		return f, err
	}
	var sender, i, size int
	head := f.payload[:min(len(f.payload), 40)]
	if _, err := fmt.Sscanf(string(head), "%d %d %d ", &sender, &i, &size); err != nil {
		return f, fmt.Errorf("%.40q: %w", head, err)
	}
	want := fmt.Sprintf("%d %d %d ", sender, i, size) + strings.Repeat(string(rune('a'+sender)), size)
	if string(f.payload) != want || i != n.next[sender] {
		return f, fmt.Errorf("frame %d of sender %d is damaged or out of order (want %d)", i, sender, n.next[sender])
	}
	n.next[sender]++
	return f, nil
}

// complete tells whether everything that will ever be sent has arrived.
func (n *tally) complete() bool {
	for sender := range n.accepted {
		if n.next[sender] < 150 {
			return false
		}
	}
	return true
}

// closed looks at what had arrived when the close frame came.
func (n *tally) closed(c *client, s *session, end ending) error {
	_ = c.write(opClose, "\x03\xe8")
	if f, err := c.read(); err == nil {
		return fmt.Errorf("opcode %#x after the close frame", f.op)
	}
	want := map[ending]Reason{endsRead: Restarting, endsClosed: Restarting, endsLeft: ClientClosed, endsStalled: SlowReader}[end]
	if got := s.conn.Reason(); got != want {
		return fmt.Errorf("ended as %q, want %q", got, want)
	}
	if end == endsRead || end == endsClosed {
		for sender := range n.accepted {
			if got, want := n.next[sender], int(n.accepted[sender].Load()); got != want {
				return fmt.Errorf("%d frames of sender %d arrived before the close frame, of %d", got, sender, want)
			}
		}
	}
	return nil
}
