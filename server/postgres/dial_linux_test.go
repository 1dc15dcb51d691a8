package postgres

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// A database that is gone without a word is found out within seconds, whether something is under way or not.
func TestDeadConnectionsAreFoundOut(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := dialer().DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	err = raw.Control(func(fd uintptr) {
		for _, option := range []int{syscall.TCP_KEEPIDLE, syscall.TCP_KEEPINTVL, syscall.TCP_KEEPCNT, 0x12} { // the last is TCP_USER_TIMEOUT
			got[option], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	second := time.Second
	if after := second * time.Duration(got[syscall.TCP_KEEPIDLE]+got[syscall.TCP_KEEPINTVL]*got[syscall.TCP_KEEPCNT]); after != 11*second {
		t.Errorf("a connection on which nothing is under way is found out after %v", after)
	}
	if ms := got[0x12]; ms != 10_000 {
		t.Errorf("one on which something is, after %d ms", ms)
	}
}
