package main

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"

	"rowcast/sql"
)

func TestDevBindsLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ env, flag string }{
		{"ADDR=:4000", "ADDR"}, {"ADDR=0.0.0.0:0", "ADDR"}, {"ADDR=[::]:0", "ADDR"}, {"ADDR=192.0.2.1:0", "ADDR"}, {"ADDR=example.com:80", "ADDR"},
		{"ADDR=localhost.example.com:80", "ADDR"}, {"ADMIN_ADDR=:0", "ADMIN_ADDR"}, {"ADMIN_ADDR=0.0.0.0:0", "ADMIN_ADDR"},
	} {
		got := runProgram(t, []string{tt.env}, "dev")
		if got.code != exitUsage || got.out != "" || !strings.HasPrefix(got.errout, "rowcast dev: "+tt.flag+" ") || !strings.Contains(got.errout, "loopback") {
			t.Errorf("%s: %+v", tt.env, got)
		}
	}
	for _, address := range []string{"localhost:4000", "127.0.0.1:0", "127.8.9.10:1", "[::1]:4000"} {
		if !isLoopback(address) {
			t.Errorf("%s is refused", address)
		}
	}
}

// TestDevAddressInUse finds it out before anything is started.
func TestDevAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, env := range [][]string{
		{"ADDR=localhost:" + port, "ADMIN_ADDR=127.0.0.1:0"},
		{"ADDR=127.0.0.1:0", "ADMIN_ADDR=localhost:" + port},
	} {
		got := runProgram(t, env, "dev")
		if got.code != exitFinding || got.out != "" || !strings.Contains(got.errout, "address already in use: stop what runs there, or choose others") {
			t.Errorf("%q: %+v", env, got)
		}
	}
}

// TestReadmeShowsWhatDevPrints, so that a newcomer can compare.
func TestReadmeShowsWhatDevPrints(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := (devPage{secret: "s", url: "http://localhost:4000", program: "bin/rowcast", people: []person{{bobID, "bob"}}}).print(&page); err != nil {
		t.Fatal(err)
	}
	listen := "bin/rowcast listen http://localhost:4000 --topic room:1 --private --token "
	for _, shown := range []string{sql.ChatTry, listen} {
		if !strings.Contains(string(readme), shown) || !strings.Contains(page.String(), shown) {
			t.Errorf("not in both README.md and what dev prints: %s", shown)
		}
	}
}
