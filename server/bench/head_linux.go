package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// printHead says what was measured on.
func (b *bench) printHead(out io.Writer, cores int) error {
	conn, err := pgx.Connect(b.ctx, b.database.admin)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(b.ctx)
	var uname unix.Utsname
	_ = unix.Uname(&uname) // what it does not say stays empty
	fmt.Fprintf(out, "Rowcast on %d cores (%s), Linux %s, %s, Postgres %s with fsync off\n",
		cores, processor(), unix.ByteSliceToString(uname.Release[:]), runtime.Version(), conn.PgConn().ParameterStatus("server_version"))
	fmt.Fprintln(out, "Loopback only, no TLS. Server on core 0, load on core 1, where nothing else is said. Only ratios can be compared with other machines.")
	return nil
}

// processor is the name of the first.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	_, rest, _ := strings.Cut(string(text), "model name")
	name, _, _ := strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
	if name == "" {
		return runtime.GOARCH
	}
	return name
}

func (b *bench) close() {
	if b.database != nil {
		if err := b.database.stop(); err != nil {
			b.say("%v", err)
		}
	}
}
