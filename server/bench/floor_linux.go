package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sys/unix"
)

// The floor is the least that a WebSocket broadcast can cost in Go: one thread, one epoll set, raw system calls, no
// goroutine and no package net. It checks nothing, limits nothing, and queues nothing: a socket that does not take all
// that it is given is cut. What one round of the loop brought for a room goes to each socket in one write.

type floor struct {
	poll     *poller
	listener int
	port     int
	clients  []*floorClient // by descriptor
	rooms    map[string]*floorRoom
	dirty    []*floorRoom
	buf      []byte
}

type floorClient struct {
	fd       int
	upgraded bool
	rest     []byte // the beginning of a frame
	rooms    []*floorRoom
}

type floorRoom struct {
	clients []*floorClient
	pending []byte // frames
}

// runFloor serves until the process is killed, and says first where.
func runFloor(out io.Writer) error {
	runtime.LockOSThread()
	f, err := newFloor()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "127.0.0.1:%d\n", f.port)
	return f.serve(-1)
}

func newFloor() (*floor, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the floor's socket: %w", err)
	}
	f := &floor{listener: fd, rooms: map[string]*floorRoom{}, buf: make([]byte, 1<<16)}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 4096))
	var at unix.Sockaddr
	if err == nil {
		at, err = unix.Getsockname(fd)
	}
	if err == nil {
		f.port = at.(*unix.SockaddrInet4).Port
		f.poll, err = newPoller()
	}
	if err == nil {
		err = f.poll.add(fd, unix.EPOLLIN)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for the floor: %w", err), unix.Close(fd))
	}
	return f, nil
}

// serve ends when stop becomes readable; -1: never.
func (f *floor) serve(stop int) error {
	defer f.close()
	if stop >= 0 {
		if err := f.poll.add(stop, unix.EPOLLIN); err != nil {
			return fmt.Errorf("watch the floor's end: %w", err)
		}
	}
	for {
		events, err := f.poll.wait(-1)
		if err != nil {
			return fmt.Errorf("wait for the floor's sockets: %w", err)
		}
		for i := range events {
			switch fd := int(events[i].Fd); fd {
			case stop:
				return nil
			case f.listener:
				f.accept()
			default:
				// A process that is being started holds our sockets for a moment, also those that we have closed.
				if c := f.clients[fd]; c != nil {
					f.readable(c)
				}
			}
		}
		f.flush()
	}
}

func (f *floor) close() {
	for _, c := range f.clients {
		if c != nil {
			_ = unix.Close(c.fd)
		}
	}
	_ = unix.Close(f.listener)
	f.poll.close()
}

func (f *floor) accept() {
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), f.poll.add(fd, unix.EPOLLIN)); err != nil {
			_ = unix.Close(fd)
			continue
		}
		if fd >= len(f.clients) {
			f.clients = append(f.clients, make([]*floorClient, fd+1024-len(f.clients))...)
		}
		f.clients[fd] = &floorClient{fd: fd}
	}
}

func (f *floor) readable(c *floorClient) {
	kept := copy(f.buf, c.rest)
	n, errno := read(c.fd, f.buf[kept:])
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 || n == 0 {
		f.drop(c)
		return
	}
	b := f.buf[:kept+n]
	if !c.upgraded {
		head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n"))
		if !whole {
			c.rest = append(c.rest[:0], b...)
			return
		}
		c.upgraded = true
		write(c.fd, upgrade(head))
		b = rest
	}
	for {
		opcode, payload, rest, ok, err := cutFrame(b, true)
		if err != nil || opcode == opClose {
			f.drop(c)
			return
		}
		if !ok {
			break
		}
		b = rest
		if opcode == opText {
			f.message(c, payload)
		}
	}
	c.rest = append(c.rest[:0], b...)
}

// upgrade answers a handshake.
func upgrade(head []byte) []byte {
	_, key, _ := bytes.Cut(head, []byte("Sec-WebSocket-Key: "))
	key, _, _ = bytes.Cut(key, []byte("\r\n"))
	return fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptKey(key))
}

// acceptKey is what RFC 6455 makes of a client's key.
func acceptKey(key []byte) string {
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (f *floor) message(c *floorClient, payload []byte) {
	r, ok := readRequest(payload)
	if !ok {
		return
	}
	room := f.rooms[string(r.topic)]
	if room == nil {
		room = &floorRoom{}
		f.rooms[string(r.topic)] = room
	}
	switch string(r.event) {
	case "phx_join":
		room.clients = append(room.clients, c)
		c.rooms = append(c.rooms, room)
		write(c.fd, appendFrame(nil, opText, joinReply(r.topic), false))
	case "broadcast":
		if len(room.pending) == 0 {
			f.dirty = append(f.dirty, room)
		}
		room.pending = appendFrame(room.pending, opText, relayed(r), false)
	}
}

// flush is what all this is about.
func (f *floor) flush() {
	for _, room := range f.dirty {
		for _, c := range room.clients {
			if n, _ := write(c.fd, room.pending); n != len(room.pending) {
				_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // which the next round reads
			}
		}
		room.pending = room.pending[:0]
	}
	f.dirty = f.dirty[:0]
}

func (f *floor) drop(c *floorClient) {
	f.clients[c.fd] = nil
	_ = unix.Close(c.fd)
	for _, room := range c.rooms {
		for i, other := range room.clients {
			if other == c {
				room.clients[i] = room.clients[len(room.clients)-1]
				room.clients = room.clients[:len(room.clients)-1]
				break
			}
		}
	}
}
