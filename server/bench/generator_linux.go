package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// handshakesAtOnce keeps the server busy and its accept queue short.
	handshakesAtOnce = 128
	// joinPatience bounds the wait for all sockets to have joined.
	joinPatience = 2 * time.Minute
	// sources is how many loopback addresses the sockets come from: each has some 28,000 ports, and those of the run
	// before may still be in TIME_WAIT.
	sources = 8
	// readSize is more than a socket usually has to give, and more than the largest frame.
	readSize = 256 << 10

	wsKey = "dGhlIHNhbXBsZSBub25jZQ=="
)

// generator is many WebSocket clients on one thread: no goroutine and no buffer for each, so that as much of the
// machine as possible is left to what is measured. It trusts nothing that the server says: every handshake, every frame
// header and the number of every broadcast is checked.
type generator struct {
	plan    plan
	tell    func(report) error
	poll    *poller
	server  unix.SockaddrInet4
	clients []*client // in the order of the plan
	byFD    []*client
	rooms   []*room
	buf     []byte

	joining, joined, cut int
	why                  string // the first cut
	deliveries, bytes    int64
	publishing           bool
	hear                 func(c *client, payload []byte, size int, now int64) error // a text frame
	left                 func(c *client, why string)                                // the end of one that was leaving
	window               struct{ begin, end int64 }                                 // broadcasts sent in it count for the latency
	latency              histogram
	began                time.Time // to connect
	joins                histogram // since then
	answers              histogram // to joins, from when each was asked for
	closed, sentToAll    int       // sessions that are held: that were closed, and that have heard what goes to all
	subscribed           int       // of these, those who are told of changes
}

// room is what is sent to one topic and what came of it.
type room struct {
	broadcast  broadcast
	clients    int64
	publisher  *client
	published  int64
	deliveries int64
}

type stage uint8

const (
	unconnected stage = iota
	connecting
	upgrading
	joining
	joined
	leaving
	ended
)

type client struct {
	stage  stage
	fd     int
	room   *room
	as     session
	rest   []byte // the beginning of a frame
	unsent []byte
	heard  int64 // the number of the last broadcast
	asked  int64 // when it asked to join
	ending ending
	guest  *guest // of a crowd
}

// generate carries out a plan. Sockets are held until stop becomes readable.
func generate(p plan, stop int, tell func(report) error) error {
	g, err := newGenerator(p, tell)
	if err != nil {
		return err
	}
	defer g.close()
	if p.Crowd != nil {
		return newCrowd(g).visit(stop)
	}
	if err := g.join(); err != nil {
		return err
	}
	if p.Outstanding > 0 || p.Rate > 0 {
		return g.measure()
	}
	return g.hold(stop)
}

func newGenerator(p plan, tell func(report) error) (*generator, error) {
	at, err := netip.ParseAddrPort(p.Address)
	if err != nil || !at.Addr().Is4() {
		return nil, fmt.Errorf("read the server's address %q: want an IPv4 address and a port", p.Address)
	}
	g := &generator{plan: p, tell: tell, buf: make([]byte, readSize), byFD: make([]*client, 1024)}
	g.hear = g.message
	g.server = unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	if g.poll, err = newPoller(); err != nil {
		return nil, fmt.Errorf("make the generator's epoll set: %w", err)
	}
	rooms := map[string]*room{}
	for _, s := range p.Sessions {
		c := &client{as: s, fd: -1}
		if c.room = rooms[s.Topic]; c.room == nil {
			c.room = &room{broadcast: newBroadcast(s.Topic), publisher: c}
			rooms[s.Topic] = c.room
			g.rooms = append(g.rooms, c.room)
		}
		c.room.clients++
		g.clients = append(g.clients, c)
	}
	return g, nil
}

func (g *generator) close() {
	for _, c := range g.clients {
		if c.stage != unconnected && c.stage != ended {
			_ = unix.Close(c.fd)
		}
	}
	g.poll.close()
}

// join has all sockets connect and join, and says what it cost.
func (g *generator) join() error {
	first := g.read()
	if err := g.connectAll(); err != nil {
		return err
	}
	r := g.report(reportReady, first, g.read())
	r.Answer = g.answers.quantile(0.99)
	return g.tell(r)
}

// connectAll connects all sockets, as many at a time as may be, until they have joined.
func (g *generator) connectAll() error {
	g.began = time.Now()
	atOnce := cmp.Or(g.plan.AtOnce, handshakesAtOnce)
	for next := 0; g.joined < len(g.clients) || g.plan.Table != "" && g.subscribed < len(g.clients); {
		for ; g.joining < atOnce && next < len(g.clients); next++ {
			if err := g.connect(g.clients[next], byte(next%sources)); err != nil {
				return fmt.Errorf("connect socket %d: %w", next, err)
			}
		}
		if err := g.turn(100); err != nil {
			return err
		}
		if g.cut > 0 {
			return fmt.Errorf("a socket ended while %d of %d had joined: %s", g.joined, len(g.clients), g.why)
		}
		if time.Since(g.began) > joinPatience {
			return fmt.Errorf("only %d of %d sockets joined in %s, and %d subscribed", g.joined, len(g.clients), joinPatience, g.subscribed)
		}
	}
	return nil
}

