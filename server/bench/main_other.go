//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: needs Linux, for epoll and for pinning processes to cores")
	os.Exit(1)
}
