//go:build !linux

// Package sockopt sets what package net does not.
package sockopt

import (
	"syscall"
	"time"
)

// SetUserTimeout does nothing where the option does not exist: there, timeouts of our own find dead peers.
func SetUserTimeout(syscall.RawConn, time.Duration) error { return nil }
