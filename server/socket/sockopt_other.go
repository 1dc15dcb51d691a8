//go:build !linux

package socket

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the option does not exist: IdleTimeout finds dead peers there.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
