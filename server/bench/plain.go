package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"

	"github.com/coder/websocket"
)

// plainQueue is how many frames wait for a client of the plain server before it is cut.
const plainQueue = 256

// plain is what one writes first with a good library: a goroutine for each connection takes frames from a queue and
// writes them one by one; who does not keep up is cut.
type plain struct {
	mu    sync.Mutex // guards rooms, and which clients are cut
	rooms map[string]map[*plainClient]bool
}

type plainClient struct {
	conn  *websocket.Conn
	queue chan []byte
	cut   bool // guarded by the server's mu
}

// runPlain serves until the process is killed, and says first where.
func runPlain(out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the plain server: %w", err)
	}
	fmt.Fprintln(out, listener.Addr())
	return newPlain().serve(listener)
}

func newPlain() *plain { return &plain{rooms: map[string]map[*plainClient]bool{}} }

func (p *plain) serve(listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.Handle("/", p)
	if err := http.Serve(listener, mux); !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve plainly: %w", err)
	}
	return nil
}

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // answered by Accept
	}
	defer conn.CloseNow()
	c := &plainClient{conn: conn, queue: make(chan []byte, plainQueue)}
	ctx, cancel := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() { c.write(ctx) })
	defer p.leave(c)
	for {
		_, message, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		if r, ok := readRequest(message); ok {
			p.message(c, r)
		}
	}
}

// write has no context of its own for each message: that costs a third more.
func (c *plainClient) write(ctx context.Context) {
	for {
		select {
		case message := <-c.queue:
			if c.conn.Write(context.Background(), websocket.MessageText, message) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// send is called under the server's mu.
func (c *plainClient) send(message []byte) {
	if c.cut {
		return
	}
	select {
	case c.queue <- message:
	default:
		c.cut = true
		go c.conn.CloseNow()
	}
}

func (p *plain) message(c *plainClient, r request) {
	topic := string(r.topic)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch string(r.event) {
	case "phx_join":
		if p.rooms[topic] == nil {
			p.rooms[topic] = map[*plainClient]bool{}
		}
		p.rooms[topic][c] = true
		c.send(joinReply(r.topic))
	case "broadcast":
		message := relayed(r)
		for client := range p.rooms[topic] {
			client.send(message)
		}
	}
}

func (p *plain) leave(c *plainClient) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for topic, clients := range p.rooms {
		if delete(clients, c); len(clients) == 0 {
			delete(p.rooms, topic)
		}
	}
}
