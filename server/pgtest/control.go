package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// What can happen to a server. A cluster in Docker cannot be treated so.

// Socket is the server's unix socket.
func (c *Cluster) Socket() string { return filepath.Join(c.dir, ".s.PGSQL.5432") }

// Log gives what the server has logged.
func (c *Cluster) Log() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.dir, "log"))
	return string(text), err
}

// Kill ends the server as no program would wish to end, and returns when its last backend has noticed.
func (c *Cluster) Kill(ctx context.Context) error {
	backends, err := c.backends(ctx)
	if err != nil {
		return err
	}
	return c.signal(ctx, syscall.SIGKILL, backends)
}

// Halt stops the server in order, without waiting for its clients.
func (c *Cluster) Halt(ctx context.Context) error { return c.signal(ctx, syscall.SIGINT, nil) }

// Resume starts a server again that was killed or halted, with the settings that it had.
func (c *Cluster) Resume(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := io.WriteString(c.hold, "start\n"); err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	return poll(ctx, "the server to start again", func() error { return c.ping(ctx) })
}

// Promote makes a standby the primary.
func (c *Cluster) Promote(ctx context.Context) error { return c.exec(ctx, "select pg_promote()") }

// signal sends a signal that ends the server, and waits until it and these processes of its are gone.
func (c *Cluster) signal(ctx context.Context, sig syscall.Signal, children []int) error {
	if c.dir == "" {
		return errors.New("signal the server: it runs in Docker")
	}
	text, err := os.ReadFile(filepath.Join(c.dir, "data", "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("find the server: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("find the server: %w", err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("signal the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, pid := range append(children, pid) {
		if err := poll(ctx, "the server to end", func() error { return gone(pid) }); err != nil {
			return err
		}
	}
	return nil
}

// backends are all processes of the server that have its shared memory.
func (c *Cluster) backends(ctx context.Context) ([]int, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select pid from pg_stat_activity")
	if err != nil {
		return nil, fmt.Errorf("list backends: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// gone tells whether a process has ended, be it that nobody has asked for its exit status yet.
func gone(pid int) error {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil {
		if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "Z") {
			return nil
		}
	}
	return fmt.Errorf("process %d runs", pid)
}

// poll asks until there is no error.
func poll(ctx context.Context, what string, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (%w)", what, ctx.Err(), err)
		case <-time.After(pollEvery):
		}
	}
}
