//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// setUserTimeout does nothing where the option does not exist: the contexts of what we ask are the bound there.
func setUserTimeout(syscall.RawConn, time.Duration) error { return nil }
