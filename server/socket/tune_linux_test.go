package socket

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// What the kernel keeps for a client is bounded, and so is the time for which it waits for one that is dead.
func TestKernelIsToldItsBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SendBuffer: 100_000, IdleTimeout: 40 * time.Second})
	dial(t, r.listen(t))
	s := <-r.sessions
	raw, err := s.conn.tap.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var buffer, timeout int
	err = raw.Control(func(fd uintptr) {
		buffer, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		timeout, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 0x12) // TCP_USER_TIMEOUT
	})
	if err != nil || buffer != 2*100_000 || timeout != 20_000 { // Linux doubles the buffer, for its own bookkeeping
		t.Errorf("SO_SNDBUF %d, TCP_USER_TIMEOUT %d ms (%v)", buffer, timeout, err)
	}
}
