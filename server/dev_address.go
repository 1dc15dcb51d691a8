package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// isLoopback trusts no name but localhost, and that one is not looked up either.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// firstLoopback is an address with localhost replaced by the half of it that every machine has.
func firstLoopback(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "localhost" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// devAddressesFree says in one line which address somebody else uses.
func devAddressesFree(c Config) error {
	for _, address := range []struct{ setting, at string }{{"ADDR", c.Addr}, {"ADMIN_ADDR", c.AdminAddr}} {
		l, err := net.Listen("tcp", firstLoopback(address.at))
		if err == nil {
			l, err = alsoIPv6(address.at, l)
			l.Close()
		}
		if err != nil {
			return taken(fmt.Errorf("listen on %s: %w", address.setting, err))
		}
	}
	return nil
}

// taken adds what to do about an address in use.
func taken(err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return fmt.Errorf("%w: stop what runs there, or choose others, such as ADDR=localhost:4010 ADMIN_ADDR=127.0.0.1:4011", err)
}

// alsoIPv6 adds [::1] to the IPv4 half of localhost, where the machine has it. The listener it returns is to be closed
// also when there is an error.
func alsoIPv6(address string, l net.Listener) (net.Listener, error) {
	if host, _, err := net.SplitHostPort(address); err != nil || host != "localhost" {
		return l, nil
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	other, err := net.Listen("tcp", net.JoinHostPort("::1", port))
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return l, nil
	case err != nil:
		return l, err
	}
	return newTwoListeners(l, other), nil
}

// twoListeners accepts from two as if they were one. Its address is the first's.
type twoListeners struct {
	net.Listener
	other    net.Listener
	accepted chan acceptance
	closed   chan struct{}
	once     sync.Once
}

type acceptance struct {
	conn net.Conn
	err  error
}

func newTwoListeners(first, other net.Listener) *twoListeners {
	t := &twoListeners{Listener: first, other: other, accepted: make(chan acceptance), closed: make(chan struct{})}
	go t.accept(first)
	go t.accept(other)
	return t
}

func (t *twoListeners) accept(from net.Listener) {
	for {
		conn, err := from.Accept()
		select {
		case t.accepted <- acceptance{conn, err}:
		case <-t.closed:
			if err == nil {
				conn.Close()
			}
			return
		}
	}
}

// Accept returns the next connection of either.
func (t *twoListeners) Accept() (net.Conn, error) {
	select {
	case a := <-t.accepted:
		return a.conn, a.err
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// Close closes both.
func (t *twoListeners) Close() error {
	err := net.ErrClosed // as any listener says when closed twice
	t.once.Do(func() {
		close(t.closed)
		err = errors.Join(t.Listener.Close(), t.other.Close())
	})
	return err
}
