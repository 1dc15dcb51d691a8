package pgtest

import (
	"fmt"
	"net"
	"net/url"
	"sync"
)

// Proxy is a network between clients and a server, with which something can be wrong.
type Proxy struct {
	listener net.Listener
	group    sync.WaitGroup

	mu     sync.Mutex // guards all below
	thawed sync.Cond
	frozen bool
	closed bool
	target string // a unix socket
	conns  map[net.Conn]bool
}

// NewProxy leads to a cluster until the test's end.
func NewProxy(t TB, to *Cluster) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("pgtest: open a proxy: %v", err)
	}
	p := &Proxy{listener: l, target: to.Socket(), conns: map[net.Conn]bool{}}
	p.thawed.L = &p.mu
	p.group.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Through is an address that leads through the proxy.
func (p *Proxy) Through(address string) string {
	at, err := url.Parse(address)
	if err != nil {
		panic(fmt.Sprintf("address %q: %v", address, err))
	}
	query := at.Query()
	query.Del("host")
	query.Set("sslmode", "disable")
	at.Host, at.RawQuery = p.Address(), query.Encode()
	return at.String()
}

// Address is where it listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Freeze makes a black hole of it: connections stay, and new ones are taken, but nothing passes.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	p.frozen = true
	p.mu.Unlock()
}

// Thaw lets everything pass, also what was sent meanwhile.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	p.frozen = false
	p.thawed.Broadcast()
	p.mu.Unlock()
}

// Lead takes new connections to another cluster; those that there are stay.
func (p *Proxy) Lead(to *Cluster) {
	p.mu.Lock()
	p.target = to.Socket()
	p.mu.Unlock()
}

// Sever ends all connections.
func (p *Proxy) Sever() {
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.thawed.Broadcast()
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Sever()
	p.group.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.keep(conn) {
			p.group.Go(func() { p.serve(conn) })
		}
	}
}

// keep remembers a connection; false if it is too late.
func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) forget(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
}

func (p *Proxy) serve(client net.Conn) {
	defer p.forget(client)
	target, ok := p.pass()
	if !ok {
		return
	}
	server, err := net.Dial("unix", target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.forget(server)
	var back sync.WaitGroup
	back.Go(func() { p.forward(client, server) })
	p.forward(server, client)
	back.Wait()
}

// forward copies in one direction, and ends both when it ends.
func (p *Proxy) forward(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if _, ok := p.pass(); !ok {
			return
		}
		if _, wrote := to.Write(buffer[:n]); wrote != nil || err != nil {
			return
		}
	}
}

// pass waits while the proxy is frozen, and gives where it leads; false when it is closed.
func (p *Proxy) pass() (target string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.closed {
		p.thawed.Wait()
	}
	return p.target, !p.closed
}
