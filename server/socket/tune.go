package socket

import (
	"crypto/tls"
	"net"

	"rowcast/server/sockopt"
)

// tune bounds what the kernel does for a socket: how much it holds for a client, and how long it believes in one that
// acknowledges nothing (half of IdleTimeout: what we sent is the better evidence).
func (s *Server) tune(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if err := tcp.SetWriteBuffer(s.opt.SendBuffer); err != nil {
		s.opt.Logger.Debug("set send buffer", "error", err)
	}
	if s.opt.IdleTimeout < 0 {
		return
	}
	// Small frames fit into the send buffer, so that without this no write would ever tell that their receiver is dead.
	raw, err := tcp.SyscallConn()
	if err == nil {
		err = sockopt.SetUserTimeout(raw, s.opt.IdleTimeout/2)
	}
	if err != nil {
		s.opt.Logger.Debug("set user timeout", "error", err)
	}
}
