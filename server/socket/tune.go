package socket

import (
	"crypto/tls"
	"net"
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
	if err := setUserTimeout(tcp, s.opt.IdleTimeout/2); err != nil {
		s.opt.Logger.Debug("set user timeout", "error", err)
	}
}
