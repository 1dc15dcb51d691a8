package postgres

import (
	"net"
	"syscall"
	"time"

	"rowcast/server/sockopt"
)

// A dead peer is found out from both sides of silence: when nothing is under way by keepalives, after keepIdle and
// keepCount unanswered ones, else by data that nobody acknowledges.
const (
	keepIdle, keepEvery = 5 * time.Second, 2 * time.Second
	keepCount           = 3
	unacknowledged      = 10 * time.Second
)

func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepEvery, Count: keepCount},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if network == "unix" {
				return nil
			}
			return sockopt.SetUserTimeout(raw, unacknowledged)
		},
	}
}