func (g *generator) connect(c *client, source byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.fd, c.stage = fd, connecting
	g.joining++
	if fd >= len(g.byFD) {
		g.byFD = append(g.byFD, make([]*client, fd+1024-len(g.byFD))...)
	}
	g.byFD[fd] = c
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2 + source}}),
	)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &g.server); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return g.poll.add(fd, unix.EPOLLIN|unix.EPOLLOUT)
}

// turn waits for sockets and serves those that are ready.
func (g *generator) turn(milliseconds int) error {
	events, err := g.poll.wait(milliseconds)
	if err != nil {
		return fmt.Errorf("wait for the generator's sockets: %w", err)
	}
	for i := range events {
		fd := int(events[i].Fd)
		if fd >= len(g.byFD) || g.byFD[fd] == nil {
			continue // the timer, or the end of standard input
		}
		c := g.byFD[fd]
		if events[i].Events&unix.EPOLLOUT != 0 {
			g.writable(c)
		}
		if c.stage != ended && events[i].Events&^unix.EPOLLOUT != 0 {
			if err := g.readable(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// end is a connection that the server has ended.
func (g *generator) end(c *client, why string) {
	was := c.stage
	if was < joined {
		g.joining--
	}
	c.stage = ended
	g.byFD[c.fd] = nil
	_ = unix.Close(c.fd)
	if was == leaving {
		g.left(c, why)
		return
	}
	if g.cut++; g.why == "" {
		g.why = why
	}
}

func (g *generator) writable(c *client) {
	if c.stage == connecting {
		if errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
			g.end(c, "connect: "+unix.Errno(errno).Error())
			return
		}
		c.stage = upgrading
		c.unsent = fmt.Appendf(nil, "GET %s&apikey=%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", g.plan.Path, c.as.Token, g.plan.Address, wsKey)
	}
	b := c.unsent
	c.unsent = nil
	g.send(c, b)
	if c.stage != ended && len(c.unsent) == 0 {
		_ = g.poll.change(c.fd, unix.EPOLLIN)
	}
}

// send writes now what the socket takes, and the rest when it takes more.
func (g *generator) send(c *client, b []byte) {
	if len(c.unsent) > 0 {
		c.unsent = append(c.unsent, b...)
		return
	}
	n, errno := write(c.fd, b)
	if errno == unix.EAGAIN {
		n = 0
	} else if errno != 0 {
		g.end(c, "write: "+errno.Error())
		return
	}
	if n < len(b) {
		c.unsent = append([]byte(nil), b[n:]...)
		_ = g.poll.change(c.fd, unix.EPOLLIN|unix.EPOLLOUT)
	}
}

// readable returns an error only for what no correct server sends.
func (g *generator) readable(c *client) error {
	kept := copy(g.buf, c.rest)
	n, errno := read(c.fd, g.buf[kept:])
	switch {
	case errno == unix.EAGAIN:
		return nil
	case errno != 0:
		g.end(c, "read: "+errno.Error())
		return nil
	case n == 0:
		g.end(c, "the server closed the connection")
		return nil
	}
	b := g.buf[:kept+n]
	if c.stage == upgrading {
		rest, whole, err := cutHandshake(b)
		if err != nil {
			return err
		}
		if whole {
			c.stage, c.asked = joining, time.Now().UnixNano()
			g.send(c, appendJoin(nil, c.as, g.plan.Private, g.plan.Table))
		}
		b = rest
	}
	if c.stage >= joining && c.stage < ended {
		var err error
		if b, err = g.frames(c, b); err != nil {
			return err
		}
	}
	if c.stage != ended {
		c.rest = append(c.rest[:0], b...)
	}
	return nil
}

// cutHandshake takes the answer to a handshake off b.
func cutHandshake(b []byte) (rest []byte, whole bool, err error) {
	head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	if !whole {
		return b, false, nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte(": "+acceptKey([]byte(wsKey)))) {
		return b, false, fmt.Errorf("handshake refused: %.300q", head)
	}
	return rest, true, nil
}

// frames hears whole frames and returns what is left.
func (g *generator) frames(c *client, b []byte) ([]byte, error) {
	now := time.Now().UnixNano()
	for {
		opcode, payload, rest, ok, err := cutFrame(b, false)
		if err != nil || !ok {
			return b, err
		}
		switch opcode {
		case opPing:
			g.send(c, appendFrame(nil, opPong, payload, true))
		case opClose:
			g.end(c, fmt.Sprintf("close frame: %q", payload))
		case opText:
			if err := g.hear(c, payload, len(b)-len(rest), now); err != nil {
				return b, err
			}
		}
		if b = rest; c.stage == ended {
			return nil, nil
		}
	}
}
