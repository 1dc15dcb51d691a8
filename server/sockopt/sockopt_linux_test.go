package sockopt_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"rowcast/server/sockopt"
)

func TestSetUserTimeout(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := sockopt.SetUserTimeout(raw, 7*time.Second); err != nil {
		t.Fatal(err)
	}
	var ms int
	if err := raw.Control(func(fd uintptr) { ms, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 0x12) }); err != nil || ms != 7000 {
		t.Errorf("the kernel waits %d ms (%v)", ms, err)
	}
}
