// Package pgtest gives tests and `rowcast dev` a real Postgres: it finds one or starts one of its own that leaves nothing
// behind. It is not for production, and it knows nothing of what is tested: it applies the migrations, no more.
package pgtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed owner.sh
var ownerScript string

const (
	// superuser is who owns a cluster of ours.
	superuser = "postgres"

	// startTimeout is generous: one second is usual, a busy machine takes ten.
	startTimeout = 90 * time.Second
	// stopTimeout bounds a stop before the whole process group is killed; Postgres itself gives its children 5 s.
	stopTimeout = 15 * time.Second
	// pollEvery is how often a starting server is asked whether it answers.
	pollEvery = 20 * time.Millisecond
	// logTail is how much of a log an error quotes.
	logTail = 2000
)

// Options says how to start a cluster. The zero value starts the first Postgres found, reachable through a unix socket only.
type Options struct {
	Binaries string            // directory with initdb and postgres; default PGTEST_BIN, else searched
	Image    string            // Docker image; default PGTEST_IMAGE
	Settings map[string]string // added to the usual settings, or replacing them
	Listen   bool              // also listen on a free port of 127.0.0.1, with a password; URL then gives that address
	Copy     *Cluster          // begin with what this one holds, which must be halted meanwhile
	Follow   *Cluster          // the same, and become its standby
	Memory   bool              // the data may be in memory: for tests, which neither last nor write much
	Disk     int64             // bytes of a disk of its own for the data, which can be filled; see CanHaveDisk
	Progress io.Writer         // told about what takes long, as a download; default: nobody
}

// Cluster is a running Postgres that ends with Stop or with this process, whichever comes first.
type Cluster struct {
	Source string // where the binaries come from, for people
	Major  int    // 14 to 18

	server
	bin       string // of its programs; "" in Docker
	dir       string // holds the socket, the data and the log; "" in Docker
	container string // its name in Docker
	psql      string // how to call psql

	owner  *exec.Cmd
	hold   *os.File // the owner's standard input: closing it ends the cluster
	status *os.File // ends when the server is gone
	log    *os.File
	stop   sync.Once
	err    error // of the stop
}

// settings are those of a cluster that nobody will miss. synchronous_commit stays on: logical decoding shows only what was
// flushed, and with it off the WAL writer decides when that is. jit is off because the unpacked binaries come without LLVM;
// dynamic shared memory in files goes away with the directory even when the server is killed.
func settings(extra map[string]string) []string {
	all := map[string]string{
		"wal_level":                  "logical",
		"max_replication_slots":      "100",
		"max_wal_senders":            "100",
		"max_connections":            "300",
		"track_commit_timestamp":     "on",
		"fsync":                      "off",
		"full_page_writes":           "off",
		"synchronous_commit":         "on",
		"jit":                        "off",
		"dynamic_shared_memory_type": "mmap",
	}
	maps.Copy(all, extra)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	return args
}

// Start finds a Postgres and starts it.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	found, err := find(ctx, o)
	if err != nil {
		return nil, err
	}
	if found.image != "" {
		if err := pullDocker(ctx, found.image, o.Progress); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if found.image != "" {
		return startDocker(ctx, o, found)
	}
	return startLocal(ctx, o, found)
}

func startLocal(ctx context.Context, o Options, found source) (*Cluster, error) {
	user, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, lock, err := newDir(user, o.Memory)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the owner and the server hold it from here on

	c := &Cluster{Source: found.String(), Major: found.major, bin: found.bin, dir: dir}
	c.admin = url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + superuser,
		RawQuery: url.Values{"host": {dir}}.Encode()}
	args, hostAuth := append(settings(o.Settings), "-c", "listen_addresses="), "reject"
	var tcp string
	if o.Listen {
		if tcp, err = freeAddress(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		_, port, _ := net.SplitHostPort(tcp)
		args, hostAuth = append(settings(o.Settings), "-c", "listen_addresses=127.0.0.1", "-c", "port="+port), "scram-sha-256"
		c.admin.RawQuery = url.Values{"host": {dir}, "port": {port}}.Encode()
	}
	copied, mark := "", ""
	if o.Copy != nil {
		copied = filepath.Join(o.Copy.dir, "data")
	}
	if o.Follow != nil {
		copied, mark = filepath.Join(o.Follow.dir, "data"), "standby.signal"
		args = append(args, "-c", "primary_conninfo=host="+o.Follow.dir+" user="+superuser, "-c", "wal_retrieve_retry_interval=100ms")
	}
	if err := c.launch(found, user, o.Disk, lock, append([]string{found.bin, dir, hostAuth, copied, mark}, args...)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.await(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w\n%s", c.Source, err, tail(c.log)), c.Stop())
	}
	c.psql = psqlCommand(found)
	if tcp != "" {
		if err := c.setPassword(ctx, tcp); err != nil {
			return nil, errors.Join(err, c.Stop())
		}
	}
	return c, nil
}

// launch starts the shell that owns the server. It gets a process group of its own, because a Ctrl-C meant for us would
// otherwise reach Postgres as a fast shutdown, and an environment without our PG* variables.
func (c *Cluster) launch(found source, user *syscall.Credential, disk int64, lock *os.File, args []string) error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open cluster log: %w", err)
	}
	c.log = log
	ownerIn, hold, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open pipe to the owner: %w", errors.Join(err, log.Close()))
	}
	defer ownerIn.Close()
	status, ownerOut, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("open status pipe: %w", err), hold.Close(), log.Close())
	}
	defer ownerOut.Close()

	command := append([]string{"/bin/sh", "-c", ownerScript, "pgtest"}, args...)
	if disk > 0 {
		command, user = append(onDisk(c.dir, disk, user), command...), nil // root has to mount it
	}
	c.owner = exec.Command(command[0], command[1:]...)
	c.owner.Dir = c.dir
	c.owner.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}, found.env...)
	c.owner.Stdin, c.owner.Stdout, c.owner.Stderr = ownerIn, ownerOut, log
	c.owner.ExtraFiles = []*os.File{lock}
	c.owner.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: user}
	if err := c.owner.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the owner of %s: %w", found.bin, err), hold.Close(), status.Close(), log.Close())
	}
	c.hold, c.status = hold, status
	return nil
}

