package socket

// Opcodes in the first byte of a whole control frame (FIN set, no reserved bits): RFC 6455, section 5.2.
const (
	closeFrame = 0x88
	pongFrame  = 0x8A
)

// maxPongs is how many answers to pings may wait. RFC 6455 5.5.3 allows answering only the newest ping, so beyond this
// the newest waiting pong gives its place to the new one, and a ping flood costs neither memory nor the socket.
const maxPongs = 16

// keepFrames is the room for frames that an empty queue keeps: enough for quiet channels, cheap for idle sockets.
const keepFrames = 8

// queue holds the whole frames that wait for one socket, in order. It knows nothing of writing and has no lock of its
// own: Conn.mu guards it.
type queue struct {
	frames [][]byte // frames[head:] wait; the others are nil
	head   int
	bytes  int // length of all that waits
	pongs  int // how many of what waits are pongs
	pong   int // index in frames of the newest of them, while pongs > 0
}

// push appends a data frame unless more than limit bytes would then wait behind the frame that is next to go (0: no
// limit). So an empty queue takes any frame, and a large frame does not condemn the small one after it.
func (q *queue) push(frame []byte, limit int) bool {
	if limit > 0 && q.head < len(q.frames) && q.bytes-len(q.frames[q.head])+len(frame) > limit {
		return false
	}
	q.append(frame)
	return true
}

// pushControl appends a control frame; close frames and up to maxPongs pongs always find room.
func (q *queue) pushControl(frame []byte) {
	if frame[0] != pongFrame {
		q.append(frame)
		return
	}
	if q.pongs == maxPongs {
		q.bytes += len(frame) - len(q.frames[q.pong])
		q.frames[q.pong] = frame
		return
	}
	q.append(frame)
	q.pongs++
	q.pong = len(q.frames) - 1
}

func (q *queue) append(frame []byte) {
	if len(q.frames) == cap(q.frames) && q.head > len(q.frames)/2 {
		n := copy(q.frames, q.frames[q.head:])
		clear(q.frames[n:])
		q.frames = q.frames[:n]
		q.pong -= q.head
		q.head = 0
	}
	q.frames = append(q.frames, frame)
	q.bytes += len(frame)
}

// take moves frames from the front to dst, as many as fit into size bytes and at least one if there is one.
func (q *queue) take(dst [][]byte, size int) [][]byte {
	taken := 0
	for q.head < len(q.frames) {
		f := q.frames[q.head]
		if taken > 0 && taken+len(f) > size {
			return dst
		}
		dst = append(dst, f)
		q.frames[q.head] = nil
		q.head++
		taken += len(f)
		q.bytes -= len(f)
		if q.pongs > 0 && len(f) > 0 && f[0] == pongFrame {
			q.pongs--
		}
	}
	q.frames, q.head = q.frames[:0], 0
	if cap(q.frames) > keepFrames {
		q.frames = nil
	}
	return dst
}

// drop forgets all that waits.
func (q *queue) drop() { *q = queue{} }
