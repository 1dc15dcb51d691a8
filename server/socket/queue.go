package socket

import "sync/atomic"

// Opcodes in the first byte of a whole control frame (FIN set, no reserved bits): RFC 6455, section 5.2.
const (
	closeFrame = 0x88
	pongFrame  = 0x8A
)

// maxPongs is how many answers to pings may wait. RFC 6455 5.5.3 allows answering only the newest ping, so beyond this
// the newest waiting pong gives its place to the new one, and a ping flood costs neither memory nor the socket.
const maxPongs = 16

// keepFrames is the room for frames that an empty queue keeps: enough for quiet channels, 1 KB at most for idle sockets.
const keepFrames = 32

// queued is one whole frame that waits.
type queued struct {
	frame []byte
	void  *atomic.Bool // once set, the frame must not begin to leave any more; nil: it goes in any case
}

func (w queued) isVoid() bool { return w.void != nil && w.void.Load() }

// queue holds the whole frames that wait for one socket, in order. It knows nothing of writing and has no lock of its
// own: Conn.mu guards it.
type queue struct {
	frames []queued // frames[head:] wait; the others are empty
	head   int
	sent   int    // bytes of frames[head] that have left: the rest must follow, void or not
	bytes  int    // of all that waits, without what has left
	pongs  int    // how many of what waits are pongs
	pong   int    // index in frames of the newest of them, while pongs > 0
	out    uint64 // frames that went, or were given up, since the beginning
}

func (q *queue) len() int { return len(q.frames) - q.head }

// push appends a data frame unless more than limit bytes would then wait behind the frame that is next to go (0: no
// limit). So an empty queue takes any frame, and a large frame does not condemn the small one after it.
func (q *queue) push(w queued, limit int) bool {
	if !q.fits(len(w.frame), limit) {
		if q.purge(); !q.fits(len(w.frame), limit) {
			return false
		}
	}
	q.append(w)
	return true
}

func (q *queue) fits(size, limit int) bool {
	return limit == 0 || q.len() == 0 || q.bytes-(len(q.frames[q.head].frame)-q.sent)+size <= limit
}

// pushControl appends a control frame; close frames and up to maxPongs pongs always find room.
func (q *queue) pushControl(frame []byte) {
	if frame[0] != pongFrame {
		q.append(queued{frame: frame})
		return
	}
	if q.pongs == maxPongs { // so the newest is not the one that has begun to leave
		q.bytes += len(frame) - len(q.frames[q.pong].frame)
		q.frames[q.pong].frame = frame
		return
	}
	q.append(queued{frame: frame})
	q.pongs++
	q.pong = len(q.frames) - 1
}

func (q *queue) append(w queued) {
	if len(q.frames) == cap(q.frames) && q.head > len(q.frames)/2 {
		n := copy(q.frames, q.frames[q.head:])
		clear(q.frames[n:])
		q.frames = q.frames[:n]
		q.pong -= q.head
		q.head = 0
	}
	q.frames = append(q.frames, w)
	q.bytes += len(w.frame)
}

// gather lists what goes next: frames from the front, as many as fit into size bytes and at least one if there is one.
// Void frames before them are given up. Nothing is taken out before advance says that it left.
func (q *queue) gather(dst [][]byte, size int) [][]byte {
	for q.sent == 0 && q.len() > 0 && q.frames[q.head].isVoid() {
		q.pop()
	}
	total := 0
	for i := q.head; i < len(q.frames); i++ {
		f := q.frames[i].frame
		if i == q.head {
			f = f[q.sent:]
		} else if total+len(f) > size || q.frames[i].isVoid() {
			break
		}
		dst = append(dst, f)
		total += len(f)
	}
	return dst
}

// advance takes out n bytes from the front.
func (q *queue) advance(n int) {
	for n > 0 {
		rest := len(q.frames[q.head].frame) - q.sent
		if n < rest {
			q.sent += n
			q.bytes -= n
			return
		}
		n -= rest
		q.pop()
	}
}

// pop takes the first frame out.
func (q *queue) pop() {
	f := q.frames[q.head].frame
	if f[0] == pongFrame {
		q.pongs--
	}
	q.bytes -= len(f) - q.sent
	q.frames[q.head] = queued{}
	q.head++
	q.sent = 0
	q.out++
	if q.head == len(q.frames) {
		q.frames, q.head = q.frames[:0], 0
		if cap(q.frames) > keepFrames {
			q.frames = nil
		}
	}
}

// purge gives up the void frames, and drop all; what has begun to leave stays, or the client could not read on.
func (q *queue) purge() { q.keep(func(w queued) bool { return !w.isVoid() }) }
func (q *queue) drop()  { q.keep(func(queued) bool { return false }) }

func (q *queue) keep(wanted func(queued) bool) {
	old := *q
	*q = queue{out: old.out}
	for i := old.head; i < len(old.frames); i++ {
		w := old.frames[i]
		begun := i == old.head && old.sent > 0
		switch {
		case !begun && !wanted(w):
			q.out++
			continue
		case w.frame[0] == pongFrame:
			q.pushControl(w.frame)
		default:
			q.append(w)
		}
		if begun {
			q.sent = old.sent
			q.bytes -= old.sent
		}
	}
}