// await returns once the server answers a query, or says why it never will.
func (c *Cluster) await(ctx context.Context) error {
	for {
		err := c.ping(ctx)
		if err == nil {
			return nil
		}
		// The read is both the pause and the news that the server is gone.
		if err := c.status.SetReadDeadline(time.Now().Add(pollEvery)); err != nil {
			return fmt.Errorf("watch the server: %w", err)
		}
		if _, gone := c.status.Read(make([]byte, 1)); gone != nil && !errors.Is(gone, os.ErrDeadlineExceeded) {
			return errors.New("the server ended")
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the server: %w (%w)", ctx.Err(), err)
		}
	}
}

// ping runs a query as the superuser.
func (c *Cluster) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.admin.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// setPassword lets TCP clients in and makes their address the cluster's.
func (c *Cluster) setPassword(ctx context.Context, address string) error {
	password := randomName(16)
	if err := c.exec(ctx, fmt.Sprintf("alter role %s password '%s'", superuser, password)); err != nil {
		return err
	}
	c.admin = url.URL{Scheme: "postgres", User: url.UserPassword(superuser, password), Host: address, Path: "/" + superuser,
		RawQuery: "sslmode=disable"}
	c.password = password
	return nil
}

// URL is the address of a database for a user. Any login role may connect; see CreateRoles.
func (c *Cluster) URL(database, user string) string { return c.url(database, user) }

// Psql is a command line that opens a database, to be pasted into a shell.
func (c *Cluster) Psql(database, user string) string {
	return c.psql + " '" + c.url(database, user) + "'"
}

// Stop ends the server at once and removes what it wrote. Further calls return the same.
func (c *Cluster) Stop() error {
	c.stop.Do(func() { c.err = c.end() })
	return c.err
}

func (c *Cluster) end() error {
	err := c.hold.Close()
	ended := make(chan error, 1)
	go func() { ended <- c.owner.Wait() }()
	select {
	case <-ended: // its exit status says nothing more than the log did
	case <-time.After(stopTimeout):
		_ = syscall.Kill(-c.owner.Process.Pid, syscall.SIGKILL)
		<-ended
		err = errors.Join(err, fmt.Errorf("stop %s: killed after %s", c.Source, stopTimeout))
		err = errors.Join(err, c.clear())
	}
	if c.dir != "" { // the owner cannot remove the place of a disk
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return errors.Join(err, c.status.Close(), c.log.Close())
}

// clear removes what an owner that had to be killed did not.
func (c *Cluster) clear() error {
	if c.container == "" {
		return os.RemoveAll(c.dir)
	}
	_, err := ask(context.Background(), nil, "docker", "rm", "-f", "-v", c.container)
	return err
}

// freeAddress picks a port that is free now. Should somebody take it in between, the start fails and says so.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func psqlCommand(found source) string {
	path := filepath.Join(found.bin, "psql")
	if _, err := os.Stat(path); err != nil {
		return "psql"
	}
	if _, err := exec.LookPath("psql"); err == nil && len(found.env) == 0 {
		return "psql"
	}
	return strings.Join(append(slices.Clone(found.env), path), " ")
}

func tail(log *os.File) string {
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	text, err := io.ReadAll(io.NewSectionReader(log, max(0, size-logTail), logTail))
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return strings.TrimSpace(string(text))
}
