package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asOwner makes the test binary start a cluster, tell its directory and wait to be killed.
const asOwner = "PGTEST_TEST_AS_OWNER"

// patience bounds waits for something that is certain to come.
const patience = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asOwner) != "" {
		own()
	}
	goleak.VerifyTestMain(m)
}

func own() {
	c, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.dir)
	select {}
}

// start gives a test a cluster of its own.
func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), o)
	var none *NotFoundError
	if errors.As(err, &none) && os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip(err) // there is a server, but none of our own
	}
	if err != nil {
		giveUp(t, err)
	}
	if c.dir == "" {
		_ = c.Stop()
		t.Skip("the cluster runs in Docker; this test looks at local files and processes")
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return c
}

// trace is what a cluster must not leave behind.
type trace struct {
	dir  string
	pid  int      // of the server
	lock *os.File // held by the owner and the server as long as one of them lives
}

func tracesOf(t *testing.T, dir string) trace {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatalf("read pid of the server: %v", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatalf("read pid of the server: %v", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("open the lock: %v", err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		t.Fatal("the lock of a running cluster is free")
	}
	return trace{dir: dir, pid: pid, lock: lock}
}

// awaitNothing waits until owner and server are gone, and fails if anything of them remains.
func (tr trace) awaitNothing(t *testing.T) {
	t.Helper()
	free := func() { _ = syscall.Flock(int(tr.lock.Fd()), syscall.LOCK_EX) }
	if !waitOrGiveUp(free, patience) {
		t.Fatal("owner or server still hold the lock")
	}
	if _, err := os.Stat(tr.dir); !os.IsNotExist(err) {
		t.Errorf("directory %s remains (%v)", tr.dir, err)
	}
	if err := syscall.Kill(tr.pid, 0); err != syscall.ESRCH {
		t.Errorf("server %d remains (%v)", tr.pid, err)
	}
}
